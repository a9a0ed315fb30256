// Package inprocess runs the relay within a test, where the race detector and goleak see it, and the test its loop.
package inprocess

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"readthrough/internal/loop"
	"readthrough/resp"
	"readthrough/upstream"
)

// stopTime bounds how long the loop may take to stop.
const stopTime = 20 * time.Second

// Relay is one loop that serves clients at Addr.
type Relay struct {
	Addr     string
	Loop     *loop.Loop
	Upstream *upstream.Upstream
	Server   *resp.Server
}

// Start starts a relay, which is stopped when the test ends. It may not know Redis yet. resolver may be nil. change, where there is
// some, may change what is served.
func Start(t testing.TB, opts upstream.Options, resolver resp.Resolver, change ...func(*resp.Options)) *Relay {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	}
	l, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Loop: l}
	if r.Upstream, err = upstream.New(opts, []*loop.Loop{l}); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.Addr = listener.Addr().String()
	served := resp.Options{
		Listeners: []net.Listener{listener}, Loops: []*loop.Loop{l}, Upstreams: []resp.Upstream{r.Upstream.Side(0)},
		Resolver: resolver, Intercept: []string{"GET", "MGET", "GETEX"}, FailOpen: true, Logger: opts.Logger,
	}
	for _, c := range change {
		c(&served)
	}
	r.Server = resp.New(served)
	r.Upstream.Start()
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.Server.Close(ctx) // clients that a test has left are closed by the loop
		l.Stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(stopTime):
			t.Errorf("the loop has not stopped after %v", stopTime)
		}
		r.Upstream.Close()
	})
	return r
}

// Stats are the upstream's figures.
func (r *Relay) Stats(t testing.TB) upstream.Stats {
	t.Helper()
	return onLoop(t, r, r.Upstream.Side(0).Stats)
}

// LoopStats are the loop's figures.
func (r *Relay) LoopStats(t testing.TB) loop.Stats {
	t.Helper()
	return onLoop(t, r, r.Loop.Stats)
}

// onLoop is what f returns on the loop.
func onLoop[T any](t testing.TB, r *Relay, f func() T) T {
	t.Helper()
	got := make(chan T, 1)
	if !r.Loop.Post(func() { got <- f() }) {
		t.Fatal("the loop has stopped")
	}
	return <-got
}

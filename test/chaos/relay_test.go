package chaos

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"readthrough/internal/loop"
	"readthrough/resp"
	"readthrough/test/harness"
	"readthrough/upstream"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

// relay is the relay within the test: one loop, no origin.
type relay struct {
	addr string
	loop *loop.Loop
	up   *upstream.Upstream
	resp *resp.Server
}

// newRelay starts a relay and waits until it knows Redis.
func newRelay(t testing.TB, opts upstream.Options) *relay {
	t.Helper()
	r := startRelay(t, opts)
	r.await(t)
	return r
}

// startRelay starts a relay, which is stopped when the test ends. What it leaves behind, TestMain finds.
func startRelay(t testing.TB, opts upstream.Options) *relay {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	}
	l, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{loop: l}
	if r.up, err = upstream.New(opts, []*loop.Loop{l}); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = listener.Addr().String()
	r.resp = resp.New(resp.Options{
		Listeners: []net.Listener{listener}, Loops: []*loop.Loop{l}, Upstreams: []resp.Upstream{r.up.Side(0)}, Logger: opts.Logger,
	})
	r.up.Start()
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.resp.Close(ctx) // clients that a test has left are closed by the loop
		l.Stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the loop does not stop")
		}
		r.up.Close()
	})
	return r
}

// await waits until the relay knows Redis.
func (r *relay) await(t testing.TB) {
	t.Helper()
	poll(t, func() error {
		c, err := harness.Dial(t.Context(), r.addr, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.Do("GET", "awaited")
		if err == nil {
			_, err = decode(raw)
		}
		return err
	})
}

// stats are the upstream's figures.
func (r *relay) stats() upstream.Stats {
	got := make(chan upstream.Stats, 1)
	if !r.loop.Post(func() { got <- r.up.Side(0).Stats() }) {
		return upstream.Stats{}
	}
	return <-got
}

// loopStats are the loop's figures.
func (r *relay) loopStats() loop.Stats {
	got := make(chan loop.Stats, 1)
	if !r.loop.Post(func() { got <- r.loop.Stats() }) {
		return loop.Stats{}
	}
	return <-got
}

// poll waits until ready is nil.
func poll(t testing.TB, ready func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := harness.Poll(ctx, ready); err != nil {
		t.Fatal(err)
	}
}

// decode reads a reply; an error reply is an error.
func decode(raw []byte) (harness.Value, error) {
	v, err := harness.Decode(raw)
	if err == nil {
		err = v.Err()
	}
	return v, err
}

// expect reads the next replies and compares them with what they must be.
func expect(t testing.TB, c *harness.Conn, want ...string) {
	t.Helper()
	for i, w := range want {
		got, err := c.ReadReply()
		if err != nil {
			t.Fatalf("reply %d: %v, want %q", i, err, w)
		}
		if string(got) != w {
			t.Fatalf("reply %d: %.200q, want %.200q", i, got, w)
		}
	}
}

// pipeline is several commands in a row.
func pipeline(commands ...[]string) []byte {
	var b []byte
	for _, c := range commands {
		b = append(b, harness.Command(c...)...)
	}
	return b
}

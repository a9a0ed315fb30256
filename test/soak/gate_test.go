package soak

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gate stands before a server, and cuts connections or holds up what passes.
type gate struct {
	addr   string
	target string
	delay  atomic.Int64 // in nanoseconds, of each chunk
	wg     sync.WaitGroup
	ctx    context.Context // ends with the test

	mu   sync.Mutex
	open map[net.Conn]struct{} // of both sides
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	g := &gate{addr: l.Addr().String(), target: target, ctx: ctx, open: map[net.Conn]struct{}{}}
	g.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.wg.Go(func() { g.serve(c) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		g.cut(nil)
		g.wg.Wait()
	})
	return g
}

// cut closes a third of the connections by a random source, or all if that is nil.
func (g *gate) cut(rng *rand.Rand) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.open {
		if rng == nil || rng.IntN(3) == 0 {
			_ = c.Close()
		}
	}
}

func (g *gate) track(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[c] = struct{}{}
	if g.ctx.Err() != nil {
		_ = c.Close()
	}
}

func (g *gate) untrack(c net.Conn) {
	_ = c.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, c)
}

func (g *gate) serve(client net.Conn) {
	defer g.untrack(client)
	g.track(client)
	server, err := new(net.Dialer).DialContext(g.ctx, "tcp", g.target)
	if err != nil {
		return
	}
	defer g.untrack(server)
	g.track(server)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, held{server, g})
		_ = client.Close()
	})
	_, _ = io.Copy(server, held{client, g})
	_ = server.Close()
	back.Wait()
}

// held holds up what is read by the delay of its gate.
type held struct {
	io.Reader
	gate *gate
}

func (h held) Read(b []byte) (int, error) {
	n, err := h.Reader.Read(b)
	if d := time.Duration(h.gate.delay.Load()); d > 0 {
		rest(h.gate.ctx, d)
	}
	return n, err
}

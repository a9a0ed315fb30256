package checker

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// manner is how one direction of a connection is delayed.
type manner struct {
	chance float64       // that a chunk is held
	upTo   time.Duration // how long at most; mostly shorter
	split  float64       // the chance that a chunk of several commands is cut between two of them, and the rest held
	void   bool          // cut only behind voids, before the writes that they lead
}

// hold draws how long a chunk is held.
func (m manner) hold(rng *rand.Rand, temper float64) time.Duration {
	if rng.Float64() >= m.chance {
		return 0
	}
	u := rng.Float64()
	return time.Duration(float64(m.upTo) * u * u * temper)
}

// cut draws how much of a chunk goes first.
func (m manner) cut(chunk []byte, rng *rand.Rand) int {
	if rng.Float64() >= m.split {
		return len(chunk)
	}
	border := []byte("\r\n*")
	if m.void {
		at := bytes.Index(chunk, []byte("UNLINK\r\n"))
		if at < 0 {
			return len(chunk)
		}
		if n := bytes.Index(chunk[at:], border); n >= 0 {
			return at + n + len("\r\n")
		}
		return len(chunk)
	}
	n := bytes.Count(chunk, border)
	if n == 0 {
		return len(chunk)
	}
	at := 0
	for range 1 + rng.IntN(n) {
		at += bytes.Index(chunk[at:], border) + len("\r\n")
	}
	return at
}

// proxy stands before a server, and delays what passes. Each connection has delays of its own, which change now and then.
type proxy struct {
	addr   string
	target string
	manner func(first []byte) (requests, replies manner) // of a connection, by the first bytes of its client

	listener net.Listener
	ctx      context.Context // ends with the test
	held     atomic.Int64    // chunks on their way
	served   atomic.Uint64   // connections so far
	wg       sync.WaitGroup

	mu   sync.Mutex
	seed uint64
	open map[net.Conn]struct{} // of both sides
}

// newProxy starts a proxy. The seed is set for each round; connections that were opened before keep theirs.
func newProxy(t *testing.T, target string, manner func(first []byte) (requests, replies manner)) *proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{addr: l.Addr().String(), target: target, manner: manner, listener: l, ctx: ctx, open: map[net.Conn]struct{}{}}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		p.cut(nil)
		p.wg.Wait()
	})
	return p
}

// cut closes connections: some of them, by a random source, or all if that is nil.
func (p *proxy) cut(rng *rand.Rand) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		if rng == nil || rng.IntN(3) == 0 {
			_ = c.Close()
		}
	}
}

func (p *proxy) reseed(seed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seed = seed
}

// track has a connection closed by cut.
func (p *proxy) track(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = struct{}{}
	if p.ctx.Err() != nil {
		_ = c.Close()
	}
}

func (p *proxy) untrack(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *proxy) serve(client *net.TCPConn) {
	defer p.untrack(client)
	p.track(client)
	first := make([]byte, 4<<10)
	n, err := client.Read(first)
	if err != nil {
		return
	}
	dialled, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	server := dialled.(*net.TCPConn)
	defer p.untrack(server)
	p.track(server)

	p.mu.Lock()
	seed := p.seed
	p.mu.Unlock()
	number := p.served.Add(1)
	requests, replies := p.manner(first[:n])
	var back sync.WaitGroup
	back.Go(func() {
		p.pump(client, server, nil, replies, rand.New(rand.NewPCG(seed, 2*number)))
		_, _ = server.Close(), client.Close() // one of them is gone
	})
	p.pump(server, client, first[:n], requests, rand.New(rand.NewPCG(seed, 2*number+1)))
	// What the client has sent before it left has been passed on, as a network does; the server answers that and ends.
	_ = server.CloseWrite()
	back.Wait()
}

// pump passes on what comes until one side ends, pending first. One chunk at a time is held; what comes after it waits.
func (p *proxy) pump(to, from *net.TCPConn, pending []byte, m manner, rng *rand.Rand) {
	buffer := make([]byte, 32<<10)
	temper := 1.0
	for {
		if rng.IntN(50) == 0 {
			temper = []float64{0, 0.3, 1, 1, 3}[rng.IntN(5)]
		}
		if len(pending) > 0 {
			p.held.Add(1)
			err := p.pass(to, pending, m, rng, temper)
			p.held.Add(-1)
			if err != nil {
				return
			}
		}
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		pending = buffer[:n]
	}
}

func (p *proxy) pass(to *net.TCPConn, chunk []byte, m manner, rng *rand.Rand, temper float64) error {
	held := m.hold(rng, temper)
	for len(chunk) > 0 {
		if held > 0 {
			rest(p.ctx, held)
		}
		n := m.cut(chunk, rng)
		if _, err := to.Write(chunk[:n]); err != nil {
			return err
		}
		chunk = chunk[n:]
		u := rng.Float64()
		held = time.Duration(float64(m.upTo) * u * u * max(temper, 0.3)) // between two commands of one chunk
	}
	return p.ctx.Err()
}

// quiet says whether nothing is on its way.
func (p *proxy) quiet() error {
	if n := p.held.Load(); n > 0 {
		return errors.New("the proxies hold something")
	}
	return nil
}

// typed tells whether a connection to Redis is one of those over which the sidecar speaks for itself, by its first bytes: the clients'
// are of RESP2 and begin with something else.
func typed(first []byte) bool {
	return bytes.HasPrefix(first, []byte("*")) && bytes.Contains(first[:min(len(first), 32)], []byte("HELLO"))
}

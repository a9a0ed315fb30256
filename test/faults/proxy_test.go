package faults

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fault is what a proxy does with connections.
type fault int32

const (
	pass   fault = iota
	reset        // accepts and resets them
	silent       // accepts them, and says nothing
	stall        // what the server says is held back, of those that are open too
)

// proxy stands before PostgreSQL, counts who connects, and fails as it is told.
type proxy struct {
	addr   string
	target string
	fault  atomic.Int32
	ctx    context.Context // ends with the test
	wg     sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while it refuses
	attempts []time.Time
	open     map[net.Conn]struct{}
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{addr: "127.0.0.1:0", target: target, ctx: ctx, open: map[net.Conn]struct{}{}}
	p.listen(t)
	t.Cleanup(func() {
		cancel()
		p.refuse()
		p.wg.Wait()
	})
	return p
}

// listen accepts connections, at first or after refuse.
func (p *proxy) listen(t testing.TB) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", p.addr)
	must(t, err)
	p.addr = l.Addr().String()
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.attempts = append(p.attempts, time.Now())
			p.mu.Unlock()
			p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
		}
	})
}

// set changes the fault; connections that are open stay.
func (p *proxy) set(f fault) { p.fault.Store(int32(f)) }

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// refuse has the port refuse connections, and cuts those that are open.
func (p *proxy) refuse() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.cut()
}

// since returns when connections were attempted from a time on.
func (p *proxy) since(from time.Time) []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []time.Time
	for _, at := range p.attempts {
		if !at.Before(from) {
			found = append(found, at)
		}
	}
	return found
}

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
	switch fault(p.fault.Load()) {
	case reset:
		_ = client.SetLinger(0)
		return
	case silent:
		_, _ = io.Copy(io.Discard, client)
		return
	}
	dialled, err := new(net.Dialer).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		return
	}
	server := dialled.(*net.TCPConn)
	defer p.untrack(server)
	p.track(server)
	var back sync.WaitGroup
	back.Go(func() {
		p.replies(client, server)
		_, _ = client.Close(), server.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.CloseWrite()
	back.Wait()
}

// replies passes on what the server says, unless it stalls.
func (p *proxy) replies(client, server *net.TCPConn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if fault(p.fault.Load()) == stall {
			continue // it is lost
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

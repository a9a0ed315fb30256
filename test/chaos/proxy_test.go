package chaos

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// proxy stands before a real Redis and bends the connections that the relay's clients share; those that the sidecar opens for
// its typed work, which begin with HELLO, pass.
type proxy struct {
	addr   string
	target string

	mu       sync.Mutex
	listener net.Listener // nil while refusing
	script   func(c *bent)
	open     map[net.Conn]struct{}
	ended    bool

	done chan struct{} // closed when the test ends
	wg   sync.WaitGroup
}

// bent is a shared connection in the hands of a script. To leave it alone is to hang.
type bent struct {
	client *net.TCPConn // the relay
	in     *bufio.Reader
	server *net.TCPConn
	done   <-chan struct{} // closed when the test ends
}

// newProxy starts a proxy that passes everything on until bend.
func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{target: target, open: map[net.Conn]struct{}{}, done: make(chan struct{})}
	p.addr = "127.0.0.1:0"
	p.accept(t)
	t.Cleanup(func() {
		close(p.done)
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		p.refuse()
		p.wg.Wait()
	})
	return p
}

// accept listens, at first or again after refuse.
func (p *proxy) accept(t testing.TB) {
	t.Helper()
	small := net.ListenConfig{Control: smallBuffer} // so that a script that does not read pushes back soon
	l, err := small.Listen(t.Context(), "tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
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
			p.wg.Go(func() { p.handle(c.(*net.TCPConn)) })
		}
	})
}

// smallBuffer has a socket take little that is not read.
func smallBuffer(_, _ string, c syscall.RawConn) error {
	var refused error
	err := c.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10)
	})
	return errors.Join(err, refused)
}

// bend has a script handle each shared connection that is opened from now on, and cuts those that are open. Nil passes on.
func (p *proxy) bend(script func(c *bent)) {
	p.mu.Lock()
	p.script = script
	p.mu.Unlock()
	p.cut()
}

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

// track has a connection closed by cut. It is false after the test.
func (p *proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.open[c] = struct{}{}
	}
	return !p.ended
}

func (p *proxy) untrack(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *proxy) handle(client *net.TCPConn) {
	defer p.untrack(client)
	if !p.track(client) {
		return
	}
	in := bufio.NewReader(client)
	head, err := in.Peek(len("*1\r\n$5\r\nHELLO"))
	if err != nil {
		return
	}
	dialled, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer p.untrack(dialled)
	if !p.track(dialled) {
		return
	}
	b := &bent{client, in, dialled.(*net.TCPConn), p.done}
	p.mu.Lock()
	script := p.script
	p.mu.Unlock()
	if script == nil || bytes.HasSuffix(head, []byte("HELLO")) {
		script = (*bent).pass
	}
	script(b)
}

// pass passes everything on, both ways, until one side ends.
func (b *bent) pass() {
	var back sync.WaitGroup
	back.Go(func() { b.replies(-1) })
	_, _ = io.Copy(b.server, b.in)
	_ = b.server.Close()
	back.Wait()
}

// requests passes n bytes of requests on.
func (b *bent) requests(n int) { _, _ = io.CopyN(b.server, b.in, int64(n)) }

// replies passes n bytes of replies on, all of them when n is negative, and closes the connection.
func (b *bent) replies(n int) {
	if n < 0 {
		_, _ = io.Copy(b.client, b.server)
	} else {
		_, _ = io.CopyN(b.client, b.server, int64(n))
	}
	_ = b.client.Close()
}

// hang reads nothing and answers nothing until the test ends or the relay has given up.
func (b *bent) hang() {
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, b.in)
		close(gone)
	}()
	select {
	case <-b.done:
		_ = b.client.Close()
		<-gone
	case <-gone:
	}
}

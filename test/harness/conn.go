package harness

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Conn is a raw RESP connection, for tests that compare bytes. It is for one goroutine; a second one may Send while the
// first reads.
type Conn struct {
	net.Conn
	// Timeout bounds each Send and each ReadReply; 10 seconds unless set otherwise.
	Timeout time.Duration
	src     *bufio.Reader
}

// Dial connects to host:port, over TLS if a configuration is given. It sends nothing.
func Dial(ctx context.Context, addr string, config *tls.Config) (*Conn, error) {
	var c net.Conn
	var err error
	if config == nil {
		c, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
	} else {
		c, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, Timeout: 10 * time.Second, src: bufio.NewReader(c)}, nil
}

// NewConn is Dial without TLS for tests.
func NewConn(t testing.TB, addr string) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Send writes bytes as they are.
func (c *Conn) Send(b []byte) error {
	if err := c.SetWriteDeadline(time.Now().Add(c.Timeout)); err != nil {
		return err
	}
	_, err := c.Write(b)
	return err
}

// ReadReply reads the bytes of exactly one reply, RESP3 attributes before it included; a push counts as a reply. The error is
// io.EOF if the connection was closed between replies.
func (c *Conn) ReadReply() ([]byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.Timeout)); err != nil {
		return nil, err
	}
	r := replyReader{src: c.src}
	_, err := r.value()
	if err != nil && len(r.raw) > 0 {
		err = fmt.Errorf("after %q: %w", r.raw[:min(len(r.raw), 1000)], err)
	}
	return r.raw, err
}

// Pending tells, without waiting, whether a reply has begun to come or the connection was closed.
func (c *Conn) Pending() bool {
	if c.src.Buffered() > 0 {
		return true
	}
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false // over TLS nobody can tell
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	var peeked error
	if err := raw.Control(func(fd uintptr) {
		_, _, peeked = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}); err != nil {
		return true
	}
	return !errors.Is(peeked, syscall.EAGAIN)
}

// Do sends one command and returns the bytes of the next reply.
func (c *Conn) Do(args ...string) ([]byte, error) {
	if err := c.Send(Command(args...)); err != nil {
		return nil, err
	}
	return c.ReadReply()
}

// MustDo is Do for tests: a lost connection or a late reply fails the test; an error reply does not.
func (c *Conn) MustDo(t testing.TB, args ...string) string {
	t.Helper()
	raw, err := c.Do(args...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return string(raw)
}

// Command is a command as clients send it: an array of bulk strings.
func Command(args ...string) []byte {
	b := append(strconv.AppendInt([]byte{'*'}, int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(a)), 10), "\r\n"...)
		b = append(append(b, a...), "\r\n"...)
	}
	return b
}

// do sends a command and decodes its reply; an error reply is an error.
func (c *Conn) do(args ...string) (Value, error) {
	raw, err := c.Do(args...)
	if err != nil {
		return Value{}, fmt.Errorf("%q: %w", args, err)
	}
	v, err := Decode(raw)
	if err == nil {
		err = v.Err()
	}
	if err != nil {
		return v, fmt.Errorf("%q: %w", args, err)
	}
	return v, nil
}

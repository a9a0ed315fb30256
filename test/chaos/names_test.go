package chaos

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
	"readthrough/upstream"
)

// A name of Redis is resolved for every connection: when Redis comes back at another address, or after a time in which nobody knew the
// name, it is found there.
func TestANameThatMoves(t *testing.T) {
	names := newNames(t)
	first, second := harness.NewRedis(t, harness.RedisOptions{}), harness.NewRedis(t, harness.RedisOptions{})
	one, other, port := listenPair(t)
	serve(t, first.Addr(), one)
	serve(t, second.Addr(), other)
	names.set("127.0.0.1")
	r := newRelay(t, upstream.Options{Addresses: []string{"redis.test:" + port}})
	c := harness.NewConn(t, r.Addr)
	if got := c.MustDo(t, "SET", "k", "first"); got != "+OK\r\n" {
		t.Fatalf("reply %q", got)
	}
	first.Kill()
	names.set("") // as while the pods are being replaced
	if got := c.MustDo(t, "GET", "k"); !strings.HasPrefix(got, "-UPSTREAMDOWN Redis at redis.test:"+port) {
		t.Fatalf("reply %q", got)
	}
	names.set("127.0.0.2")
	began := time.Now()
	poll(t, func() error {
		_, err := decode([]byte(c.MustDo(t, "SET", "k", "second")))
		return err
	})
	t.Logf("found at its new address after %v", time.Since(began))
	if got := second.MustDo(t, "GET", "k").Str; got != "second" {
		t.Errorf("it has %q", got)
	}
	if since := time.Since(began); since > 2*time.Second {
		t.Errorf("it took %v", since)
	}
}

// listenPair listens on a port that is free at two addresses.
func listenPair(t *testing.T) (one, other net.Listener, port string) {
	t.Helper()
	var lc net.ListenConfig
	poll(t, func() (err error) {
		if one, err = lc.Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
			return err
		}
		if _, port, err = net.SplitHostPort(one.Addr().String()); err == nil {
			other, err = lc.Listen(t.Context(), "tcp", "127.0.0.2:"+port)
		}
		if err != nil {
			_ = one.Close()
		}
		return err
	})
	return one, other, port
}

// serve has a Redis answer at another address too.
func serve(t *testing.T, target string, l net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { join(ctx, client, target) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	})
}

// join passes bytes on between a client and a server until one of them leaves or ctx ends.
func join(ctx context.Context, client net.Conn, target string) {
	defer client.Close()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}

// names is a DNS server that this process asks.
type names struct{ addr atomic.Pointer[string] }

// set has every name lead to an IPv4 address, or to none.
func (n *names) set(addr string) { n.addr.Store(&addr) }

// newNames starts a server and has the process use it until the test ends. Tests that run beside this one dial addresses, not names.
func newNames(t *testing.T) *names {
	t.Helper()
	socket, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	must(t, err)
	n := &names{}
	n.set("")
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := make([]byte, 512); ; {
			size, from, err := socket.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = socket.WriteTo(answer(b[:size], *n.addr.Load()), from)
		}
	})
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", socket.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = before
		_ = socket.Close()
		wg.Wait()
	})
	return n
}

// answer is a DNS response: to a question for an A record the address, to another that there is none, and where there is no address
// that the name does not exist.
func answer(query []byte, addr string) []byte {
	const header, typeA = 12, 1
	end := header
	for end < len(query) && query[end] != 0 { // labels, each behind its length
		end += 1 + int(query[end])
	}
	end += 1 + 2 + 2 // the root, the type and the class
	if end > len(query) {
		panic(fmt.Sprintf("a question is cut short: %x", query))
	}
	b := append([]byte{}, query[:end]...)
	binary.BigEndian.PutUint16(b[2:], 0x8180) // a response, with recursion
	if addr == "" {
		binary.BigEndian.PutUint16(b[2:], 0x8183) // no such name
	}
	for at := 6; at < header; at += 2 {
		binary.BigEndian.PutUint16(b[at:], 0)
	}
	if addr == "" || binary.BigEndian.Uint16(b[end-4:]) != typeA {
		return b
	}
	binary.BigEndian.PutUint16(b[6:], 1)                                    // one answer
	b = append(b, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, net.IPv4len) // to the name asked for, good for no time
	return append(b, net.ParseIP(addr).To4()...)
}

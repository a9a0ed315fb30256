package loop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// secure wraps the two ends of a connection in TLS and shakes hands.
func secure(t *testing.T, ours, peer net.Conn) (secured, securedPeer *tls.Conn) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil) // for its certificate
	s.StartTLS()
	cert := s.TLS.Certificates[0]
	s.Close()
	server := tls.Server(ours, &tls.Config{Certificates: []tls.Certificate{cert}})
	client := tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// detached puts a connection, with TLS or without, on a running loop.
func detached(t *testing.T, l *Loop, withTLS bool, h *handler) (c *Conn, peer net.Conn, tcp *net.TCPConn) {
	t.Helper()
	ours, tcp := tcpPair(t)
	peer = tcp
	var conn net.Conn = ours
	if withTLS {
		conn, peer = secure(t, ours, tcp)
	}
	fd, err := l.Detach(conn)
	if err != nil {
		t.Fatal(err)
	}
	on(t, l, func() {
		if h.c, err = l.Add(fd, h); err != nil {
			t.Error(err)
		}
	})
	_ = peer.SetDeadline(time.Now().Add(patience))
	return h.c, peer, tcp
}

// both runs a test with a plain connection and with a pumped one.
func both(t *testing.T, test func(t *testing.T, withTLS bool)) {
	t.Run("plain", func(t *testing.T) { test(t, false) })
	t.Run("TLS", func(t *testing.T) { test(t, true) })
}

func TestDetachedEcho(t *testing.T) {
	both(t, func(t *testing.T, withTLS bool) {
		l := running(t)
		_, peer, _ := detached(t, l, withTLS, echo())
		want := bytes.Repeat([]byte("0123456789"), 200_000)
		go func() { _, _ = peer.Write(want) }()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("echo is right: %v, %v", bytes.Equal(got, want), err)
		}
	})
}

func TestDetachedHalfClose(t *testing.T) {
	both(t, func(t *testing.T, withTLS bool) {
		l := running(t)
		h := &handler{}
		h.eof = func() {
			h.c.Write([]byte("the last word"))
			h.c.Finish(patience, func() {})
		}
		_, peer, _ := detached(t, l, withTLS, h)
		if err := peer.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(peer); string(got) != "the last word" || err != nil {
			t.Fatalf("after half a close the peer read %q, %v", got, err)
		}
	})
}

func TestDetachedFinishDeliversAll(t *testing.T) {
	both(t, func(t *testing.T, withTLS bool) {
		l := running(t)
		c, peer, _ := detached(t, l, withTLS, &handler{})
		want := bytes.Repeat([]byte("abc"), 1<<20)
		on(t, l, func() { c.Write(want); c.Finish(patience, func() {}) })
		if got, err := io.ReadAll(peer); !bytes.Equal(got, want) || err != nil {
			t.Fatalf("%d of %d bytes arrived, %v", len(got), len(want), err)
		}
	})
}

func TestDetachedFailureOfThePeerIsTold(t *testing.T) {
	both(t, func(t *testing.T, withTLS bool) {
		l := running(t)
		told := make(chan any, 2)
		_, _, tcp := detached(t, l, withTLS, &handler{closed: func(err error) { told <- err }, eof: func() { told <- io.EOF }})
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
		select {
		case <-told:
		case <-time.After(patience):
			t.Fatal("nothing was told")
		}
	})
}

// A peer that does not read pushes back on the loop's connection, whose output then waits; and a connection that is not read
// pushes back on its peer.
func TestDetachedBackPressure(t *testing.T) {
	both(t, func(t *testing.T, withTLS bool) {
		l := running(t)
		const total = 64 << 20
		got := 0
		c, peer, _ := detached(t, l, withTLS, &handler{data: func(b []byte) int { got += len(b); return len(b) }})
		on(t, l, func() { c.Pause(); c.Write(make([]byte, 32<<20)) })
		written := make(chan int64, 1)
		go func() {
			n, _ := io.CopyN(peer, zeros{}, total)
			written <- n
		}()
		before := -1
		turns := 0
		for deadline := time.Now().Add(patience); ; { // until nothing moves any more
			var waits int
			on(t, l, func() { waits = c.Buffered() })
			if waits == before {
				if turns++; turns == 200 {
					if waits == 0 {
						t.Fatal("32 MiB were taken by a peer that does not read")
					}
					break
				}
			} else {
				before, turns = waits, 0
			}
			if time.Now().After(deadline) {
				t.Fatal("output keeps flowing to a peer that does not read")
			}
		}
		select {
		case n := <-written:
			t.Fatalf("the peer wrote %d bytes to a connection that is not read", n)
		default:
		}
		on(t, l, func() {
			if got != 0 {
				t.Errorf("%d bytes were shown while paused", got)
			}
			c.Resume()
		})
		if _, err := io.CopyN(io.Discard, peer, 32<<20); err != nil {
			t.Fatal(err)
		}
		if n := <-written; n != total {
			t.Fatalf("the peer wrote %d bytes", n)
		}
		for deadline := time.Now().Add(patience); ; {
			var now int
			on(t, l, func() { now = got })
			if now == total {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d bytes arrived", now, total)
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A node that hangs neither reads nor closes. When the loop has given its connection up, nothing of it may stay, or a stop
// would wait for that node.
func TestDetachedCloseIsNotHeldUpByAPeerThatHangs(t *testing.T) {
	both(t, func(t *testing.T, withTLS bool) {
		for _, output := range []int{0, 32 << 20} {
			l, err := New()
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- l.Run() }()
			c, peer, _ := detached(t, l, withTLS, &handler{})
			on(t, l, func() { c.Write(make([]byte, output)) })
			on(t, l, func() { c.Close() })
			l.Stop()
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Error("the loop does not stop while the peer hangs")
			}
			_ = peer.Close()
		}
	})
}

func TestDetachOfAClosedConnectionIsAnError(t *testing.T) {
	l := still(t)
	ours, _ := tcpPair(t)
	_ = ours.Close()
	if fd, err := l.Detach(ours); err == nil {
		_ = unix.Close(fd)
		t.Fatal("a closed connection was detached")
	}
}

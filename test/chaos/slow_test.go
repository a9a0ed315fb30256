package chaos

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
	"readthrough/upstream"
)

// slowReader begins to stand in the way: it asks for 20 MB over the shared connection and reads none of it. What others send
// before release is called stands behind that on the same connection.
func slowReader(t *testing.T, r *relay, p *proxy, redis *harness.Redis) (slow *harness.Conn, count int, value string, release func()) {
	t.Helper()
	const size = 100_000
	count = 200
	value = fmt.Sprintf("$%d\r\n%s\r\n", size, strings.Repeat("x", size))
	redis.MustDo(t, "SET", "big", strings.Repeat("x", size))
	gate := make(chan struct{})
	p.once(func(b *bent) {
		go func() {
			select {
			case <-gate:
			case <-b.done:
			}
			b.replies(-1)
		}()
		_, _ = io.Copy(b.server, b.in)
		_ = b.server.Close()
	})
	slow = harness.NewConn(t, r.Addr)
	var commands []byte
	for range count {
		commands = append(commands, harness.Command("GET", "big")...)
	}
	if err := slow.Send(commands); err != nil {
		t.Fatal(err)
	}
	// All of it is on its way: this comes back after it, on the same loop.
	harness.NewConn(t, r.Addr).MustDo(t, "CLIENT", "ID")
	return slow, count, value, func() { close(gate) }
}

// Reads of others that wait behind a slow reader are sent again elsewhere. It is not closed for that, however long it takes, and
// gets all that it asked for.
func TestASlowReaderDoesNotHoldUpReads(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	redis.MustDo(t, "SET", "k", "v")
	slow, count, value, release := slowReader(t, r, p, redis)
	others := make([]*harness.Conn, 10)
	for i := range others {
		others[i] = harness.NewConn(t, r.Addr)
		if err := others[i].Send(pipeline([]string{"GET", "k"}, []string{"EXISTS", "k"}, []string{"GET", "big"}, []string{"STRLEN", "k"})); err != nil {
			t.Fatal(err)
		}
		others[i].Timeout = time.Second
	}
	release()
	for _, c := range others {
		expect(t, c, "$1\r\nv\r\n", ":1\r\n", value, ":1\r\n")
	}
	if st := r.Stats(t); st.Evacuated == 0 {
		t.Errorf("nothing was taken from behind the slow reader: %+v", st)
	}
	// While it is stalled, for longer than a write would wait, all goes on, writes too.
	writer := harness.NewConn(t, r.Addr)
	writer.Timeout = time.Second
	for began, n := time.Now(), 1; time.Since(began) < 3*time.Second; n++ {
		if got := writer.MustDo(t, "INCR", "n"); got != fmt.Sprintf(":%d\r\n", n) {
			t.Fatalf("reply %q", got)
		}
	}
	if held := r.LoopStats(t).Buffered; held > 16<<20 {
		t.Errorf("%d bytes are held for one slow reader", held)
	}
	for range count {
		expect(t, slow, value)
	}
	if got := slow.MustDo(t, "PING"); got != "+PONG\r\n" {
		t.Fatalf("reply %q", got)
	}
	poll(t, func() error { // the connection that it had for itself is given up
		if n := r.Stats(t).Wires; n != 1 {
			return fmt.Errorf("%d connections to Redis", n)
		}
		return nil
	})
}

// Writes cannot be sent again: the slow reader gets a while and is then closed, and they go on.
func TestASlowReaderBehindWhichWritesWaitIsClosed(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	redis.MustDo(t, "SET", "k", "v")
	slow, _, _, release := slowReader(t, r, p, redis)
	writer, reader := harness.NewConn(t, r.Addr), harness.NewConn(t, r.Addr)
	if err := errors.Join(
		writer.Send(pipeline([]string{"GET", "k"}, []string{"INCR", "n"}, []string{"GET", "n"})),
		reader.Send(harness.Command("GET", "k")),
	); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	release()
	reader.Timeout = time.Second
	expect(t, reader, "$1\r\nv\r\n")
	expect(t, writer, "$1\r\nv\r\n", ":1\r\n", "$1\r\n1\r\n")
	if waited := time.Since(began); waited < time.Second || waited > 5*time.Second {
		t.Errorf("the write waited for %v, want about 2s", waited)
	}
	_ = slow.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, slow.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the slow reader was not closed")
	}
}

// A client that asks without end and reads nothing is not read any more itself, and holds little.
func TestAClientThatNeverReads(t *testing.T) {
	r, _, redis := bentRelay(t, upstream.Options{})
	redis.MustDo(t, "SET", "big", strings.Repeat("x", 10_000))
	greedy, err := net.Dial("tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer greedy.Close()
	one := harness.Command("GET", "big")
	var many []byte
	for range 1000 {
		many = append(many, one...)
	}
	sent, most := 0, 0
	for began := time.Now(); time.Since(began) < 30*time.Second; {
		_ = greedy.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := greedy.Write(many[sent%len(one):])
		sent += n
		most = max(most, r.LoopStats(t).Buffered)
		if err != nil {
			break
		}
	}
	if most > 32<<20 {
		t.Errorf("%d bytes were held for one client", most)
	}
	if sent > 64<<20 {
		t.Errorf("%d bytes of commands were read from a client that reads nothing", sent)
	}
	poll(t, func() error { // its replies are held up by now; what comes later takes another connection
		if held := r.LoopStats(t).Buffered; held < 4<<20 {
			return fmt.Errorf("%d bytes are held", held)
		}
		return nil
	})
	other := harness.NewConn(t, r.Addr)
	other.Timeout = 2 * time.Second
	for n := 1; n <= 100; n++ {
		if got := other.MustDo(t, "INCR", "n"); got != fmt.Sprintf(":%d\r\n", n) {
			t.Fatalf("reply %q", got)
		}
	}
	_ = greedy.Close()
	poll(t, func() error {
		if held := r.LoopStats(t).Buffered; held > 1<<20 {
			return fmt.Errorf("%d bytes are held after it has gone", held)
		}
		return nil
	})
}

// A client writes more commands than it may have under way and reads only then. It is read on when it has taken its replies,
// however these and the commands came to be in the way.
func TestAClientThatWritesAllBeforeItReads(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	for _, size := range []int{1, 60, 80, 100, 120, 140, 160, 180, 200, 220, 1000} {
		value := strings.Repeat("x", size)
		redis.MustDo(t, "SET", "k", value)
		const count = 60_000
		gate := make(chan struct{})
		p.once(func(b *bent) { // answers only when the relay reads no more
			go func() {
				select {
				case <-gate:
				case <-b.done:
				}
				b.replies(-1)
			}()
			_, _ = io.Copy(b.server, b.in)
			_ = b.server.Close()
		})
		// A small buffer, so that what the client does not read waits in the relay.
		dialer := net.Dialer{Control: smallBuffer}
		c, err := dialer.DialContext(t.Context(), "tcp", r.Addr)
		must(t, err)
		_ = c.SetDeadline(time.Now().Add(patience))
		written := make(chan error, 1)
		go func() {
			_, err := c.Write(bytes.Repeat(harness.Command("GET", "k"), count))
			written <- err
		}()
		poll(t, func() error {
			if st := r.LoopStats(t); st.Buffered == 0 {
				return errors.New("nothing is under way")
			}
			return nil
		})
		awaitCalm(t, r)
		close(gate)
		awaitCalm(t, r)
		want := fmt.Sprintf("$%d\r\n%s\r\n", size, value)
		got := make([]byte, len(want))
		in := bufio.NewReader(c)
		for n := range count {
			if _, err := io.ReadFull(in, got); err != nil || string(got) != want {
				t.Fatalf("values of %d bytes: reply %d: %q, %v", size, n, got, err)
			}
		}
		must(t, <-written)
		_ = c.Close()
	}
}

// awaitCalm waits until nothing moves in the relay any more.
func awaitCalm(t *testing.T, r *relay) {
	t.Helper()
	last, since := r.LoopStats(t).Buffered, time.Now()
	poll(t, func() error {
		if now := r.LoopStats(t).Buffered; now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < 50*time.Millisecond {
			return fmt.Errorf("%d bytes are held, and that changes", last)
		}
		return nil
	})
}

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"readthrough/test/harness"
)

// The program is told to end while clients go on sending, pipelines of writes and keys that are missing. What has run has been answered,
// to each of them, when it closes their connections; and it ends in time.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	const grace = 300 * time.Millisecond
	const maps = user + `  - {name: late, key: "late:<what:text>", ttl: 1h, timeout: 5s, queue: 4096, value: column, query: "SELECT slowly(@what, 0.02) AS answer"}
`
	for round := range size(3, 20) {
		w := newWorld(t, "pool: {max: 8}, queue: 4096", maps, harness.SidecarOptions{Config: fmt.Sprintf("\nshutdownGrace: %v\n", grace)})
		const clients, depth = 20, 50
		conns := make([]*harness.Conn, clients)
		for i := range conns {
			conns[i] = harness.NewConn(t, w.sidecar.Addr())
			conns[i].Timeout = 30 * time.Second
		}
		var answered [clients]int // INCRs
		var working sync.WaitGroup
		for i, c := range conns {
			room, gone := make(chan struct{}, 3), make(chan struct{}) // of pipelines on their way
			working.Go(func() {
				incr := harness.Command("INCR", fmt.Sprint("n", i))
				for n := 0; c.Send(append(harness.Command("GET", fmt.Sprintf("late:%d-%d", i, n)), bytes.Repeat(incr, depth)...)) == nil; n++ {
					select {
					case room <- struct{}{}:
					case <-gone:
						return
					}
				}
			})
			working.Go(func() {
				defer close(gone)
				for {
					for at := range 1 + depth {
						got, err := c.ReadReply()
						if err != nil {
							if len(got) > 0 {
								t.Errorf("client %d: half a reply: %.100q", i, got)
							}
							return
						}
						want := fmt.Sprintf(":%d\r\n", answered[i]+1)
						switch {
						case at == 0 && (got[0] == '$' || strings.HasPrefix(string(got), "-ORIGIN")):
						case at > 0 && string(got) == want:
							answered[i]++
						default:
							t.Errorf("client %d: %.100q, want %q", i, got, want)
							return
						}
					}
					select { // the writer may not have counted it yet
					case <-room:
					default:
					}
				}
			})
		}
		poll(t, func() error { // the load is on
			if n := metric(t, w.sidecar, `readthrough_commands_total{command="incr",outcome="ok"}`); n < clients*depth {
				return fmt.Errorf("%v commands", n)
			}
			return nil
		})
		began := time.Now()
		must(t, w.sidecar.Signal(syscall.SIGTERM))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		code, err := w.sidecar.Wait(ctx)
		took := time.Since(began)
		cancel()
		for _, c := range conns {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		}
		if err != nil || code != 0 {
			t.Errorf("exit code %d, %v", code, err)
		}
		working.Wait()
		sum := 0
		for i, n := range answered {
			if got := w.redis.MustDo(t, "GET", fmt.Sprint("n", i)).Str; got != fmt.Sprint(n) {
				t.Errorf("round %d, client %d: Redis has run %s INCRs, %d are answered", round, i, got, n)
			}
			sum += n
		}
		t.Logf("%d clients, %d writes, each that ran is answered; it ended after %v, the grace is %v", clients, sum, took.Round(time.Millisecond), grace)
		if took > grace+3*time.Second {
			t.Errorf("it took %v to end", took)
		}
		if t.Failed() {
			return
		}
	}
}

// A client has asked for much and reads slowly, and goes on sending, when the program ends: it gets every reply that is due, and whole.
func TestDrainOfASlowReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", user, harness.SidecarOptions{Config: "\nshutdownGrace: 100ms\n"})
	const count, size = 40, 100_000
	value := bulk(strings.Repeat("x", size))
	w.redis.MustDo(t, "SET", "big", strings.Repeat("x", size))
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10) })
	}}
	c, err := dialer.DialContext(t.Context(), "tcp", w.sidecar.Addr())
	must(t, err)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = c.Write(bytes.Repeat(harness.Command("GET", "big"), count))
	must(t, err)
	poll(t, func() error { // Redis has answered all of them
		if n := metric(t, w.sidecar, `readthrough_commands_total{command="get",outcome="ok"}`); n < count {
			return fmt.Errorf("%v replies", n)
		}
		return nil
	})
	must(t, w.sidecar.Signal(syscall.SIGTERM))
	poll(t, func() error {
		if !strings.Contains(w.sidecar.Logs(), "grace has ended") {
			return errors.New("it serves on")
		}
		return nil
	})
	// What it sends now nobody reads.
	_, err = c.Write(bytes.Repeat(harness.Command("PING"), 100))
	must(t, err)
	got := make([]byte, len(value))
	for n := range count {
		if _, err := io.ReadFull(c, got); err != nil || string(got) != value {
			t.Fatalf("reply %d of %d: %v", n, count, err)
		}
		_, _ = c.Write(harness.Command("PING"))
	}
	rest, err := io.ReadAll(c)
	if err != nil || strings.ReplaceAll(string(rest), "+PONG\r\n", "") != "" {
		t.Errorf("then come %.100q, %v", rest, err)
	}
	_ = c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if code, err := w.sidecar.Wait(ctx); code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// The program has no client when it is told to end, and one is still sent to it, as by a node that does not know yet: it is served, and the
// program ends when it has gone.
func TestDrainOfOneThatComesLate(t *testing.T) {
	t.Parallel()
	const delay = 2 * time.Second
	s := harness.NewSidecar(t, harness.SidecarOptions{Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%q]}\nshutdownDelay: %v\n",
		harness.NewRedis(t, harness.RedisOptions{}).Addr(), delay)})
	began := time.Now()
	must(t, s.Signal(syscall.SIGTERM))
	poll(t, func() error {
		if !strings.Contains(s.Logs(), "draining") {
			return errors.New("it has not seen the signal")
		}
		return nil
	})
	late := harness.NewConn(t, s.Addr())
	if got := late.MustDo(t, "SET", "k", "v"); got != "+OK\r\n" {
		t.Errorf("a client that comes late is answered %q", got)
	}
	_ = late.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	code, err := s.Wait(ctx)
	took := time.Since(began)
	if code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	if took < delay || took > delay+3*time.Second {
		t.Errorf("it took %v to end, the delay is %v", took, delay)
	}
	t.Logf("it ended after %v, the delay is %v", took.Round(time.Millisecond), delay)
}

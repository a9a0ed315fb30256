package chaos

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

// worker is a client that writes and reads keys of its own over one connection, pipelined, and knows every reply that it must get:
// what it has written it reads back, and its writes run in the order in which it sent them.
type worker struct {
	name    string
	tag     string // of all its keys, and so their slot
	conn    *harness.Conn
	forgive bool // writes may fail by the errors of a lost node

	acked, unknown, failed []int // numbers of RPUSH: done, perhaps done, not done
	rounds                 atomic.Int64
}

// crew is some workers at work until stop.
type crew struct {
	workers []*worker
	done    chan struct{}
	wg      sync.WaitGroup
	errs    []error
	mu      sync.Mutex
}

// startWorkers begins to work through a relay, with two workers for each hash tag: one over RESP2 and one over RESP3.
func startWorkers(t *testing.T, addr string, forgive bool, tags ...string) *crew {
	t.Helper()
	c := &crew{done: make(chan struct{})}
	for _, tag := range tags {
		for _, protocol := range []string{"2", "3"} {
			w := &worker{name: fmt.Sprintf("{%s}:%s", tag, protocol), tag: tag, forgive: forgive, conn: harness.NewConn(t, addr)}
			w.conn.Timeout = patience
			if got := w.conn.MustDo(t, "HELLO", protocol); strings.HasPrefix(got, "-") {
				t.Fatalf("HELLO: %q", got)
			}
			c.workers = append(c.workers, w)
		}
	}
	for _, w := range c.workers {
		c.wg.Go(func() {
			if err := w.work(c.done); err != nil {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.errs = append(c.errs, fmt.Errorf("worker %s, round %d: %w", w.name, w.rounds.Load(), err))
			}
		})
	}
	return c
}

// stop ends the work and then compares what Redis has with what the workers know.
func (c *crew) stop(t *testing.T, addr string) {
	t.Helper()
	close(c.done)
	c.wg.Wait()
	if err := errors.Join(c.errs...); err != nil {
		t.Fatal(err)
	}
	reader := harness.NewConn(t, addr)
	for _, w := range c.workers {
		w.check(t, reader)
	}
}

// progress waits until each worker has done some more rounds, all of it after the call.
func (c *crew) progress(t *testing.T, rounds int64) {
	t.Helper()
	var goals []int64
	for _, w := range c.workers {
		goals = append(goals, w.rounds.Load()+1+rounds)
	}
	poll(t, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.errs) > 0 {
			t.Fatal(errors.Join(c.errs...))
		}
		for i, w := range c.workers {
			if n := w.rounds.Load(); n < goals[i] {
				return fmt.Errorf("worker %s is at round %d, not yet %d", w.name, n, goals[i])
			}
		}
		return nil
	})
}

// work does rounds, each a pipeline of several steps, until done.
func (w *worker) work(done <-chan struct{}) error {
	const steps = 5
	list, counter, a, b := w.name+":list", w.name+":n", w.name+":a", w.name+":b"
	for n := 1; ; n += steps {
		var commands []byte
		for i := n; i < n+steps; i++ {
			number := strconv.Itoa(i)
			commands = append(commands, pipeline(
				[]string{"RPUSH", list, number}, []string{"INCR", counter}, []string{"GET", counter},
				[]string{"MSET", a, number, b, number}, []string{"MGET", a, b},
				[]string{"LINDEX", list, "-1"})...)
		}
		if err := w.conn.Send(commands); err != nil {
			return err
		}
		for i := n; i < n+steps; i++ {
			if err := w.replies(i); err != nil {
				return err
			}
		}
		w.rounds.Add(1)
		select {
		case <-done:
			return nil
		default:
		}
	}
}

// replies reads those to the commands of one step.
func (w *worker) replies(i int) error {
	number := strconv.Itoa(i)
	bulk := fmt.Sprintf("$%d\r\n%s\r\n", len(number), number)
	for at, want := range []string{":" + number + "\r\n", ":" + number + "\r\n", bulk, "+OK\r\n", "*2\r\n" + bulk + bulk, bulk} {
		raw, err := w.conn.ReadReply()
		if err != nil {
			return fmt.Errorf("step %d, command %d: %w", i, at, err)
		}
		got := string(raw)
		if at == 0 {
			switch {
			case strings.HasPrefix(got, ":"):
				w.acked = append(w.acked, i)
			case strings.HasPrefix(got, "-UPSTREAMLOST "):
				w.unknown = append(w.unknown, i)
			default:
				w.failed = append(w.failed, i)
			}
		}
		if w.forgive {
			// Values depend on which writes ran. What may be said is said by an error of the right kind.
			if strings.HasPrefix(got, "-") && !documented(got) {
				return fmt.Errorf("step %d, command %d: %q", i, at, got)
			}
			if at == 4 && !strings.HasPrefix(got, "-") { // both keys were written at once
				v, err := harness.Decode(raw)
				if err != nil || len(v.Elems) != 2 || v.Elems[0].Str != v.Elems[1].Str {
					return fmt.Errorf("step %d: MGET %q after MSET of the same", i, got)
				}
			}
			continue
		}
		if got != want {
			return fmt.Errorf("step %d, command %d: %q, want %q", i, at, got, want)
		}
	}
	return nil
}

// documented tells whether an error is one that a client may see when a node is lost.
func documented(reply string) bool {
	for _, prefix := range []string{"-UPSTREAMLOST connection to Redis at ", "-UPSTREAMDOWN ", "-CLUSTERDOWN "} {
		if strings.HasPrefix(reply, prefix) {
			return true
		}
	}
	return false
}

// check compares the list with what was acknowledged: every element was sent, they stand in the order of sending, and each once. A
// failover may have lost the last writes that were acknowledged before it, as Redis itself does.
func (w *worker) check(t *testing.T, c *harness.Conn) {
	t.Helper()
	v, err := decode([]byte(c.MustDo(t, "LRANGE", w.name+":list", "0", "-1")))
	if err != nil {
		t.Fatal(err)
	}
	have := map[int]bool{}
	last := 0
	for _, s := range v.Strings() {
		n, err := strconv.Atoi(s)
		if err != nil || n <= last {
			t.Fatalf("worker %s: %s stands behind %d in the list", w.name, s, last)
		}
		have[n], last = true, n
	}
	for _, n := range w.failed {
		if have[n] {
			t.Errorf("worker %s: write %d was said not to have run", w.name, n)
		}
	}
	trouble := len(w.acked) // index of the first write that was acknowledged after trouble
	if len(w.unknown)+len(w.failed) > 0 {
		first := min(append(w.unknown, w.failed...)[0], append(w.failed, w.unknown...)[0])
		for trouble = 0; trouble < len(w.acked) && w.acked[trouble] < first; trouble++ {
		}
	}
	missing := 0
	for at, n := range w.acked {
		switch {
		case !have[n] && (!w.forgive || at >= trouble):
			t.Errorf("worker %s: write %d was acknowledged and is not there", w.name, n)
		case !have[n]:
			missing++
		case missing > 0 && at < trouble:
			t.Errorf("worker %s: write %d is there, but not all before it", w.name, n)
		}
	}
	t.Logf("worker %s: %d writes acknowledged, %d unknown, %d failed, %d lost by the failover", w.name, len(w.acked), len(w.unknown), len(w.failed), missing)
}

// recovered waits until every tag is written and read again without an error, and tells how long that took.
func recovered(t *testing.T, addr string, tags ...string) time.Duration {
	t.Helper()
	began := time.Now()
	c := harness.NewConn(t, addr)
	c.Timeout = patience
	for _, tag := range tags {
		poll(t, func() error {
			for _, command := range [][]string{{"SET", "{" + tag + "}:probe", "v"}, {"GET", "{" + tag + "}:probe"}} {
				raw, err := c.Do(command...)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := decode(raw); err != nil {
					if !documented(string(raw)) {
						t.Fatalf("%q", raw)
					}
					return err
				}
			}
			return nil
		})
	}
	return time.Since(began)
}

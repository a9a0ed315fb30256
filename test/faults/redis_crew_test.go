package faults

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

// redisWorker is a client that sends pipelines of writes, reads and misses, and knows every reply that it must get.
type redisWorker struct {
	tag     string
	list    string
	conn    *harness.Conn
	rounds  atomic.Int64
	said    []int // numbers of RPUSH that were acknowledged
	unknown []int // of those that may have run
	errors  int
}

// redisCrew is some workers at work through a sidecar, until it is stopped.
type redisCrew struct {
	workers []*redisWorker
	ending  atomic.Bool
	wg      sync.WaitGroup

	mu          sync.Mutex
	wrong       []error
	first, last time.Time // errors that were said
	span        time.Duration
}

// work starts three workers for each hash tag.
func (w *redisWorld) work(t *testing.T, s *harness.Sidecar) *redisCrew {
	t.Helper()
	crew := &redisCrew{}
	for _, tag := range redisTags {
		for i := range 3 {
			worker := &redisWorker{tag: tag, list: fmt.Sprintf("list:{%s}:%d", tag, i), conn: redisConn(t, s)}
			crew.workers = append(crew.workers, worker)
			crew.wg.Go(func() {
				for n := 1; !crew.ending.Load(); n++ {
					if err := worker.round(crew, n); err != nil {
						crew.mu.Lock()
						crew.wrong = append(crew.wrong, fmt.Errorf("%s, round %d: %w", worker.list, n, err))
						crew.mu.Unlock()
						return
					}
					worker.rounds.Add(1)
				}
			})
		}
	}
	return crew
}

// round sends one pipeline and reads its replies: a write, a read of it, a key that is missing, alone and with one that is not, and the
// end of the missing one.
func (w *redisWorker) round(crew *redisCrew, n int) error {
	number, key, plain := fmt.Sprint(n), redisItem(w.tag, n), "plain:{"+w.tag+"}"+w.list
	commands := [][]string{
		{"RPUSH", w.list, number}, {"LINDEX", w.list, "-1"}, {"SET", plain, number}, {"GET", key}, {"MGET", key, plain}, {"UNLINK", key},
	}
	var all []byte
	for _, c := range commands {
		all = append(all, harness.Command(c...)...)
	}
	if err := w.conn.Send(all); err != nil {
		return err
	}
	failed := false // something of this round, so that what comes after it may differ
	for i, want := range []string{"", redisBulk(number), "+OK\r\n", redisRow(n), "*2\r\n" + redisRow(n) + redisBulk(number), ""} {
		raw, err := w.conn.ReadReply()
		if err != nil {
			return fmt.Errorf("%q: %w", commands[i], err)
		}
		if bytes.HasPrefix(raw, []byte("-")) {
			if err := crew.said(string(raw)); err != nil {
				return fmt.Errorf("%q: %w", commands[i], err)
			}
			if i == 0 && bytes.HasPrefix(raw, []byte("-UPSTREAMLOST ")) {
				w.unknown = append(w.unknown, n)
			}
			failed = true
			w.errors++
			continue
		}
		if i == 0 {
			w.said = append(w.said, n)
		}
		if !failed && want != "" && string(raw) != want {
			return fmt.Errorf("%q: %q, want %q", commands[i], raw, want)
		}
		if i == 3 && string(raw) != want { // a row is what it is, whatever was lost
			return fmt.Errorf("%q: %q, want %q", commands[i], raw, want)
		}
	}
	return nil
}

// said takes note of an error that a client was told, which must be one of those that the documents name.
func (c *redisCrew) said(reply string) error {
	known := false
	for _, prefix := range []string{"-UPSTREAMDOWN ", "-UPSTREAMLOST ", "-CLUSTERDOWN ", "-ORIGINBUSY "} {
		known = known || strings.HasPrefix(reply, prefix)
	}
	if !known {
		return fmt.Errorf("%q", reply)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = time.Now()
	if c.first.IsZero() {
		c.first = c.last
	}
	c.span = c.last.Sub(c.first)
	return nil
}

// progress waits until each worker has done five rounds that began after the call.
func (c *redisCrew) progress(t *testing.T) {
	t.Helper()
	var goals []int64
	for _, w := range c.workers {
		goals = append(goals, w.rounds.Load()+6)
	}
	redisPoll(t, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, err := range c.wrong {
			t.Fatal(err)
		}
		for i, w := range c.workers {
			if n := w.rounds.Load(); n < goals[i] {
				return fmt.Errorf("%s is at round %d, not yet %d", w.list, n, goals[i])
			}
		}
		return nil
	})
}

// stop ends the work and compares the lists with what was acknowledged: all of it is there unless Redis itself may have lost it, in the
// order in which it was sent, and once.
func (c *redisCrew) stop(t *testing.T, s *harness.Sidecar, loses bool) (rounds int64, errors int) {
	t.Helper()
	c.ending.Store(true)
	c.wg.Wait()
	for _, err := range c.wrong {
		t.Error(err)
	}
	reader := redisConn(t, s)
	for _, w := range c.workers {
		v, err := harness.Decode([]byte(reader.MustDo(t, "LRANGE", w.list, "0", "-1")))
		redisMust(t, err)
		have, last := map[int]bool{}, 0
		for _, text := range v.Strings() {
			var n int
			_, err := fmt.Sscan(text, &n)
			redisMust(t, err)
			if n <= last {
				t.Errorf("%s: %d stands behind %d", w.list, n, last)
			}
			have[n], last = true, n
		}
		acknowledged := map[int]bool{}
		for _, n := range append(w.unknown, w.said...) {
			acknowledged[n] = true
		}
		for n := range have {
			if !acknowledged[n] {
				t.Errorf("%s: %d was said not to have run", w.list, n)
			}
		}
		for _, n := range w.said {
			if !have[n] && !loses {
				t.Errorf("%s: %d was acknowledged and is not there", w.list, n)
			}
		}
		rounds += w.rounds.Load()
		errors += w.errors
	}
	return rounds, errors
}

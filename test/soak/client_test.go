package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

// client does one kind of thing again and again, over connections that come and go.
type client struct {
	world *world
	name  string // its keys are nobody else's
	addr  string
	rng   *rand.Rand
	conn  *harness.Conn // nil when it has to be made
	calm  bool          // nothing fails on purpose: every error is a mistake
	count int           // of its values
	tally *tally
}

// tally counts what all clients did.
type tally struct {
	things, errors, gone atomic.Int64

	mu    sync.Mutex
	wrong []error
}

// errSaid is an error reply that the documents name, and errGone a connection that the sidecar closed.
var (
	errSaid = errors.New("an error reply")
	errGone = errors.New("the connection is gone")
)

// load has clients of every kind work through both sidecars for a while, and beside them a function until the while is over.
func (w *world) load(t *testing.T, seed uint64, length time.Duration, beside func(ctx context.Context, t *testing.T)) {
	t.Helper()
	w.well(t)
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	ended, end := context.WithCancel(t.Context()) // when beside has returned, too
	defer end()
	sum := &tally{}
	var all sync.WaitGroup
	number := uint64(0)
	for _, s := range w.sidecars {
		for _, kind := range kinds {
			for range 2 {
				number++
				c := &client{
					world: w, name: fmt.Sprintf("%s%d.%d", kind.name, number, seed), addr: s.Addr(), rng: rand.New(rand.NewPCG(seed, number)),
					calm: beside == nil, tally: sum,
				}
				all.Go(func() { c.work(ended, kind) })
			}
		}
	}
	if beside != nil {
		beside(ctx, t)
	}
	<-ctx.Done()
	end()
	all.Wait()
	t.Logf("%d things done, %d errors told, %d connections lost", sum.things.Load(), sum.errors.Load(), sum.gone.Load())
	for i, err := range sum.wrong {
		if i == 10 {
			t.Errorf("and %d more", len(sum.wrong)-i)
			break
		}
		t.Error(err)
	}
	if sum.things.Load() == 0 {
		t.Error("nothing was done")
	}
}

// work does things of a kind until ctx ends.
func (c *client) work(ctx context.Context, kind kind) {
	defer c.leave()
	for ctx.Err() == nil {
		if c.conn == nil {
			conn, err := harness.Dial(ctx, c.addr, nil)
			if err != nil {
				if ctx.Err() == nil {
					c.wrong(kind, fmt.Errorf("connect: %w", err))
				}
				return
			}
			conn.Timeout = 40 * time.Second
			c.conn = conn
			if c.rng.IntN(2) == 0 && !kind.old {
				if _, err := c.ask("HELLO", "3"); err != nil && !errors.Is(err, errSaid) {
					c.wrong(kind, err)
					return
				}
			}
		}
		err := kind.do(c)
		switch {
		case err == nil:
			c.tally.things.Add(1)
		case errors.Is(err, errSaid) && !c.calm:
			c.tally.errors.Add(1)
			c.leave() // whatever state it is in
			rest(ctx, time.Duration(c.rng.IntN(20))*time.Millisecond)
		case errors.Is(err, errGone) && !c.calm && kind.loses:
			c.tally.gone.Add(1)
			c.leave()
		default:
			c.wrong(kind, err)
			return
		}
		if c.rng.IntN(30) == 0 {
			c.leave()
		}
		rest(ctx, time.Duration(c.rng.IntN(10))*time.Millisecond)
	}
}

func (c *client) wrong(kind kind, err error) {
	c.tally.mu.Lock()
	defer c.tally.mu.Unlock()
	c.tally.wrong = append(c.tally.wrong, fmt.Errorf("%s of %s at %s, calm %v: %w", kind.name, c.name, time.Now().UTC().Format(time.StampMilli), c.calm, err))
}

func (c *client) leave() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// ask sends a command and reads its reply.
func (c *client) ask(args ...string) (harness.Value, error) {
	began := time.Now()
	if err := c.send(args...); err != nil {
		return harness.Value{}, err
	}
	v, err := c.read()
	if err != nil {
		err = fmt.Errorf("%.80q after %v: %w", args, time.Since(began), err)
	}
	return v, err
}

func (c *client) send(args ...string) error {
	if err := c.conn.Send(harness.Command(args...)); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

// known are the errors that the documents name, and those of Redis itself while it fails.
var known = []string{
	"UPSTREAMDOWN ", "UPSTREAMLOST ", "CLUSTERDOWN ", "ORIGINDOWN ", "ORIGINERR ", "ORIGINTIMEOUT ", "ORIGINBUSY ", "EXECABORT ", "LOADING ", "MASTERDOWN ",
	"TRYAGAIN the slot is moving, and a command this large ",
}

func (c *client) read() (v harness.Value, err error) {
	raw, err := c.conn.ReadReply()
	if err != nil {
		return v, fmt.Errorf("%w: %w", errGone, err)
	}
	if v, err = harness.Decode(raw); err != nil {
		return v, err
	}
	if said := v.Err(); said != nil {
		for _, prefix := range known {
			if strings.HasPrefix(said.Error(), prefix) {
				return v, fmt.Errorf("%w: %w", errSaid, said)
			}
		}
		return v, said
	}
	return v, nil
}

// well waits until both sidecars serve every slot and load, in both protocols.
func (w *world) well(t *testing.T) {
	t.Helper()
	for _, s := range w.sidecars {
		for _, protocol := range []string{"2", "3"} {
			c := harness.NewConn(t, s.Addr())
			c.Timeout = 40 * time.Second
			must(t, harness.Poll(t.Context(), func() error {
				for _, tag := range tags {
					key := "item:{" + tag + "}:0"
					for _, command := range [][]string{{"HELLO", protocol}, {"SET", "well:{" + tag + "}", "v"}, {"UNLINK", key}, {"GET", key}} {
						raw, err := c.Do(command...)
						if err != nil {
							t.Fatal(err)
						}
						if strings.HasPrefix(string(raw), "-") {
							return fmt.Errorf("%q: %q", command, raw)
						}
					}
				}
				return nil
			}))
			must(t, c.Close())
		}
	}
}

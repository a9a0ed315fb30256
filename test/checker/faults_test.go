package checker

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"readthrough/internal/lease"
	"readthrough/test/harness"
)

// faults does what can go wrong until ctx ends, and leaves all in order.
func (r *run) faults(ctx context.Context) {
	var all sync.WaitGroup
	fault := func(name string, every time.Duration, do func(ctx context.Context, rng *rand.Rand) (done bool, err error)) {
		if every == 0 {
			return
		}
		rng, times := r.rng(name), 0
		all.Go(func() {
			for {
				rest(ctx, time.Duration(rng.Int64N(int64(every))))
				if ctx.Err() != nil {
					r.count(tally{"faults: " + name: times})
					return
				}
				done, err := do(ctx, rng)
				if err != nil {
					r.failed(err)
				}
				if done {
					times++
				}
			}
		})
	}
	evictions, expiries := r.world.dial(), r.world.dial()
	defer evictions.close()
	defer expiries.close()
	fault("keys evicted", r.profile.evict, func(ctx context.Context, rng *rand.Rand) (bool, error) {
		s := r.subjects[rng.IntN(len(r.subjects))]
		return s.kind.evicted && remove(ctx, evictions, s.key.Load().name), nil
	})
	fault("leases expired", r.profile.expire, func(ctx context.Context, rng *rand.Rand) (bool, error) {
		return remove(ctx, expiries, leaseKey(r.subjects[rng.IntN(len(r.subjects))].key.Load().name)), nil
	})
	fault("connections cut", r.profile.cut, func(_ context.Context, rng *rand.Rand) (bool, error) {
		r.world.proxies[rng.IntN(len(r.world.proxies))].cut(rng)
		return true, nil
	})
	fault("slots moved", r.profile.move, func(ctx context.Context, rng *rand.Rand) (bool, error) {
		return true, r.move(ctx, rng)
	})
	for _, tag := range r.world.tags {
		fault("slots moved under a write, "+tag, r.profile.moveUnder, func(ctx context.Context, rng *rand.Rand) (bool, error) {
			err := r.moveUnder(ctx, rng, tag)
			rest(ctx, r.profile.moveRest)
			return true, err
		})
	}
	// One sidecar at a time is not there.
	if every := max(r.profile.kill, r.profile.pause); every > 0 {
		fault("sidecars killed or paused", every, func(ctx context.Context, rng *rand.Rand) (bool, error) {
			s := r.world.sidecars[rng.IntN(len(r.world.sidecars))]
			if r.profile.pause == 0 || r.profile.kill > 0 && rng.IntN(2) == 0 {
				r.count(tally{"faults: sidecars killed": 1})
				return true, s.restart(context.WithoutCancel(ctx))
			}
			// Leases live for the map's timeout, a second, and a margin.
			r.count(tally{"faults: sidecars paused": 1})
			return true, s.pause(ctx, time.Duration(500+rng.IntN(3000))*time.Millisecond)
		})
	}
	all.Wait()
}

// remove removes a key as expiry and eviction do, if it is there. On a slot that is moving it may not be found.
func remove(ctx context.Context, nodes *nodes, name string) bool {
	v, err := nodes.do(ctx, "UNLINK", name)
	return err == nil && v.Str == "1"
}

// owner is the master of a tag's slot.
func (r *run) owner(ctx context.Context, tag string) (*harness.Redis, error) {
	r.cluster.Lock()
	defer r.cluster.Unlock()
	slot, err := r.world.cluster.Slot(ctx, "{"+tag+"}")
	if err != nil {
		return nil, err
	}
	return r.world.cluster.MasterOf(ctx, slot)
}

// begin marks a tag's slot as on its way to another master.
func (r *run) begin(ctx context.Context, rng *rand.Rand, tag string) (*harness.Migration, error) {
	from, err := r.owner(ctx, tag)
	if err != nil {
		return nil, err
	}
	r.cluster.Lock()
	defer r.cluster.Unlock()
	slot, err := r.world.cluster.Slot(ctx, "{"+tag+"}")
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(r.world.cluster.Nodes(), func(n *harness.Redis) bool { return n == from })
	return r.world.cluster.BeginMigration(ctx, slot, others[rng.IntN(len(others))])
}

func (r *run) finish(ctx context.Context, m *harness.Migration) error {
	r.cluster.Lock()
	defer r.cluster.Unlock()
	return m.Finish(ctx)
}

// move moves the slot of a tag to another master, slowly, to its end.
func (r *run) move(ctx context.Context, rng *rand.Rand) error {
	whole := context.WithoutCancel(ctx)
	m, err := r.begin(whole, rng, r.world.tags[rng.IntN(len(r.world.tags))])
	if err != nil {
		return err
	}
	for n := 1; n > 0; {
		rest(ctx, time.Duration(rng.Int64N(int64(r.profile.moveHold))))
		if n, err = m.MoveKeys(whole, 1); err != nil {
			return err
		}
	}
	return r.finish(whole, m)
}

// moveUnder moves the slot of a key while it is written. The move begins when a SET has run, and takes lease keys along; it ends when
// a DEL has run, which found the key where it was and the lease key elsewhere. Whoever asked for the key before the SET ran may be
// loading it all the while.
func (r *run) moveUnder(ctx context.Context, rng *rand.Rand, tag string) (failed error) {
	whole := context.WithoutCancel(ctx)
	var here []*subject
	for _, s := range r.subjects {
		if s.tag == tag {
			here = append(here, s)
		}
	}
	c := &client{run: r, name: "mover of " + tag, via: r.world.sidecars[rng.IntN(len(r.world.sidecars))], rng: rng, seen: tally{}}
	defer func() {
		c.disconnect()
		r.count(c.seen)
	}()
	how := "DEL, SET, DEL under a move"
	c.exclusively(here[rng.IntN(len(here))], func(k *key) (known bool) {
		if !c.tell(whole, k, c.change(k, how, false), false, []string{"DEL", k.name}) {
			return false
		}
		w := c.change(k, how, false)
		set := c.telling(whole, k, w, setTo(k, w.version))
		from, err := r.owner(whole, tag)
		if err != nil {
			failed = err
			return set.answer()
		}
		if failed = set.until(whole, func() bool { return has(whole, from, k) }); failed != nil {
			return set.answer()
		}
		m, err := r.begin(whole, rng, tag)
		if err != nil {
			failed = err
			return set.answer()
		}
		failed = moveLeases(whole, m)
		if known = set.answer(); known && failed == nil {
			del := c.telling(whole, k, c.change(k, how, false), []string{"DEL", k.name})
			failed = del.until(whole, func() bool { return !has(whole, from, k) })
			failed = errors.Join(failed, r.finish(whole, m))
			return del.answer()
		}
		failed = errors.Join(failed, r.finish(whole, m))
		return known
	})
	return failed
}

// telling is a command that waits for its answer.
type telling struct {
	done chan struct{}
	ok   bool // when done
}

func (c *client) telling(ctx context.Context, k *key, w *write, command []string) *telling {
	t := &telling{done: make(chan struct{})}
	go func() {
		t.ok = c.tell(ctx, k, w, false, command)
		close(t.done)
	}()
	return t
}

// answer waits for the answer, and tells whether the command is known to have run.
func (t *telling) answer() bool {
	<-t.done
	return t.ok
}

// until waits until something is so, or for the answer.
func (t *telling) until(ctx context.Context, so func() bool) error {
	return harness.Poll(ctx, func() error {
		select {
		case <-t.done:
			return nil
		default:
		}
		if so() {
			return nil
		}
		return errors.New("a command does not run")
	})
}

// has tells whether a node has a key of one of its slots.
func has(ctx context.Context, n *harness.Redis, k *key) bool {
	v, err := n.Do(ctx, "EXISTS", k.name)
	return err == nil && v.Str == "1" // it is ASK when the slot is on its way, and the key is not there
}

// moveLeases moves the lease keys of a slot on its way.
func moveLeases(ctx context.Context, m *harness.Migration) error {
	v, err := m.From.Do(ctx, "CLUSTER", "GETKEYSINSLOT", strconv.Itoa(m.Slot), "1000")
	if err != nil {
		return err
	}
	names := slices.DeleteFunc(v.Strings(), func(name string) bool { return !lease.Is([]byte(name)) })
	if len(names) == 0 {
		return nil
	}
	host, port, err := net.SplitHostPort(m.To.Addr())
	if err != nil {
		return err
	}
	_, err = m.From.Do(ctx, append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, names...)...)
	return err
}

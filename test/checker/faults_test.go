package checker

import (
	"context"
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

// move moves the slot of a tag to another master, slowly, to its end.
func (r *run) move(ctx context.Context, rng *rand.Rand) error {
	cluster := r.world.cluster
	whole := context.WithoutCancel(ctx)
	slot, err := cluster.Slot(whole, "{"+r.world.tags[rng.IntN(len(r.world.tags))]+"}")
	if err != nil {
		return err
	}
	from, err := cluster.MasterOf(whole, slot)
	if err != nil {
		return err
	}
	var others []*harness.Redis
	for _, n := range cluster.Nodes() {
		if n != from {
			others = append(others, n)
		}
	}
	m, err := cluster.BeginMigration(whole, slot, others[rng.IntN(len(others))])
	if err != nil {
		return err
	}
	hold := func() {
		if r.profile.moveHold > 0 {
			rest(ctx, time.Duration(rng.Int64N(int64(r.profile.moveHold))))
		}
	}
	hold()
	for {
		if r.profile.moveLeases {
			if err := moveLeases(whole, m); err != nil {
				return err
			}
		}
		n, err := m.MoveKeys(whole, 1)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		hold()
	}
	return m.Finish(whole)
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

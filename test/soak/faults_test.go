package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"readthrough/test/harness"
)

// faults are drawn and made, one after the other.
type faults struct {
	world *world
	rng   *rand.Rand
	done  map[string]int
	log   []string
}

// run makes faults until ctx ends, and then sees to it that all is well again.
func (f *faults) run(ctx context.Context, t *testing.T) {
	kinds := []struct {
		name string
		make func(ctx context.Context) error
	}{
		{"master killed", f.kill},
		{"master stopped", f.pause},
		{"slot moved", f.move},
		{"PostgreSQL restarted", func(context.Context) error { return f.world.pg.Restart(t.Context()) }},
		{"connections cut", func(context.Context) error { f.gate().cut(f.rng); return nil }},
		{"connections slow", f.slow},
	}
	for turn := f.rng.IntN(len(kinds)); ctx.Err() == nil; turn++ {
		kind := kinds[turn%len(kinds)] // each as often
		began := time.Now()
		if err := kind.make(t.Context()); err != nil {
			t.Errorf("%s: %v", kind.name, err)
			return
		}
		f.log = append(f.log, fmt.Sprintf("%s %s, for %v", began.UTC().Format(time.StampMilli), kind.name, time.Since(began)))
		f.done[kind.name]++
		rest(ctx, 100*time.Millisecond+f.upTo(time.Second))
	}
	if err := f.world.cluster.WaitAgreed(t.Context()); err != nil {
		t.Error(err)
	}
}

func (f *faults) upTo(d time.Duration) time.Duration { return time.Duration(f.rng.Int64N(int64(d))) }

func (f *faults) gate() *gate { return f.world.gates[f.rng.IntN(len(f.world.gates))] }

func (f *faults) master(ctx context.Context) (*harness.Redis, error) {
	return f.world.cluster.MasterOf(ctx, f.world.slots[f.rng.IntN(len(tags))])
}

// kill kills a master, and starts it again when a replica of its has taken over.
func (f *faults) kill(ctx context.Context) error {
	n, err := f.master(ctx)
	if err != nil {
		return err
	}
	f.world.losing.Add(1)
	defer f.world.losing.Add(1)
	n.Kill()
	if err := f.world.cluster.WaitAgreed(ctx); err != nil {
		return err
	}
	if err := n.Restart(ctx); err != nil {
		return err
	}
	return f.world.cluster.WaitAgreed(ctx)
}

// pause stops a master for a time that may be long enough for a replica of its to take over.
func (f *faults) pause(ctx context.Context) error {
	n, err := f.master(ctx)
	if err != nil {
		return err
	}
	f.world.losing.Add(1)
	defer f.world.losing.Add(1)
	if err := n.Pause(); err != nil {
		return err
	}
	rest(ctx, 100*time.Millisecond+f.upTo(4*time.Second))
	if err := n.Resume(); err != nil {
		return err
	}
	return f.world.cluster.WaitAgreed(ctx)
}

// move moves a slot in use to another master, a few keys at a time.
func (f *faults) move(ctx context.Context) error {
	slot := f.world.slots[f.rng.IntN(len(tags))]
	owner, err := f.world.cluster.MasterOf(ctx, slot)
	if err != nil {
		return err
	}
	masters, err := f.world.cluster.Masters(ctx)
	if err != nil {
		return err
	}
	masters = slices.DeleteFunc(masters, func(n *harness.Redis) bool { return n == owner })
	if len(masters) == 0 {
		return fmt.Errorf("there is no other master")
	}
	m, err := f.world.cluster.BeginMigration(ctx, slot, masters[f.rng.IntN(len(masters))])
	if err != nil {
		return err
	}
	for range 1 + f.rng.IntN(5) {
		if _, err := m.MoveKeys(ctx, 3); err != nil {
			return err
		}
	}
	return m.Finish(ctx)
}

func (f *faults) slow(ctx context.Context) error {
	g := f.gate()
	g.delay.Store(int64(f.upTo(100 * time.Millisecond)))
	rest(ctx, f.upTo(time.Second))
	g.delay.Store(0)
	return nil
}

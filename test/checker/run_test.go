package checker

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// answerWithin bounds every answer: the three seconds for which a command may wait for its node or its slot, twice the map's timeout,
// and as much again for what the test delays and for a busy machine.
const answerWithin = 10 * time.Second

// run is one round: its clients, what they recorded, and what became of it.
type run struct {
	world    *world
	profile  profile
	seed     uint64
	ticks    ticks
	subjects []*subject
	cluster  sync.Mutex // of world.cluster while slots move

	mu     sync.Mutex // guards what is below
	keys   []*key
	waits  []wait
	found  []violation
	errs   []error
	counts tally
}

// rng is the random source of one client or fault.
func (r *run) rng(name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return rand.New(rand.NewPCG(r.seed, h.Sum64()))
}

// failed records that the test itself failed.
func (r *run) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

func (r *run) broken(promise, name, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = append(r.found, violation{promise, name, text})
}

func (r *run) waited(w wait) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waits = append(r.waits, w)
}

func (r *run) count(counts tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, n := range counts {
		r.counts[name] += n
	}
}

// newKey makes a key with its row, or the lack of one, as its first version.
func (r *run) newKey(kind *kind, tag string, absent bool) (*key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.world.ids++
	id := r.world.ids
	version, err := r.world.change(context.Background(), id, absent)
	if err != nil {
		return nil, err
	}
	k := &key{name: fmt.Sprintf("%s:{%s}:%d", kind.name, tag, id), id: id, kind: kind}
	k.wrote(&write{version: version, absent: absent, how: "the first row", client: "the test", acked: r.ticks.next()})
	r.keys = append(r.keys, k)
	return k, nil
}

// round lets clients and faults work for a while, waits until all is quiet, and judges what they saw.
func (w *world) round(t *testing.T, seed uint64, length time.Duration) *run {
	t.Helper()
	r := &run{world: w, profile: w.profile, seed: seed, counts: tally{}}
	rng := r.rng("keys")
	for _, kind := range r.profile.kinds {
		for _, tag := range w.tags {
			for range r.profile.keys {
				k, err := r.newKey(kind, tag, kind.rows && rng.IntN(2) == 0)
				if err != nil {
					t.Fatal(err)
				}
				s := &subject{kind: kind, tag: tag}
				s.key.Store(k)
				r.subjects = append(r.subjects, s)
			}
		}
	}
	for i, p := range w.proxies {
		p.reseed(seed + uint64(i)<<32)
	}

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var working sync.WaitGroup
	for _, via := range w.sidecars {
		for i := range r.profile.readers + r.profile.writers {
			name, work := fmt.Sprintf("reader %d of %s", i, via), (*client).read
			if i >= r.profile.readers {
				name, work = fmt.Sprintf("writer %d of %s", i, via), (*client).write
			}
			c := &client{run: r, name: name, via: via, rng: r.rng(name), own: i%3 == 2, seen: tally{}}
			working.Go(func() {
				work(c, ctx)
				r.count(c.seen)
			})
		}
	}
	working.Go(func() { r.faults(ctx) })
	working.Wait()

	if err := w.quiet(t.Context(), r.keys); err != nil {
		r.broken("P3", "quiet", err.Error())
	}
	r.judge(t.Context())
	return r
}

// judge looks through all that was recorded.
func (r *run) judge(ctx context.Context) {
	for _, w := range r.waits {
		r.found = append(r.found, w.judge(answerWithin)...)
	}
	nodes := r.world.dial()
	defer nodes.close()
	for _, k := range r.keys {
		r.found = append(r.found, k.judge()...)
		if err := r.left(ctx, nodes, k); err != nil {
			r.errs = append(r.errs, err)
		}
	}
}

// passed fails the test unless the round kept all promises, and shows what happened in it.
func (r *run) passed(t *testing.T) {
	t.Helper()
	for i, v := range r.found {
		if i == 10 {
			t.Errorf("and %d more", len(r.found)-i)
			break
		}
		t.Error(v)
	}
	if err := errors.Join(r.errs...); err != nil {
		t.Error(err)
	}
	reads, failed := 0, 0
	for name, n := range r.counts {
		if strings.HasPrefix(name, "reads answered") {
			reads += n
		}
		if strings.HasPrefix(name, "reads answered: error") {
			failed += n
		}
	}
	if reads == 0 || failed*10 > reads {
		t.Errorf("%d of %d reads were answered with errors", failed, reads)
	}
	t.Logf("round of seed %d:\n%s", r.seed, r.counts)
}

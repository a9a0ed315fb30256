package origin

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

func TestBound(t *testing.T) {
	var ran []int
	b := &bound{max: 2, queue: 3}
	enter := func(i int) bool { return b.enter(func() { ran = append(ran, i) }) }
	for i := range 7 {
		if got, want := enter(i), i < 5; got != want {
			t.Errorf("enter %d: %v", i, got)
		}
	}
	expectRan := func(want ...int) {
		t.Helper()
		if fmt.Sprint(ran) != fmt.Sprint(want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
	}
	expectRan(0, 1)
	b.leave()
	expectRan(0, 1, 2)
	enter(7)
	b.leave()
	b.leave()
	b.leave()
	expectRan(0, 1, 2, 3, 4, 7)
	b.leave()
	b.leave()
	if b.running != 0 || len(b.waiting) != 0 {
		t.Errorf("%d run and %d wait at the end", b.running, len(b.waiting))
	}
	enter(8)
	expectRan(0, 1, 2, 3, 4, 7, 8)

	none := &bound{queue: 3}
	if none.enter(func() { t.Error("was run") }) {
		t.Error("entered what lets nobody in")
	}
}

func TestBoundUnderLoad(t *testing.T) {
	b := &bound{max: 3, queue: 1 << 20}
	var running, most atomic.Int64
	var all sync.WaitGroup
	const n = 10_000
	all.Add(n)
	before := runtime.NumGoroutine()
	release := make(chan struct{})
	for range 8 {
		go func() {
			for range n / 8 {
				b.enter(func() {
					go func() {
						<-release
						now := running.Add(1)
						for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
						}
						if rand.IntN(4) == 0 {
							runtime.Gosched()
						}
						running.Add(-1)
						all.Done()
						b.leave()
					}()
				})
			}
		}()
	}
	eventually(t, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.waiting) < n-3 {
			return fmt.Errorf("%d wait", len(b.waiting))
		}
		return nil
	})
	eventually(t, func() error { // those that entered have ended
		if extra := runtime.NumGoroutine() - before; extra > 3 {
			return fmt.Errorf("%d goroutines for %d waiting", extra, n)
		}
		return nil
	})
	close(release)
	all.Wait()
	if most.Load() > 3 {
		t.Errorf("%d ran at a time", most.Load())
	}
}

func TestTooManyLoadsOfOneMap(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL()), Queue: 4}, Options{},
		Definition{Key: "k:<x:int>", Query: gatedQuery, Queue: 2},
		Definition{Name: "other", Key: "other:<x:int>", Query: gatedQuery})
	open := closeGate(t, db)
	var waiting []<-chan Answer
	for _, key := range []string{"k:1", "k:2", "other:1"} {
		waiting = append(waiting, begin(r, key))
	}
	began := time.Now()
	expect(t, r, "k:3", "-ORIGINBUSY map m: 2 loads of this map are under way")
	waiting = append(waiting, begin(r, "other:2"))
	expect(t, r, "other:3", "-ORIGINBUSY map other: 4 loads from origin main are under way")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to say so", took)
	}
	open()
	for i, a := range waiting {
		if got, want := show(await(t, a)), fmt.Sprintf(`{"x":%d}`, i%2+1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	eventually(t, func() error {
		if n := r.first.queued.Load(); n != 0 {
			return fmt.Errorf("%d loads are still counted", n)
		}
		return nil
	})
	expect(t, r, "k:3", `{"x":3}`)
}

package upstream

import (
	"testing"
	"time"

	"readthrough/internal/loop"
	"readthrough/internal/relay"
)

// An identity keeps its connections for a while after its last session has left, and no longer.
func TestIdleLanesAreClosed(t *testing.T) {
	l, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	u, err := New(Options{Addresses: []string{"127.0.0.1:1"}}, []*loop.Loop{l})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	s := u.Side(0)
	id := relay.Identity{Protocol: 2}
	age := func(d time.Duration) {
		s.lanes[id].idle = l.Now().Add(-d)
		s.tend()
	}
	first, err := s.Lane(id)
	if err != nil {
		t.Fatal(err)
	}
	if age(2 * laneIdle); s.lanes[id] == nil {
		t.Fatal("a lane in use is closed")
	}
	first.Release()
	if age(laneIdle / 2); s.lanes[id] == nil {
		t.Fatal("it is closed at once")
	}
	link := first.Link(relay.AnyNode)
	if age(2 * laneIdle); s.lanes[id] == nil {
		t.Fatal("a lane is closed whose link is in use")
	}
	link.Release(false)
	if age(2 * laneIdle); s.lanes[id] != nil {
		t.Fatal("it is not closed")
	}
}

// Attempts to connect do not come at the same time from all sidecars.
func TestBackoffHasJitter(t *testing.T) {
	for attempts := range maxAttempts {
		seen := map[time.Duration]bool{}
		for range 100 {
			d := backoff(attempts)
			if d < 0 || d > 250*time.Millisecond {
				t.Fatalf("attempt %d waits for %v", attempts, d)
			}
			seen[d] = true
		}
		if attempts > 0 && len(seen) < 50 {
			t.Errorf("attempt %d waits for one of %d times", attempts, len(seen))
		}
	}
	if backoff(0) != 0 {
		t.Error("the first attempt waits")
	}
}

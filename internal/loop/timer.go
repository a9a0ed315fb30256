package loop

import (
	"container/heap"
	"time"
)

// Timer is a call to come.
type Timer struct {
	when  time.Time
	f     func()
	index int // in the heap, -1 when it is not in it
	owner *timers
}

// After has f called on the loop when d has passed.
func (l *Loop) After(d time.Duration, f func()) *Timer {
	t := &Timer{when: time.Now().Add(d), f: f, owner: &l.timers}
	heap.Push(&l.timers, t)
	return t
}

// Stop keeps a timer from being called. It takes nil, and one that was called.
func (t *Timer) Stop() {
	if t != nil && t.index >= 0 {
		heap.Remove(t.owner, t.index)
	}
}

// timers is a heap by time.
type timers []*Timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].when.Before(h[j].when) }
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timers) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}

// run calls what is due at now.
func (h *timers) run(now time.Time) {
	for len(*h) > 0 && !(*h)[0].when.After(now) {
		heap.Pop(h).(*Timer).f()
	}
}

// until is the time from now to the first timer, negative when there is none.
func (h timers) until(now time.Time) time.Duration {
	if len(h) == 0 {
		return -1
	}
	return max(0, h[0].when.Sub(now))
}

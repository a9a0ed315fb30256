package origin

import "sync"

// enter counts a load in, among those that run or wait, or says that there are too many. leave counts it out.
func (d *database) enter(m *Map) *Error {
	if n := d.queued.Add(1); n > int64(d.conf.Queue) {
		d.queued.Add(-1)
		return newError(CodeBusy, m, nil, "%d loads from origin %s are under way", d.conf.Queue, d.conf.Name)
	}
	if n := m.queued.Add(1); n > int64(m.Queue) {
		d.leave(m)
		return newError(CodeBusy, m, nil, "%d loads of this map are under way", m.Queue)
	}
	return nil
}

func (d *database) leave(m *Map) {
	m.queued.Add(-1)
	d.queued.Add(-1)
}

// bound lets so many run at a time and has the others wait in the order in which they came, as functions and not as goroutines.
type bound struct {
	max   int
	queue int // that may wait

	mu      sync.Mutex
	running int
	waiting []func()
}

// enter has run called as soon as there is a place for it, which may be at once, and returns true; or it returns false, and run is never
// called. leave must be called for each call of run, later. run must not block, nor call leave itself: what takes its time begins a
// goroutine.
func (b *bound) enter(run func()) bool {
	b.mu.Lock()
	switch {
	case b.running < b.max:
		b.running++
		b.mu.Unlock()
		run()
		return true
	case b.max == 0 || len(b.waiting) >= b.queue:
		b.mu.Unlock()
		return false
	}
	b.waiting = append(b.waiting, run)
	b.mu.Unlock()
	return true
}

// leave gives the place to the one who has waited longest.
func (b *bound) leave() {
	b.mu.Lock()
	if len(b.waiting) == 0 {
		b.running--
		b.waiting = nil
		b.mu.Unlock()
		return
	}
	next := b.waiting[0]
	b.waiting[0] = nil
	b.waiting = b.waiting[1:]
	b.mu.Unlock()
	next()
}

package upstream

import "readthrough/internal/loop"

// queue is what waits for a connection that is being made. It counts as what the loop's connections hold.
type queue struct {
	loop *loop.Loop
	b    []byte
}

func (q *queue) add(raw []byte) {
	before := cap(q.b)
	q.b = append(q.b, raw...)
	q.loop.Hold(cap(q.b) - before)
}

// uncount says that nothing refers to the bytes for longer than this turn.
func (q *queue) uncount() { q.loop.Hold(-cap(q.b)) }

func (q *queue) free() {
	q.uncount()
	q.b = nil
}

package origin

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// turns shares an origin's connections between its maps, so that one map's trouble is not that of the others. A load has its turn for as
// long as it may use a connection. Loads of one map have theirs in the order in which they came, and the maps in rotation, however many
// loads of one of them wait. Maps whose queries have no answer in time have together no more than half of the connections, where there are
// several; and a map of which no query has ended yet has no more than half.
type turns struct {
	max int // loads that have a turn at a time: as many as there may be connections

	mu      sync.Mutex // guards the lines too
	running int        // loads that have a turn
	slow    int        // of them, those of lines that are slow
	lines   []*line    // those in which somebody waits, the next one first
}

// line is the loads of one map.
type line struct {
	pace    pace
	running int
	waiting []chan struct{} // closed when it is that load's turn
}

// pace is how the last query of a map has ended.
type pace uint8

const (
	untried pace = iota
	quick        // with an answer in time
	slow         // without one
)

// mayRun tells whether another load of a line may run beside those that do.
func (t *turns) mayRun(l *line) bool {
	half := max(1, t.max/2)
	switch l.pace {
	case quick:
		return true
	case slow:
		return t.slow < half
	default:
		return l.running < half
	}
}

// enter waits for a load's turn, or for ctx; then it is false. leave must be called where it was true.
func (t *turns) enter(ctx context.Context, l *line) bool {
	turn := make(chan struct{})
	t.mu.Lock()
	if l.waiting = append(l.waiting, turn); len(l.waiting) == 1 {
		t.lines = append(t.lines, l)
	}
	t.grant()
	t.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.Index(l.waiting, turn)
	if at < 0 {
		return true // it came at the same moment
	}
	if l.waiting = slices.Delete(l.waiting, at, at+1); len(l.waiting) == 0 {
		at = slices.Index(t.lines, l)
		t.lines = slices.Delete(t.lines, at, at+1)
	}
	return false
}

// leave ends a turn. The outcome is that of a query: nil where it was answered, errNeither where there was none.
func (t *turns) leave(l *line, outcome error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	l.running--
	if l.pace == slow {
		t.slow--
	}
	if !errors.Is(outcome, errNeither) {
		now := quick
		if outcome != nil {
			now = slow
		}
		t.set(l, now)
	}
	t.grant()
}

// set changes a line's pace.
func (t *turns) set(l *line, now pace) {
	if l.pace == slow {
		t.slow -= l.running
	}
	if l.pace = now; now == slow {
		t.slow += l.running
	}
}

// grant gives the turns that are free to those who wait. It must be called with mu held.
func (t *turns) grant() {
	for at := 0; at < len(t.lines) && t.running < t.max; {
		l := t.lines[at]
		if !t.mayRun(l) {
			at++
			continue
		}
		close(l.waiting[0])
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
		t.running++
		l.running++
		if l.pace == slow {
			t.slow++
		}
		t.lines = slices.Delete(t.lines, at, at+1)
		if len(l.waiting) > 0 {
			t.lines = append(t.lines, l)
		} else {
			l.waiting = nil
		}
	}
}

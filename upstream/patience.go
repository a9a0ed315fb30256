package upstream

import (
	"bytes"
	"errors"
	"time"

	"readthrough/internal/relay"
)

// errNoConnection is the cause when a command would not wait any longer for a connection that is being made.
var errNoConnection = errors.New("there is no connection yet")

// patienceOf is how long a request waits for a connection, and is sent again.
func patienceOf(r *relay.Request) time.Duration {
	if r.Patience > 0 {
		return r.Patience
	}
	return patience
}

// hasten sees to it that a request that was queued on a wire without a connection waits for that no longer than it may, nor for one that
// others have waited for as long: dialling a node that has gone without a word takes seconds.
func (w *wire) hasten(r *relay.Request) {
	if r.Patience == 0 {
		return
	}
	now := w.lane.side.loop.Now()
	if r.Deadline.IsZero() {
		since := w.began
		if o := w.lane.down[w.addr]; o != nil {
			since = o.since
		}
		if r.Deadline = since.Add(r.Patience); r.Deadline.Before(now) {
			r.Deadline = now
		}
	}
	if w.hurry == nil {
		w.hurry = w.lane.side.loop.After(r.Deadline.Sub(now), w.impatient)
	}
}

// impatient fails the requests that have waited for the connection for as long as they may. One that goes with an ASKING stays.
func (w *wire) impatient() {
	w.hurry = nil
	if w.closed || w.conn != nil {
		return
	}
	type failing struct {
		r   *relay.Request
		raw []byte
	}
	var failed []failing
	var next time.Time // of those that stay
	now := w.lane.side.loop.Now()
	queued, skip := w.queued.b, 0
	w.queued.free()
	w.tail = nil
	for at := &w.head; *at != nil; {
		r := *at
		raw := queued[skip : skip+r.Size]
		if r.Patience > 0 && !now.Before(r.Deadline) && !bytes.HasSuffix(queued[:skip], asking) {
			*at = r.Next
			r.Next = nil
			w.count--
			failed = append(failed, failing{r, raw})
		} else {
			w.queued.add(raw)
			w.tail = r
			at = &r.Next
			if r.Patience > 0 && now.Before(r.Deadline) && (next.IsZero() || r.Deadline.Before(next)) {
				next = r.Deadline
			}
		}
		skip += len(raw)
	}
	if !next.IsZero() {
		w.hurry = w.lane.side.loop.After(next.Sub(now), w.impatient)
	}
	for _, x := range failed {
		w.lane.fail(x.r, x.raw, errDown(w.addr, errNoConnection))
	}
}

// calm is called when the wire has its connection: what it has waited for that does not count any more.
func (w *wire) calm() {
	w.hurry.Stop()
	for r := w.head; r != nil; r = r.Next {
		if r.Patience > 0 && !r.Gating {
			r.Deadline = time.Time{}
		}
	}
}

package upstream

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"readthrough/internal/loop"
	"readthrough/internal/relay"
)

// parking holds the requests of a lane that wait to be sent again, in the order in which they were sent first.
type parking struct {
	requests []parked
	order    uint64 // of the request gated last
	wake     *loop.Timer
	due      time.Time // of wake
}

// parked is a request that waits to be sent again.
type parked struct {
	r     *relay.Request
	raw   []byte
	cause relay.Error // what its client is told when that takes too long
	due   time.Time
	alone bool // the node has refused it for now: it has to be answered before those behind it are sent
}

// errNoWay is the cause when a redirected command had to wait too long for those before it.
var errNoWay = errors.New("the commands before this one could not be sent")

// gate keeps the session of a request that is sent again from sending others until it is answered.
func (l *lane) gate(r *relay.Request) {
	if !r.Gating {
		r.Gating = true
		r.Owner.Gated++
		l.parked.order++
		r.Order = l.parked.order
	}
	if r.Deadline.IsZero() {
		r.Deadline = l.side.loop.Now().Add(patienceOf(r))
	}
}

// ungate lets the session of a request that was sent again go on.
func (l *lane) ungate(r *relay.Request) {
	if r.Gating {
		r.Gating = false
		r.Owner.Gated--
		if len(l.parked.requests) > 0 { // some may have waited for it
			l.wakeAt(l.side.loop.Now())
		}
	}
}

// fail tells a request's sink that there is no reply. raw is what was sent: the command and what leads it, or nil where it was not kept.
func (l *lane) fail(r *relay.Request, raw []byte, err error) {
	l.ungate(r)
	r.Raw = nil
	if raw != nil {
		r.Raw = raw[r.Lead:]
	}
	r.Sink.Fail(r, err)
}

// again has a command sent again, with raw for its own, that was lost on its way, or tells its client when it has been for too long.
func (l *lane) again(r *relay.Request, raw []byte, cause relay.Error) {
	l.gate(r)
	r.Attempts++
	if r.Attempts > maxAttempts || !l.side.loop.Now().Before(r.Deadline) {
		l.fail(r, raw, cause)
		return
	}
	l.side.stats.Resent++
	l.park(parked{r: r, raw: raw, cause: cause}, backoff(r.Attempts-1))
}

// backoff is the time before an attempt: none for the first, then growing to a quarter of a second, with jitter.
func backoff(attempts int) time.Duration {
	if attempts <= 0 {
		return 0
	}
	d := min(2*time.Millisecond<<min(attempts, 10), 250*time.Millisecond)
	return d/2 + rand.N(d/2)
}

// park keeps a gated request, with raw for its own, until it has waited.
func (l *lane) park(p parked, wait time.Duration) {
	p.due = l.side.loop.Now().Add(wait)
	if p.r.Deadline.Before(p.due) {
		p.due = p.r.Deadline
	}
	at := len(l.parked.requests)
	for at > 0 && l.parked.requests[at-1].r.Order > p.r.Order {
		at--
	}
	l.parked.requests = slices.Insert(l.parked.requests, at, p)
	l.side.loop.Hold(len(p.raw))
	l.wakeAt(p.due)
}

// wakeAt has unpark called at a time, unless it will be sooner.
func (l *lane) wakeAt(due time.Time) {
	if l.parked.wake != nil && !due.Before(l.parked.due) {
		return
	}
	l.parked.wake.Stop()
	l.parked.due = due
	l.parked.wake = l.side.loop.After(due.Sub(l.side.loop.Now()), func() { l.unpark(false) })
}

// overtakes tells whether an earlier request of the same session is parked.
func (l *lane) overtakes(r *relay.Request) bool {
	return slices.ContainsFunc(l.parked.requests, func(p parked) bool { return p.r.Owner == r.Owner && p.r.Order < r.Order })
}

// unpark sends the parked requests that are due, or all. The order of a session's stays: one waits with an earlier one that is not
// due, for the replies of those that are under way, and for that of a refused one before it.
func (l *lane) unpark(all bool) {
	waiting := l.parked.requests
	l.parked.requests = nil
	l.parked.wake.Stop()
	l.parked.wake = nil
	underWay := map[*relay.Owner]int{}
	for _, p := range waiting {
		if _, seen := underWay[p.r.Owner]; !seen {
			underWay[p.r.Owner] = p.r.Owner.Gated
		}
		underWay[p.r.Owner]--
	}
	held := map[*relay.Owner]bool{}
	for owner, n := range underWay {
		held[owner] = n > 0
	}
	now := l.side.loop.Now()
	for _, p := range waiting {
		owner := p.r.Owner
		if all {
			p.due = now
		}
		if next := l.nextDial(l.nodeOf(p.r)); next.After(p.due) {
			p.due = next
		}
		switch {
		case !now.Before(p.r.Deadline):
			l.side.loop.Hold(-len(p.raw))
			l.fail(p.r, p.raw, p.cause)
		case held[owner]: // the reply, or the one before it, sees to it
			l.parked.requests = append(l.parked.requests, p)
			l.wakeAt(p.r.Deadline)
		case p.due.After(now):
			held[owner] = true
			l.parked.requests = append(l.parked.requests, p)
			l.wakeAt(p.due)
			l.wakeAt(p.r.Deadline)
		default:
			held[owner] = p.alone
			l.side.loop.Hold(-len(p.raw))
			l.Send(p.r, p.raw)
		}
	}
}

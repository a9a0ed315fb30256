package origin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// MaxPause bounds the pauses of a breaker, which grow.
const MaxPause = 30 * time.Second

// mapFailures is how many loads of a map may end without an answer, one after the other, before the map is left alone.
const mapFailures = 20

// errNeither is an outcome that says nothing about what a breaker stands before.
var errNeither = errors.New("neither a success nor a failure")

// breaker keeps loads from what has failed so many times in a row that one more is not worth the wait. After a pause it lets one
// through, a probe: if that succeeds all are again, else the next pause is longer. The nil breaker lets everything through.
//
// Counting, the states, and that an outcome from before a change of state says nothing any more are gobreaker's. Its pause is of one
// length, so it is told to make none, and the pauses are made here.
type breaker struct {
	first   time.Duration                    // pause
	changed func(open bool, refusal refusal) // called when it opens and closes, with mu held; may be nil

	mu       sync.Mutex // around machine too
	machine  *gobreaker.TwoStepCircuitBreaker[struct{}]
	failures int       // in a row
	cause    error     // of the last of them
	opened   int       // times since it was closed
	until    time.Time // no probe before
	probing  bool
}

func newBreaker(failures int, pause time.Duration, changed func(bool, refusal)) *breaker {
	if failures == 0 {
		return nil
	}
	b := &breaker{first: pause, changed: changed}
	b.machine = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       1, // ns: enter makes the pause
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= uint32(failures) },
		IsExcluded:    func(err error) bool { return errors.Is(err, errNeither) },
		OnStateChange: b.change,
	})
	return b
}

// refusal is why a breaker lets nothing through.
type refusal struct {
	failures int
	next     time.Duration // until the next probe; 0 while one is under way
	cause    error         // of the last failure
}

// when says when the next load is let through.
func (r refusal) when() string {
	switch {
	case r.next <= 0:
		return "the next try is under way"
	case r.next < 100*time.Millisecond:
		return fmt.Sprintf("next try in %s", max(time.Millisecond, r.next.Round(time.Millisecond)))
	default:
		return fmt.Sprintf("next try in %s", r.next.Round(100*time.Millisecond))
	}
}

// permit is a load that a breaker has let through.
type permit struct {
	breaker *breaker
	done    func(error)
	probe   bool
}

// enter lets a load through, or says why not. The permit must be ended.
func (b *breaker) enter() (permit, *refusal) {
	if b == nil {
		return permit{}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.refusal(); r != nil {
		return permit{}, r
	}
	done, err := b.machine.Allow()
	if err != nil {
		return permit{}, &refusal{failures: b.failures, cause: b.cause}
	}
	b.probing = b.opened > 0
	return permit{b, done, b.probing}, nil
}

// end says how the load ended: nil for well, errNeither, or a failure.
func (p permit) end(outcome error) {
	b := p.breaker
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.probe {
		b.probing = false
	}
	switch {
	case outcome == nil:
		if p.probe || b.opened == 0 {
			b.failures, b.cause = 0, nil
		}
	case !errors.Is(outcome, errNeither):
		b.failures++
		b.cause = outcome
	}
	p.done(outcome)
}

// refuses says why a load would not be let through now; nil where it would.
func (b *breaker) refuses() *refusal {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refusal()
}

func (b *breaker) refusal() *refusal {
	next := time.Until(b.until)
	switch {
	case b.opened == 0:
		return nil
	case b.probing:
		next = 0
	case next <= 0:
		return nil
	}
	return &refusal{b.failures, next, b.cause}
}

// change is called by the machine, with mu held.
func (b *breaker) change(_ string, _, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		pause := growing(b.first, MaxPause, b.opened)
		b.opened++
		b.until = time.Now().Add(pause)
		if b.changed != nil {
			b.changed(true, refusal{b.failures, pause, b.cause})
		}
	case gobreaker.StateClosed:
		b.opened = 0
		if b.changed != nil {
			b.changed(false, refusal{})
		}
	}
}

// open reports whether loads are kept out, but for probes.
func (b *breaker) open() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened > 0
}

// growing is the length of the n-th pause, from 0: it doubles from first to most, less a random part of up to a half, since a
// thousand pods must not come back together.
func growing(first, most time.Duration, n int) time.Duration {
	pause := most
	if n < 20 && first<<n < most && first<<n > 0 {
		pause = first << n
	}
	if half := int64(pause / 2); half > 0 {
		pause -= time.Duration(rand.Int64N(half))
	}
	return pause
}

// refused tells of a map that the origin is left alone.
func (d *database) refused(m *Map, r *refusal) *Error {
	return newError(CodeDown, m, r.cause, "%s", d.refusedText(*r))
}

func (d *database) refusedText(r refusal) string {
	return fmt.Sprintf("origin %s has failed %d times in a row: %s (last: %s)", d.conf.Name, r.failures, r.when(), connectCause(r.cause))
}

// refused tells that the map is left alone.
func (m *Map) refused(r *refusal) *Error {
	return newError(CodeTimeout, m, r.cause, "%d loads in a row had no answer: %s", r.failures, r.when())
}

// mapBreaker is the map's breaker, where the origin has breakers at all.
func (d *database) mapBreaker(m *Map) *breaker {
	if d.breaker == nil {
		return nil
	}
	return m.breaker
}

// guarded loads what the breakers let through, and tells them how it went.
func (d *database) guarded(ctx context.Context, queries []*query, room *room) {
	through := make([]*query, 0, len(queries))
	permits := make([]permit, 0, len(queries))
	for _, q := range queries {
		p, refused := d.mapBreaker(q.m).enter()
		if refused != nil {
			q.failure = q.m.refused(refused)
			continue
		}
		through, permits = append(through, q), append(permits, p)
	}
	outcome := errNeither // also where a panic ends it
	defer func() {
		for i, p := range permits {
			p.end(through[i].outcome)
		}
	}()
	if len(through) == 0 {
		return
	}
	p, refused := d.breaker.enter()
	if refused != nil {
		for _, q := range through {
			q.failure = d.refused(q.m, refused)
		}
		return
	}
	defer func() { p.end(outcome) }()
	if p.probe {
		d.backoff.dueNow()
	}
	outcome = d.loadSome(ctx, through, room)
}

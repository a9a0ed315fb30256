package origin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	mrand "math/rand/v2"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"readthrough/internal/lease"
)

// How is how keys are resolved.
type How int

const (
	WithLease   How = iota // one pod of all loads, and fills in what it has loaded
	WithoutFill            // load, and leave Redis as it is
	FailOpen               // load because Redis does not answer: nothing keeps other pods from the same load
)

// Answer is what becomes of a key that Redis does not have.
type Answer struct {
	Value []byte // shared by all who waited for it: not to be changed
	Found bool   // false where no row, or no map, has the key
	Err   error  // an *Error, or ErrWrongType, or nil
}

// ErrWrongType is the answer when Redis has got something under the key meanwhile that is no string.
var ErrWrongType = errors.New("WRONGTYPE Operation against a key holding the wrong kind of value")

// maxTogether bounds the keys that are worked on at a time for one request: each takes some memory while it is.
const maxTogether = 1024

// Resolve answers keys that Redis does not have. It never blocks, and keeps nothing of keys. done is called once with an answer for each
// of them, in their order, from any goroutine, and before Resolve returns where there is nothing to wait for; it must not block
// either. The loads that it begins are made together, up to maxTogether of them; further keys come after those.
func (r *Resolver) Resolve(keys [][]byte, how How, done func([]Answer)) {
	own := make([][]byte, len(keys))
	for i, key := range keys {
		own[i] = append([]byte(nil), key...)
	}
	if len(keys) <= maxTogether {
		r.resolve(own, how, done)
		return
	}
	all := make([]Answer, 0, len(keys))
	var next func()
	next = func() {
		round := own[len(all):min(len(all)+maxTogether, len(own))]
		r.resolve(round, how, func(answers []Answer) {
			if all = append(all, answers...); len(all) == len(own) {
				done(all)
				return
			}
			go next() // what answers may not begin the next round, which can be answered at once
		})
	}
	next()
}

// resolve is Resolve of keys that are its own.
func (r *Resolver) resolve(keys [][]byte, how How, done func([]Answer)) {
	q := &request{how: how, answers: make([]Answer, len(keys)), left: len(keys), done: done}
	maps := r.maps.Load()
	var waiters []*waiter
	var found []matched
	unmapped := 0
	for i, key := range keys {
		m, params, ok := maps.Match(key)
		if !ok {
			unmapped++
			continue
		}
		waiters = append(waiters, &waiter{request: q, index: i})
		found = append(found, matched{key, m, params})
	}

	r.mu.Lock()
	q.left -= unmapped
	if q.left == 0 {
		r.mu.Unlock()
		done(q.answers)
		return
	}
	for i, w := range waiters {
		m := found[i].m
		w.timer = time.AfterFunc(m.Wait, func() { r.giveUp(w, m) })
	}
	begun, away := r.join(how, waiters, found)
	r.mu.Unlock()

	if begun != nil {
		go r.run(begun)
	}
	for _, f := range away {
		r.answer(f.w, f.m, Answer{Err: f.err})
	}
}

// run is the goroutine of a flight. Whatever happens, everybody gets an answer.
func (r *Resolver) run(b *flight) {
	defer r.running.Done()
	defer r.recovered(b.calls)
	switch {
	case b.how == FailOpen:
		r.load(b.calls, unprotected)
	case b.how == WithoutFill || r.opts.Leases == nil:
		r.load(b.calls, unleased)
	default:
		r.lease(b.calls)
	}
}

// recovered ends the calls of a goroutine that panics. It must be deferred.
func (r *Resolver) recovered(calls []*call) {
	p := recover()
	if p == nil {
		return
	}
	r.opts.Log.Error("panic in a load", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
	for _, c := range calls {
		r.end(c, Answer{Err: newError(CodeError, c.m, fmt.Errorf("panic: %v", p), "internal error")}, everybody)
	}
}

// lease asks Redis for the right to load each key, and loads those for which it is given. Keys that others load are asked for again
// until there is something to be had.
func (r *Resolver) lease(calls []*call) {
	token := rand.Text()
	for attempt := 0; ; attempt++ {
		calls = r.abandoned(calls)
		if len(calls) == 0 {
			return
		}
		keys := make([][]byte, len(calls))
		var longest time.Duration
		for i, c := range calls {
			keys[i] = c.key
			longest = max(longest, c.m.Timeout)
		}
		r.sending(calls)
		proofs := make([]int, len(calls))
		for i, c := range calls {
			proofs[i] = c.sent // which this goroutine alone changes
		}
		ctx, cancel := context.WithTimeout(r.background, longest)
		acquired := r.opts.Leases.Acquire(ctx, keys, token, leaseTime(longest))
		cancel()

		var others []*call
		var todo [courses][]*call
		for i, a := range acquired {
			c := calls[i]
			switch a.State {
			case lease.Hit:
				r.opts.Observer.Leased(c.m.Name, LeaseHit)
				answer := Answer{Value: a.Value, Found: true}
				if a.Value == nil {
					answer = Answer{Err: ErrWrongType}
				}
				r.end(c, answer, proofs[i])
			case lease.Missing:
				r.opts.Observer.Leased(c.m.Name, LeaseMissing)
				r.end(c, Answer{}, proofs[i])
			case lease.Wait:
				if attempt == 0 {
					r.opts.Observer.Leased(c.m.Name, LeaseWaits)
				}
				others = append(others, c)
			case lease.Granted:
				r.opts.Observer.Leased(c.m.Name, LeaseGranted)
				c.grant = a.Grant
				todo[leased] = append(todo[leased], c)
			default:
				course := r.without(c.m, a.Err)
				todo[course] = append(todo[course], c)
			}
		}
		for as, calls := range todo {
			r.load(calls, course(as))
		}
		calls = others
		if len(calls) > 0 {
			r.pause(attempt)
		}
	}
}

// without says how a key is loaded whose lease could not be had, and why that was.
func (r *Resolver) without(m *Map, err error) course {
	switch {
	case errors.Is(err, lease.ErrNone):
		r.opts.Observer.Leased(m.Name, LeaseNone)
		return unleased
	case errors.Is(err, lease.ErrMoving):
		r.opts.Observer.Leased(m.Name, LeaseMoving)
		return unleased
	case errors.Is(err, lease.ErrRefused):
		r.opts.Observer.Leased(m.Name, LeaseRefused)
		r.failures.Warn("Redis refuses leases: values are loaded, and not filled in", zap.String("reason", err.Error()))
		return unprotected
	default:
		r.opts.Observer.Leased(m.Name, LeaseFailed)
		r.failures.Warn("Redis does not answer: values are loaded without it", zap.Error(err))
		return unprotected
	}
}

// leaseTime is how long a lease lives. It is more than a load may take, and so much less than what a GET may wait, by default, that
// another pod can load after one that has died.
func leaseTime(timeout time.Duration) time.Duration {
	return timeout + max(timeout/5, 20*time.Millisecond)
}

// The pause before another pod's lease is looked at again grows from minPoll to maxPoll, with jitter.
const (
	minPoll = 2 * time.Millisecond
	maxPoll = 50 * time.Millisecond
)

func (r *Resolver) pause(attempt int) {
	d := minPoll << min(attempt, 10)
	d = min(d, maxPoll)
	timer := time.NewTimer(d/2 + mrand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.background.Done():
	}
}

// course is in which way a value is loaded.
type course int

const (
	leased      course = iota // and filled in
	unleased                  // and left alone
	unprotected               // the same, and other pods do it, too, since Redis fails: a bound of its own holds
	courses     = iota
)

// load loads the values of calls, those of one database in one round trip, and ends them. Those that Redis does not protect wait for
// their turn, without this goroutine.
func (r *Resolver) load(calls []*call, as course) {
	for len(calls) > 0 {
		db := calls[0].db
		var those, rest []*call
		for _, c := range calls {
			if c.db == db {
				those = append(those, c)
			} else {
				rest = append(rest, c)
			}
		}
		calls = rest
		if as == unprotected {
			r.queue(db, those)
		} else {
			r.loadFrom(db, those, as)
		}
	}
}

// queue has calls loaded when it is their turn.
func (r *Resolver) queue(db *database, calls []*call) {
	r.running.Add(1)
	queued := db.failOpen.enter(func() {
		go func() {
			defer r.running.Done()
			defer db.failOpen.leave()
			defer r.recovered(calls)
			if wanted := r.abandoned(calls); len(wanted) > 0 {
				r.loadFrom(db, wanted, unprotected)
			}
		}()
	})
	if queued {
		return
	}
	r.running.Done()
	for _, c := range calls {
		r.opts.Observer.Loaded(c.m.Name, OutcomeBusy, 0)
		r.end(c, Answer{Err: newError(CodeBusy, c.m, nil, "Redis fails, and too many loads wait that go without it")}, everybody)
	}
}

// loadFrom is load from one database.
func (r *Resolver) loadFrom(db *database, calls []*call, as course) {
	var timeout time.Duration
	for _, c := range calls {
		timeout = max(timeout, c.m.Timeout)
	}
	ctx, cancel := context.WithTimeout(r.background, timeout)
	defer cancel()
	late := time.AfterFunc(timeout+lateness, func() {
		for _, c := range calls {
			r.end(c, Answer{Err: timeoutError(c.m, timeout, context.DeadlineExceeded)}, everybody)
		}
	})
	defer late.Stop()

	items := make([]loadItem, len(calls))
	for i, c := range calls {
		items[i] = loadItem{c.m, c.params}
	}
	r.sending(calls)
	proofs := make([]int, len(calls))
	for i, c := range calls {
		proofs[i] = c.sent
	}
	began := time.Now()
	results := db.loadAll(ctx, items)
	took := time.Since(began)

	var fills []*call
	var answers []Answer
	var unused []lease.Grant
	for i, result := range results {
		c, answer := calls[i], Answer{Value: result.value, Found: result.value != nil}
		r.observe(c.m, result, took)
		fits := len(result.value) <= c.m.MaxValue
		switch {
		case result.failure != nil:
			r.end(c, Answer{Err: result.failure}, everybody)
		case as == leased && fits && r.filling(c, answer, proofs[i]):
			fills = append(fills, c)
			answers = append(answers, answer)
			continue
		case as == leased && !fits:
			r.opts.Observer.Filled(c.m.Name, FillTooLarge)
			fallthrough
		default:
			r.end(c, answer, proofs[i])
		}
		if as == leased {
			unused = append(unused, c.grant)
		}
	}
	if len(fills) > 0 {
		r.fill(fills, answers)
	}
	if len(unused) > 0 {
		ctx, cancel := context.WithTimeout(r.background, timeout)
		defer cancel()
		r.opts.Leases.GiveBack(ctx, unused)
	}
}

func (r *Resolver) observe(m *Map, result loaded, took time.Duration) {
	switch {
	case result.failure != nil:
		r.opts.Observer.Loaded(m.Name, result.failure.outcome(), took)
		r.logFailure(m, result.failure)
	case result.value == nil:
		r.opts.Observer.Loaded(m.Name, OutcomeNone, took)
	default:
		r.opts.Observer.Loaded(m.Name, OutcomeFound, took)
	}
}

// filling notes what was loaded while it is being filled in: a waiter whose time is up gets it, and not an error. Nobody joins from now
// on. It is false where nobody waits any more: what came too late is not filled in.
func (r *Resolver) filling(c *call, answer Answer, queried int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.ended {
		return false
	}
	r.seal(c)
	c.value, c.queried = &answer, queried
	c.sent++
	return true
}

// fill has Redis take what was loaded, and answers then, so that who has the answer finds it in Redis. That Redis does not take it is
// counted, and no error: those who waited since before the query have its value all the same.
func (r *Resolver) fill(calls []*call, answers []Answer) {
	fills := make([]lease.Fill, len(calls))
	timeout := time.Duration(math.MaxInt64)
	for i, c := range calls {
		fills[i] = r.filled(c.m, c.grant, answers[i])
		timeout = min(timeout, c.m.Timeout)
	}
	ctx, cancel := context.WithTimeout(r.background, timeout)
	defer cancel()
	accepted, errs := r.opts.Leases.Fill(ctx, fills)
	for i, c := range calls {
		proof := c.queried
		switch {
		case errs[i] != nil:
			r.opts.Observer.Filled(c.m.Name, FillFailed)
			r.opts.Log.Debug("fill failed", zap.String("map", c.m.Name), zap.Error(errs[i]))
		case accepted[i]:
			proof = everybody
			if answers[i].Found {
				r.opts.Observer.Filled(c.m.Name, FillStored)
			} else if c.m.Missing > 0 {
				r.opts.Observer.Filled(c.m.Name, FillMissing)
			}
		default:
			r.opts.Observer.Filled(c.m.Name, FillRefused)
		}
		r.end(c, answers[i], proof)
	}
}

// filled is an answer as it goes into Redis.
func (r *Resolver) filled(m *Map, grant lease.Grant, answer Answer) lease.Fill {
	return lease.Fill{
		Grant: grant, Value: answer.Value, Found: answer.Found,
		TTL: m.expiry() + m.Stale, Stale: m.Stale, Missing: m.Missing,
	}
}

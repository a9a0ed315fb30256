package origin

import (
	"slices"
	"time"

	"readthrough/internal/lease"
)

// call is the work on one key that is missing, and those who wait for it.
//
// Who may have its result: a value is as old as what produced it - an acquire, a poll or a query - and somebody who began to wait after
// that was sent may have seen a newer one written. So each waiter remembers how much had been sent when it joined, and a result proves
// itself to those who joined before the command that produced it. A fill that Redis accepts says that nobody has written since
// the lease was granted: the value is then good for all who joined before the fill was sent, and later ones are not let in. All others
// start over. The caller that began the call has joined before anything was sent, and can always have its result.
//
// The rules are those of a model in which random and exhaustive schedules were tried; docs/consistency.md tells more.
type call struct {
	m         *Map
	db        *database
	admission *admission // shared with the calls of the same flight and map
	key       []byte
	params    Params // views of key

	grant lease.Grant // the right to fill, while it is held; used by the flight's goroutine alone

	// All of the rest is guarded by Resolver.mu.

	waiters []*waiter
	sent    int     // acquires, polls, queries and fills that were sent
	value   *Answer // what was loaded, while it is being filled in
	queried int     // sent, as of the query that has loaded it
	ended   bool
}

// waiter is one key of a request.
type waiter struct {
	request *request
	index   int   // of the key in the request
	call    *call // that it waits for, guarded by Resolver.mu
	joined  int   // call.sent when it joined, guarded by Resolver.mu
	timer   *time.Timer
	done    bool // guarded by Resolver.mu
}

// request is one Resolve.
type request struct {
	how     How
	answers []Answer
	left    int // answers that are to come, guarded by Resolver.mu
	done    func([]Answer)
}

// flight is calls that are worked on together by one goroutine.
type flight struct {
	how        How
	calls      []*call
	admissions []*admission // of its maps
}

// join has waiters wait for the calls for their keys, and begins those that are not under way. keys[i] and its match belong to waiters[i].
// It returns the new ones, which are the caller's to run, and the waiters that cannot wait, with the reason. It must be called with the
// lock held.
func (r *Resolver) join(how How, waiters []*waiter, keys []matched) (begun *flight, away []turnedAway) {
	f := &flight{how: how}
	for i, w := range waiters {
		k := &keys[i]
		if r.closed {
			away = append(away, turnedAway{w, k.m, newError(CodeDown, k.m, nil, "the sidecar is shutting down")})
			continue
		}
		c := r.calls[string(k.key)]
		if c == nil || c.m != k.m { // after a change of the maps nobody joins what began before
			var failure *Error
			if c, failure = r.begin(f, k); failure != nil {
				away = append(away, turnedAway{w, k.m, failure})
				continue
			}
			f.calls = append(f.calls, c)
		} else {
			r.opts.Observer.Joined(k.m.Name)
		}
		w.call, w.joined = c, c.sent
		c.waiters = append(c.waiters, w)
	}
	if len(f.calls) == 0 {
		return nil, away
	}
	r.running.Add(1)
	return f, away
}

// matched is a key and its map.
type matched struct {
	key    []byte
	m      *Map
	params Params // views of key
}

// turnedAway is a waiter that could not join, and why.
type turnedAway struct {
	w   *waiter
	m   *Map
	err *Error
}

// admission is the place that the calls of one flight and map have together among the loads that run or wait, as they are loaded in one
// round trip. Resolver.mu guards it.
type admission struct {
	m     *Map
	calls int
}

// begin makes a call of a flight, unless too many loads are under way. It must be called with the lock held.
func (r *Resolver) begin(f *flight, k *matched) (*call, *Error) {
	db := r.database(k.m)
	at := slices.IndexFunc(f.admissions, func(a *admission) bool { return a.m == k.m })
	if at < 0 {
		if failure := db.enter(k.m); failure != nil {
			r.opts.Observer.Loaded(k.m.Name, OutcomeBusy, 0)
			return nil, failure
		}
		at = len(f.admissions)
		f.admissions = append(f.admissions, &admission{m: k.m})
	}
	a := f.admissions[at]
	a.calls++
	c := &call{m: k.m, db: db, admission: a, key: k.key, params: k.params}
	r.calls[string(k.key)] = c
	return c, nil
}

// leave gives up a call's share of its admission. It must be called with the lock held.
func (c *call) leave() {
	if c.admission.calls--; c.admission.calls == 0 {
		c.db.leave(c.m)
	}
}

// sending counts something that is about to be sent, which may produce the result of the calls.
func (r *Resolver) sending(calls []*call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range calls {
		c.sent++
	}
}

// seal keeps others from joining a call. It must be called with the lock held.
func (r *Resolver) seal(c *call) {
	if r.calls[string(c.key)] == c {
		delete(r.calls, string(c.key))
	}
}

// Forget says that a key is about to be written: who comes after the write does not join what began before. It is quick.
func (r *Resolver) Forget(key []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.calls[string(key)]; c != nil {
		r.seal(c)
	}
}

// everybody is a proof for all who have joined.
const everybody = int(^uint(0) >> 1)

// end ends a call, the first time that it is called: those who joined before something was sent, as the proof says, have the answer.
// The others start over.
func (r *Resolver) end(c *call, answer Answer, proof int) {
	r.mu.Lock()
	if c.ended {
		r.mu.Unlock()
		return
	}
	if c.value != nil && answer.Err != nil { // a panic after the value was there does not take it back
		answer, proof = *c.value, c.queried
	}
	c.ended = true
	r.seal(c)
	c.leave()
	var answered, again []*waiter
	for _, w := range c.waiters {
		switch {
		case w.done:
		case w.joined < proof:
			answered = append(answered, w)
		default:
			again = append(again, w)
		}
	}
	c.waiters, c.value = nil, nil
	var begun *flight
	var away []turnedAway
	if len(again) > 0 {
		keys := make([]matched, len(again))
		for i := range keys {
			keys[i] = matched{c.key, c.m, c.params}
		}
		r.opts.Observer.StartedOver(c.m.Name, len(again))
		begun, away = r.join(again[0].request.how, again, keys)
	}
	r.mu.Unlock()

	if begun != nil {
		go r.run(begun)
	}
	for _, w := range answered {
		r.answer(w, c.m, answer)
	}
	for _, f := range away {
		r.answer(f.w, f.m, Answer{Err: f.err})
	}
}

// giveUp answers a waiter whose time is up. The call goes on for the others.
func (r *Resolver) giveUp(w *waiter, m *Map) {
	answer := Answer{Err: timeoutError(m, m.Wait, nil)}
	r.mu.Lock()
	if c := w.call; c != nil && c.value != nil && w.joined < c.queried {
		answer = *c.value // it is there, and being filled in
	}
	r.mu.Unlock()
	r.answer(w, m, answer)
}

// answer gives a waiter its answer, if it has none. It must be called without the lock.
func (r *Resolver) answer(w *waiter, m *Map, answer Answer) {
	r.mu.Lock()
	if w.done {
		r.mu.Unlock()
		return
	}
	w.done, w.call = true, nil
	q := w.request
	q.answers[w.index] = r.softened(m, answer)
	q.left--
	last := q.left == 0
	r.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	if last {
		q.done(q.answers)
	}
}

// abandoned takes the calls that nobody waits for any more out of a flight's. The rest is returned.
func (r *Resolver) abandoned(calls []*call) (wanted []*call) {
	for _, c := range calls {
		r.mu.Lock()
		waits := false
		for _, w := range c.waiters {
			waits = waits || !w.done
		}
		r.mu.Unlock()
		if waits {
			wanted = append(wanted, c)
		} else {
			r.end(c, Answer{}, 0)
		}
	}
	return wanted
}

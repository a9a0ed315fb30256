package origin

import (
	"context"
	"crypto/rand"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"readthrough/internal/lease"
)

// A map with stale has its values kept in Redis for longer than they are good. Past their time they are still served, and one pod
// loads them anew in the background. A value that anybody else has written is left alone: the lease key bears a mark only while it is
// ours that is there.

const (
	// maxRenewals bounds the values that are looked at, or loaded anew, at a time.
	maxRenewals = 8
	// maxRested bounds the keys of which it is known that they need no look for a while, and maxRest that while: what was known is
	// wrong when the key was written meanwhile.
	maxRested = 4096
	maxRest   = time.Minute
)

// renewals is what is known of hits. Resolver.mu guards it.
type renewals struct {
	running int
	busy    map[string]struct{}  // keys
	rested  map[string]time.Time // keys, and until when they need no look
}

// Refreshes tells whether any map wants to hear of hits.
func (r *Resolver) Refreshes() bool { return r.maps.Load().stale }

// Hit says that Redis has the value of a mapped key, so that it can be loaded anew when it is past its time. It need not be told of
// every hit. It never blocks, and keeps nothing of key.
func (r *Resolver) Hit(key []byte) {
	var spans [maxCaptures]span
	if m := r.maps.Load().match(key, &spans); m == nil || m.Stale == 0 || r.opts.Leases == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := &r.renewals
	if _, busy := n.busy[string(key)]; busy || r.closed || n.running == maxRenewals {
		return
	}
	if until, rests := n.rested[string(key)]; rests {
		if time.Now().Before(until) {
			return
		}
		delete(n.rested, string(key))
	}
	k := string(key)
	n.running++
	n.busy[k] = struct{}{}
	r.running.Add(1)
	go r.renew(k)
}

// renew looks at a value and loads it anew where it is past its time.
func (r *Resolver) renew(key string) {
	defer r.running.Done()
	rest := time.Duration(0)
	defer func() {
		if p := recover(); p != nil {
			r.opts.Log.Error("panic in a renewal", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
		}
		r.rest(key, rest)
	}()
	m, params, ok := r.maps.Load().Match([]byte(key))
	if !ok {
		return
	}
	rest = r.renewAs(m, []byte(key), params)
}

// renewAs is renew under a map. It returns for how long the key needs no look.
func (r *Resolver) renewAs(m *Map, key []byte, params Params) (rest time.Duration) {
	lasts := leaseTime(m.Timeout)
	ctx, cancel := context.WithTimeout(r.background, m.Timeout)
	defer cancel()
	seen := r.opts.Leases.Renew(ctx, key, rand.Text(), lasts)
	switch seen.State {
	case lease.Wait:
		return seen.Due
	case lease.Missing:
		return min(m.TTL, maxRest)
	case lease.Hit, lease.Granted:
	default:
		r.opts.Observer.Renewed(m.Name, RenewalFailed)
		r.opts.Log.Debug("a value past its time could not be looked at", zap.String("map", m.Name), zap.Error(seen.Err))
		return lasts
	}
	value, failure := r.reload(m, params)
	if failure != nil { // the value stays; who else may try is for the lease to say
		r.opts.Observer.Renewed(m.Name, RenewalFailed)
		return lasts
	}
	if len(value) > m.MaxValue {
		r.opts.Observer.Filled(m.Name, FillTooLarge)
		return maxRest
	}
	ctx, cancel = context.WithTimeout(r.background, m.Timeout)
	defer cancel()
	fill := r.filled(m, seen.Grant, Answer{Value: value, Found: value != nil})
	accepted, err := r.opts.Leases.Replace(ctx, fill, seen.Fingerprint)
	switch {
	case err != nil:
		r.opts.Observer.Renewed(m.Name, RenewalFailed)
	case accepted:
		r.opts.Observer.Renewed(m.Name, RenewalStored)
		return fill.TTL - fill.Stale
	default:
		r.opts.Observer.Renewed(m.Name, RenewalRefused)
	}
	return lasts
}

// reload loads a value in the background, where there is room for it.
func (r *Resolver) reload(m *Map, params Params) ([]byte, *Error) {
	db := r.database(m)
	if failure := db.enter(m); failure != nil {
		return nil, failure
	}
	defer db.leave(m)
	ctx, cancel := context.WithTimeout(r.background, m.Timeout)
	defer cancel()
	began := time.Now()
	result := db.loadAll(ctx, []loadItem{{m, params}})[0]
	r.observe(m, result, time.Since(began))
	return result.value, result.failure
}

// rest ends the look at a key and notes for how long none is needed.
func (r *Resolver) rest(key string, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := &r.renewals
	n.running--
	delete(n.busy, key)
	if d <= 0 {
		return
	}
	for other := range n.rested {
		if len(n.rested) < maxRested {
			break
		}
		delete(n.rested, other) // any: it is looked at once too often then
	}
	n.rested[key] = time.Now().Add(min(d, maxRest))
}

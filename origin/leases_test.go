package origin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/internal/lease"
	"readthrough/test/harness"
	"readthrough/upstream"
)

// redisLeases is a real Redis as the place of leases. Its hooks, where set, run before and after each call, and the calls are counted.
type redisLeases struct {
	lease.Leases
	redis *harness.Redis
	t     testing.TB

	acquires, fills, returns atomic.Int64
	keys                     atomic.Int64 // acquired

	mu     sync.Mutex
	before func(what string) error // an error is the outcome of the call
	after  func(what string)
}

func newLeases(t testing.TB) *redisLeases {
	t.Helper()
	redis := harness.NewRedis(t, harness.RedisOptions{})
	up, err := upstream.New(upstream.Options{Addresses: []string{redis.Addr()}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	up.Start()
	t.Cleanup(up.Close)
	eventually(t, func() error {
		if up.State().Topology == nil {
			return errors.New("Redis has not been found yet")
		}
		return nil
	})
	return &redisLeases{Leases: up.Leases(), redis: redis, t: t}
}

// hook sets the hooks; either may be nil.
func (l *redisLeases) hook(before func(what string) error, after func(what string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.after = before, after
}

func (l *redisLeases) begins(what string) error {
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(what)
}

func (l *redisLeases) ends(what string) {
	l.mu.Lock()
	after := l.after
	l.mu.Unlock()
	if after != nil {
		after(what)
	}
}

func (l *redisLeases) Acquire(ctx context.Context, keys [][]byte, token string, lasts time.Duration) []lease.Acquired {
	l.acquires.Add(1)
	l.keys.Add(int64(len(keys)))
	if err := l.begins("acquire"); err != nil {
		failed := make([]lease.Acquired, len(keys))
		for i := range failed {
			failed[i].Err = err
		}
		return failed
	}
	defer l.ends("acquire")
	return l.Leases.Acquire(ctx, keys, token, lasts)
}

func (l *redisLeases) Fill(ctx context.Context, fills []lease.Fill) ([]bool, []error) {
	l.fills.Add(1)
	if err := l.begins("fill"); err != nil {
		errs := make([]error, len(fills))
		for i := range errs {
			errs[i] = err
		}
		return make([]bool, len(fills)), errs
	}
	defer l.ends("fill")
	return l.Leases.Fill(ctx, fills)
}

func (l *redisLeases) GiveBack(ctx context.Context, grants []lease.Grant) {
	l.Leases.GiveBack(ctx, grants)
	l.returns.Add(1)
}

func (l *redisLeases) Replace(ctx context.Context, f lease.Fill, fingerprint string) (bool, error) {
	if err := l.begins("replace"); err != nil {
		return false, err
	}
	return l.Leases.Replace(ctx, f, fingerprint)
}

func (l *redisLeases) say(args ...string) string {
	l.t.Helper()
	return l.redis.MustDo(l.t, args...).Str
}

// holds fails unless Redis has the value, "" for none, under the key.
func (l *redisLeases) holds(key, want string) {
	l.t.Helper()
	if got := l.say("GET", key); got != want {
		l.t.Errorf("Redis has %q under %s, want %q", got, key, want)
	}
}

// token is what the lease key of a key holds, "" for nothing.
func (l *redisLeases) token(key string) string {
	l.t.Helper()
	return l.say("GET", leaseKey(key))
}

// void removes the lease key, as a write through a sidecar does.
func (l *redisLeases) void(key string) { l.say("UNLINK", leaseKey(key)) }

func leaseKey(key string) string {
	b, _ := lease.AppendKey(nil, []byte(key))
	return string(b)
}

// table is a table t (id, v) in a database, whose rows are read by a query that waits at the gate.
func table(t testing.TB, db *harness.Database) func(sql string) {
	t.Helper()
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 1}, Options{}, Definition{Key: "x", Query: "select 1"})
	exec := func(sql string) {
		t.Helper()
		if _, err := r.first.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("create table t (id int primary key, v text); insert into t select i, 'old' from generate_series(1, 100) as i")
	return exec
}

// readsTable is a query of the table. It reads before it waits at the gate, as one does whose answer is slow to come.
const readsTable = "with row as materialized (select v from t where id = @x::int), " +
	"gate as materialized (select pg_advisory_xact_lock_shared(7) from (select count(*) from row) as first) " +
	"select v from row where (select count(*) from gate) > 0"

// gated is a resolver over the table and Redis, whose queries wait at the gate until it is open.
type gated struct {
	*Resolver
	*redisLeases
	t      *testing.T
	counts *counts
	exec   func(sql string)
	db     *harness.Database
	open   func()
}

func newGated(t *testing.T, d Definition) *gated {
	t.Helper()
	g := &gated{redisLeases: newLeases(t), t: t, counts: newCounts(), db: harness.NewDatabase(t)}
	g.exec = table(t, g.db)
	d.Key, d.Query, d.Value = "k:<x:int>", readsTable, Column
	g.Resolver = newResolver(t, Database{URL: static(g.db.URL()), MaxConns: 4, FailOpen: 1}, Options{Leases: g.redisLeases, Observer: g.counts}, d)
	g.open = closeGate(t, g.db)
	return g
}

func (g *gated) want(what string, answer <-chan Answer, want string) {
	g.t.Helper()
	if got := show(await(g.t, answer)); got != want {
		g.t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

// A fill that Redis accepts proves the value to all who have waited for it.
func TestAnAcceptedFillIsForAll(t *testing.T) {
	g := newGated(t, Definition{})
	first := begin(g.Resolver, "k:1")
	waitForLock(t, g.db, 1)
	late := begin(g.Resolver, "k:1") // joins after the query was sent
	g.open()
	g.want("the first", first, "old")
	g.want("the second", late, "old")
	g.holds("k:1", "old")
	if got, want := g.counts.String(), "map[found:1] map[stored:1] 1 map[] map[granted:1] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A refused fill says that somebody has written: who joined after the query was sent may have seen that, and starts over.
func TestARefusedFillIsForThoseBefore(t *testing.T) {
	g := newGated(t, Definition{})
	first := begin(g.Resolver, "k:1")
	waitForLock(t, g.db, 1)
	g.exec("update t set v = 'new' where id = 1")
	g.void("k:1") // by another pod, so that this one does not hear of it
	late := begin(g.Resolver, "k:1")
	g.open()
	g.want("the first", first, "old")
	g.want("who came after the write", late, "new")
	g.holds("k:1", "new")
	if got, want := g.counts.String(), "map[found:2] map[refused:1 stored:1] 1 map[] map[granted:2] 1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// After a write through this pod, nobody joins what began before, even if Redis should accept it.
func TestNobodyJoinsWhatWasForgotten(t *testing.T) {
	g := newGated(t, Definition{})
	first := begin(g.Resolver, "k:1")
	waitForLock(t, g.db, 1)
	g.exec("update t set v = 'new' where id = 1")
	g.Forget([]byte("k:1"))
	g.void("k:1")
	late := begin(g.Resolver, "k:1")
	waitForLock(t, g.db, 2)
	g.open()
	g.want("the first", first, "old")
	g.want("who came after the write", late, "new")
	g.holds("k:1", "new")
	if got, want := g.counts.String(), "map[found:2] map[refused:1 stored:1] 0 map[] map[granted:2] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Who comes after the fill was sent asks Redis anew.
func TestNobodyJoinsAfterTheFill(t *testing.T) {
	g := newGated(t, Definition{})
	g.open()
	filling, goOn := make(chan struct{}), make(chan struct{})
	g.hook(nil, func(what string) {
		if what == "fill" {
			close(filling)
			<-goOn
		}
	})
	first := begin(g.Resolver, "k:1")
	<-filling
	g.say("SET", "k:1", "newer") // and its writer has his answer before the next GET
	g.want("who came after the write", begin(g.Resolver, "k:1"), "newer")
	close(goOn)
	g.want("the first", first, "old")
	if g.counts.joined != 0 {
		t.Errorf("%d joined", g.counts.joined)
	}
}

// What Redis said to an acquire is for those who joined before it was sent.
func TestAHitIsForThoseBefore(t *testing.T) {
	g := newGated(t, Definition{})
	g.open()
	g.say("SET", "k:1", "before")
	asked, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	g.hook(nil, func(what string) {
		once.Do(func() {
			close(asked)
			<-goOn
		})
	})
	first := begin(g.Resolver, "k:1")
	<-asked
	g.say("SET", "k:1", "after")
	late := begin(g.Resolver, "k:1")
	close(goOn)
	g.want("the first", first, "before")
	g.want("who came after the write", late, "after")
	if got, want := g.counts.String(), "map[] map[] 1 map[] map[hit:2] 1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The same for what is known not to exist.
func TestMissingIsForThoseBefore(t *testing.T) {
	g := newGated(t, Definition{Missing: time.Minute})
	g.open()
	g.want("a first GET", begin(g.Resolver, "k:101"), "nil")
	asked, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	g.hook(nil, func(what string) {
		once.Do(func() {
			close(asked)
			<-goOn
		})
	})
	first := begin(g.Resolver, "k:101")
	<-asked
	g.exec("insert into t values (101, 'there')")
	g.void("k:101")
	late := begin(g.Resolver, "k:101")
	close(goOn)
	g.want("the first", first, "nil")
	g.want("who came after the write", late, "there")
	if got, want := g.counts.String(), "map[found:1 none:1] map[missing:1 stored:1] 1 map[] map[granted:2 missing:1] 1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Without the right to fill, nobody can tell what was written meanwhile.
func TestALoadWithoutALeaseIsForThoseBefore(t *testing.T) {
	for name, cause := range map[string]error{
		"moving": lease.ErrMoving, "refused": lease.ErrRefused, "none": lease.ErrNone, "failed": errors.New("gone"), "lost fill": nil,
	} {
		t.Run(name, func(t *testing.T) {
			g := newGated(t, Definition{})
			g.hook(func(what string) error {
				switch {
				case what == "acquire":
					return cause
				case cause == nil:
					return errors.New("no answer")
				}
				t.Error("filled in")
				return nil
			}, nil)
			first := begin(g.Resolver, "k:1")
			waitForLock(t, g.db, 1)
			g.exec("update t set v = 'new' where id = 1")
			late := begin(g.Resolver, "k:1")
			g.open()
			g.want("the first", first, "old")
			if cause == nil { // the lease is still there
				g.void("k:1")
			}
			g.want("who came after the query", late, "new")
			if g.holds("k:1", ""); g.counts.again != 1 {
				t.Errorf("%d started over", g.counts.again)
			}
		})
	}
}

// While another pod loads a key, a GET waits, and gets what that one fills in.
func TestWaitsForAnotherPod(t *testing.T) {
	g := newGated(t, Definition{Timeout: time.Second, Wait: 20 * time.Second})
	g.open()
	g.say("SET", leaseKey("k:1"), "tsomebody")
	answer := begin(g.Resolver, "k:1")
	eventually(t, func() error {
		if n := g.acquires.Load(); n < 3 {
			return fmt.Errorf("asked %d times", n)
		}
		return nil
	})
	g.say("SET", "k:1", "by the other")
	g.want("a GET", answer, "by the other")
	if got, want := g.counts.String(), "map[] map[] 0 map[] map[hit:1 waits:1] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Of a pod that has died the lease ends, and another one loads.
func TestLoadsWhenAnotherPodHasDied(t *testing.T) {
	g := newGated(t, Definition{Wait: 20 * time.Second})
	g.open()
	g.say("SET", leaseKey("k:1"), "tsomebody", "PX", "100")
	g.want("a GET", begin(g.Resolver, "k:1"), "old")
	g.holds("k:1", "old")
}

// A GET does not wait for longer than it may, and nobody asks on when all have gone.
func TestWaitEnds(t *testing.T) {
	g := newGated(t, Definition{Name: "m", Timeout: 50 * time.Millisecond, Wait: 100 * time.Millisecond})
	g.open()
	g.say("SET", leaseKey("k:1"), "tsomebody")
	g.want("a GET", begin(g.Resolver, "k:1"), "-ORIGINTIMEOUT map m: no answer in 100ms")
	eventually(t, func() error {
		g.Resolver.mu.Lock()
		defer g.Resolver.mu.Unlock()
		if n := len(g.calls); n > 0 {
			return fmt.Errorf("%d calls are under way", n)
		}
		return nil
	})
}

// A failed load gives its lease back.
func TestAFailedLoadGivesItsLeaseBack(t *testing.T) {
	l, db := newLeases(t), harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{Leases: l}, Definition{Key: "k:<x:int>", Query: "select 1 / @x::int as q"})
	expect(t, r, "k:0", "-ORIGINERR map m: 22012 division_by_zero")
	eventually(t, func() error {
		if token := l.token("k:0"); token != "" {
			return errors.New("the lease is there: " + token)
		}
		return nil
	})
}

func TestMissing(t *testing.T) {
	for _, missing := range []time.Duration{0, time.Minute} {
		t.Run(missing.String(), func(t *testing.T) {
			l, db, counts := newLeases(t), harness.NewDatabase(t), newCounts()
			r := newResolver(t, Database{URL: static(db.URL())}, Options{Leases: l, Observer: counts},
				Definition{Key: "k:<x:int>", Query: "select 1 as one where @x = 1", Missing: missing})
			for range 3 {
				expect(t, r, "k:2", "nil")
			}
			queries := counts.loaded[OutcomeNone]
			if missing == 0 && queries != 3 || missing > 0 && queries != 1 {
				t.Errorf("%d queries", queries)
			}
			l.void("k:2") // a write
			expect(t, r, "k:2", "nil")
			if counts.loaded[OutcomeNone] != queries+1 {
				t.Errorf("%d queries more after a write", counts.loaded[OutcomeNone]-queries)
			}
		})
	}
}

func TestAValueTooLargeForRedisIsAnswered(t *testing.T) {
	l, db, counts := newLeases(t), harness.NewDatabase(t), newCounts()
	r := newResolver(t, Database{URL: static(db.URL())}, Options{Leases: l, Observer: counts},
		Definition{Key: "k:<x:int>", Query: "select repeat('x', @x::int)", Value: Column, MaxValue: 10})
	expect(t, r, "k:10", "xxxxxxxxxx")
	expect(t, r, "k:11", "xxxxxxxxxxx")
	l.holds("k:10", "xxxxxxxxxx")
	l.holds("k:11", "")
	if counts.filled[FillTooLarge] != 1 || counts.filled[FillStored] != 1 {
		t.Errorf("got %s", counts)
	}
	eventually(t, func() error {
		if token := l.token("k:11"); token != "" {
			return errors.New("the lease is there: " + token)
		}
		return nil
	})
}

// The keys of one request are acquired, loaded and filled in together, and answered in their order.
func TestManyKeysAtOnce(t *testing.T) {
	l, db, counts := newLeases(t), harness.NewDatabase(t), newCounts()
	r := newResolver(t, Database{URL: static(db.URL())}, Options{Leases: l, Observer: counts},
		Definition{Name: "m", Key: "k:<x:int>", Query: "select 10 / @x::int where @x <> '3'", Value: Column},
		Definition{Name: "n", Key: "n:<x:int>", Query: "select @x", Value: Column})
	l.say("SET", "k:5", "there")
	l.say("LPUSH", "k:6", "a list")
	answers := make(chan []Answer, 1)
	var keys [][]byte
	for _, k := range []string{"k:1", "other", "k:2", "k:0", "k:3", "n:7", "k:1", "k:5", "k:6"} {
		keys = append(keys, []byte(k))
	}
	r.Resolve(keys, WithLease, func(a []Answer) { answers <- a })
	for _, k := range keys {
		clear(k) // Resolve keeps nothing of it
	}
	select {
	case got := <-answers:
		want := []string{"10", "nil", "5", "-ORIGINERR map m: 22012 division_by_zero", "nil", "7", "10", "there", "not an *Error: " + ErrWrongType.Error()}
		for i := range want {
			if show(got[i]) != want[i] {
				t.Errorf("answer %d: got %s, want %s", i, show(got[i]), want[i])
			}
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no answer in 30s")
	}
	if a, k, f := l.acquires.Load(), l.keys.Load(), l.fills.Load(); a != 1 || k != 7 || f != 1 {
		t.Errorf("%d acquires of %d keys and %d fills", a, k, f)
	}
	l.holds("k:1", "10")
	l.holds("n:7", "7")
	none := make(chan []Answer, 1)
	r.Resolve([][]byte{[]byte("other")}, WithLease, func(a []Answer) { none <- a })
	if a := <-none; len(a) != 1 || a[0].Found || a[0].Err != nil {
		t.Errorf("a key without a map: %v", a)
	}
}

// More misses than loads may wait are no more than one when they are one request, and very many come in rounds.
func TestVeryManyKeysAtOnce(t *testing.T) {
	l, db := newLeases(t), harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL()), Queue: 2}, Options{Leases: l},
		Definition{Key: "k:<x:int>", Query: "select @x", Value: Column, Queue: 1}, Definition{Name: "n", Key: "n:<x:int>", Query: "select @x", Value: Column, Queue: 1})
	keys := make([][]byte, 2*maxTogether+100)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "%c:%d", "kn"[i%2], i)
	}
	answers := make(chan []Answer, 1)
	r.Resolve(keys, WithLease, func(a []Answer) { answers <- a })
	select {
	case got := <-answers:
		for i := range keys {
			if show(got[i]) != fmt.Sprint(i) {
				t.Fatalf("answer %d: got %s", i, show(got[i]))
			}
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no answer in 30s")
	}
	if n := l.acquires.Load(); n != 3 {
		t.Errorf("%d acquires", n)
	}
	eventually(t, func() error { // every load that was counted in is counted out
		if n := r.first.queued.Load(); n != 0 {
			return fmt.Errorf("%d loads", n)
		}
		return nil
	})
}

// Without Redis a pod asks the database for so many keys at a time, and no more.
func TestFailOpen(t *testing.T) {
	g := newGated(t, Definition{Name: "m", Timeout: 500 * time.Millisecond, Wait: time.Minute})
	failOpen := func(key string) <-chan Answer {
		answers := make(chan Answer, 1)
		g.Resolve([][]byte{[]byte(key)}, FailOpen, func(a []Answer) { answers <- a[0] })
		return answers
	}
	g.open()
	g.want("one load", failOpen("k:1"), "old")
	running := make(chan struct{})
	g.first.failOpen.enter(func() { close(running) })
	<-running
	waiting := failOpen("k:1")
	eventually(t, func() error { // as a function, and not as a goroutine
		b := &g.first.failOpen
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.waiting) != 1 {
			return fmt.Errorf("%d loads wait", len(b.waiting))
		}
		return nil
	})
	g.first.failOpen.leave()
	g.want("one after it", waiting, "old")
	if g.acquires.Load() != 0 || g.fills.Load() != 0 {
		t.Error("Redis was asked")
	}
	g.holds("k:1", "")
	r := newResolver(t, Database{URL: static(g.db.URL())}, Options{}, Definition{Key: "k:<x:int>", Query: "select 1"})
	answers := make(chan []Answer, 1)
	r.Resolve([][]byte{[]byte("k:1")}, FailOpen, func(a []Answer) { answers <- a })
	if got := show((<-answers)[0]); got != "-ORIGINBUSY map m: Redis fails, and too many loads wait that go without it" {
		t.Errorf("where none may: %s", got)
	}
}

// stale makes a resolver whose values are past their time at once, with one of them in Redis.
func newStale(t *testing.T) *gated {
	g := newGated(t, Definition{Name: "m", TTL: time.Millisecond, Stale: time.Minute, Missing: time.Minute})
	g.open()
	g.want("a GET", begin(g.Resolver, "k:1"), "old")
	g.exec("update t set v = 'new' where id = 1")
	return g
}

// hitUntil says that there were hits until a condition holds.
func (g *gated) hitUntil(ready func() error) {
	g.t.Helper()
	eventually(g.t, func() error {
		g.Hit([]byte("k:1"))
		return ready()
	})
}

func (g *gated) renewed(outcome RenewalOutcome) func() error {
	return func() error {
		g.counts.mu.Lock()
		defer g.counts.mu.Unlock()
		if g.counts.renewed[outcome] == 0 {
			return fmt.Errorf("renewals: %v, want one to be %s", g.counts.renewed, outcome)
		}
		return nil
	}
}

func TestAValuePastItsTimeIsRenewed(t *testing.T) {
	g := newStale(t)
	if !g.Refreshes() {
		t.Error("nobody wants to hear of hits")
	}
	g.holds("k:1", "old")
	g.hitUntil(g.renewed(RenewalStored))
	g.holds("k:1", "new")
	if left, _ := strconv.Atoi(g.say("PTTL", "k:1")); left < 50_000 || left > 60_001 {
		t.Errorf("it lives for %d ms", left)
	}
	g.exec("delete from t where id = 1")
	g.hitUntil(func() error {
		if g.say("EXISTS", "k:1") != "0" {
			return errors.New("the key is there still")
		}
		return nil
	})
	g.want("a GET of a row that is gone", begin(g.Resolver, "k:1"), "nil")
	if g.counts.loaded[OutcomeNone] != 1 {
		t.Errorf("got %s", g.counts)
	}
}

// What anybody else has written stays.
func TestAValueOfTheApplicationIsNotRenewed(t *testing.T) {
	g := newStale(t)
	g.void("k:1")
	g.say("SET", "k:1", "the application's")
	for range 10 {
		g.Hit([]byte("k:1"))
	}
	eventually(t, func() error {
		g.Resolver.mu.Lock()
		defer g.Resolver.mu.Unlock()
		if g.renewals.running > 0 || len(g.renewals.rested) == 0 {
			return errors.New("it was not looked at")
		}
		return nil
	})
	g.holds("k:1", "the application's")
	if n := g.counts.loaded[OutcomeFound]; n != 1 {
		t.Errorf("%d loads", n)
	}
}

// A write in the middle of a renewal wins, whichever way it came.
func TestARenewalGivesWay(t *testing.T) {
	for name, write := range map[string]func(g *gated){
		"through a sidecar": func(g *gated) { g.void("k:1"); g.say("DEL", "k:1") },
		"round it":          func(g *gated) { g.say("SET", "k:1", "newer") },
	} {
		t.Run(name, func(t *testing.T) {
			g := newStale(t)
			var once sync.Once
			g.hook(func(what string) error {
				if what == "replace" {
					once.Do(func() { write(g) })
				}
				return nil
			}, nil)
			g.hitUntil(g.renewed(RenewalRefused))
			if v := g.say("GET", "k:1"); v == "new" || v == "old" {
				t.Errorf("Redis has %q", v)
			}
		})
	}
}

// A renewal that fails leaves the value where it is.
func TestAFailedRenewalKeepsTheValue(t *testing.T) {
	g := newStale(t)
	g.exec("alter table t rename to elsewhere")
	g.hitUntil(g.renewed(RenewalFailed))
	g.holds("k:1", "old")
	g.exec("alter table elsewhere rename to t")
	g.hitUntil(g.renewed(RenewalStored))
	g.holds("k:1", "new")
}

package origin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"readthrough/test/harness"
)

// gatedQuery waits, in the database, until the test opens the gate.
const gatedQuery = "select @x::int as x from (select pg_advisory_xact_lock_shared(7)) as gate"

// closeGate holds up every gatedQuery in the database until the returned function is called.
func closeGate(t *testing.T, db *harness.Database) (open func()) {
	t.Helper()
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 1}, Options{}, Definition{Key: "x", Query: "select 1"})
	conn, err := r.first.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "select pg_advisory_lock(7)"); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if _, err := conn.Exec(context.Background(), "select pg_advisory_unlock(7)"); err != nil {
			t.Error(err)
		}
		conn.Release()
	})
}

// waitForLock waits until that many queries stand before the gate.
func waitForLock(t *testing.T, db *harness.Database, n int) {
	t.Helper()
	r := newResolver(t, Database{URL: static(db.URL())}, Options{}, Definition{
		Key: "n", Value: Column,
		Query: "select count(*) from pg_locks where not granted and locktype = 'advisory'",
	})
	eventually(t, func() error {
		if got := show(get(t, r, "n")); got != fmt.Sprint(n) {
			return fmt.Errorf("%s queries wait, want %d", got, n)
		}
		return nil
	})
}

func TestConcurrentMissesShareOneLoad(t *testing.T) {
	db := harness.NewDatabase(t)
	l, counts := newLeases(t), newCounts()
	r := newResolver(t, Database{URL: static(db.URL())}, Options{Leases: l, Observer: counts},
		Definition{Key: "k:<x:int>", Query: gatedQuery, TTL: time.Hour, Jitter: 0.1})
	open := closeGate(t, db)
	var answers []<-chan Answer
	for range 1000 {
		answers = append(answers, begin(r, "k:1"))
	}
	waitForLock(t, db, 1)
	open()
	for _, a := range answers {
		if got := show(await(t, a)); got != `{"x":1}` {
			t.Fatalf("got %s", got)
		}
	}
	if got, want := counts.String(), "map[found:1] map[stored:1] 999 map[] map[granted:1] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	l.holds("k:1", `{"x":1}`)
	if left, _ := strconv.Atoi(l.say("TTL", "k:1")); left > 3600 || left < 3600*9/10-10 {
		t.Errorf("%d s to live are not within the jitter", left)
	}
	expect(t, r, "k:1", `{"x":1}`) // a new call, to which Redis says that it has the value
	if got, want := counts.String(), "map[found:1] map[stored:1] 999 map[] map[granted:1 hit:1] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNoRow(t *testing.T) {
	db := harness.NewDatabase(t)
	l, counts := newLeases(t), newCounts()
	r := newResolver(t, Database{URL: static(db.URL())}, Options{Leases: l, Observer: counts},
		Definition{Key: "k:<x:int>", Query: "select 1 as one where @x = 1"})
	expect(t, r, "k:2", "nil")
	expect(t, r, "unmapped", "nil")
	expect(t, r, "k:x", "nil")
	if got, want := counts.String(), "map[none:1] map[] 0 map[] map[granted:1] 0"; got != want || l.say("DBSIZE") != "0" {
		t.Errorf("got %s and %s keys, want %s and none", got, l.say("DBSIZE"), want)
	}
	if !r.Mapped([]byte("k:2")) || r.Mapped([]byte("k:x")) {
		t.Error("Mapped does not agree with Resolve")
	}
	key := []byte("k:12345")
	if n := testing.AllocsPerRun(100, func() { r.Mapped(key) }); n != 0 {
		t.Errorf("Mapped allocates %v times", n)
	}
}

func TestFailedFillDoesNotFailTheAnswer(t *testing.T) {
	db := harness.NewDatabase(t)
	for name, before := range map[string]func() error{
		"error": func() error { return errors.New("OOM") },
		"panic": func() error { panic("as the test wants it") },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLeases(t)
			l.hook(func(what string) error {
				if what != "fill" {
					return nil
				}
				l.void("k") // so that the next one need not wait
				return before()
			}, nil)
			r := newResolver(t, Database{URL: static(db.URL())}, Options{Leases: l}, Definition{Key: "k", Query: "select 1 as one"})
			expect(t, r, "k", `{"one":1}`)
			expect(t, r, "k", `{"one":1}`)
		})
	}
}

func TestWaiterHasItsOwnDeadline(t *testing.T) {
	db := harness.NewDatabase(t)
	l, release := newLeases(t), make(chan struct{})
	defer close(release)
	l.hook(func(what string) error {
		if what == "fill" {
			<-release
		}
		return nil
	}, nil)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{Leases: l},
		Definition{Key: "k", Query: "select 1 as one", Timeout: 300 * time.Millisecond, Wait: 300 * time.Millisecond})
	// The fill hangs. Whose time is up gets the value that there is.
	began := time.Now()
	expect(t, r, "k", `{"one":1}`)
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("answered after %s, the fill was not waited for", took)
	}
}

func TestWaiterThatGivesUpCancelsNobody(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{},
		Definition{Key: "k:<x:int>", Query: gatedQuery, Timeout: 20 * time.Second})
	open := closeGate(t, db)
	first, second := begin(r, "k:1"), begin(r, "k:1")
	waitForLock(t, db, 1)
	r.mu.Lock()
	impatient := r.calls["k:1"].waiters[0]
	r.mu.Unlock()
	r.giveUp(impatient, r.Maps().All()[0])
	if got := show(await(t, first)); got != "-ORIGINTIMEOUT map m: no answer in 40s" {
		t.Errorf("got %s", got)
	}
	open()
	if got := show(await(t, second)); got != `{"x":1}` {
		t.Errorf("got %s", got)
	}
	select {
	case a := <-first:
		t.Errorf("a second answer: %s", show(a))
	default:
	}
}

func TestPanicReachesEverybody(t *testing.T) {
	db := harness.NewDatabase(t)
	counts := newCounts()
	counts.panics = true
	r := newResolver(t, Database{URL: static(db.URL())}, Options{Observer: counts}, Definition{Key: "k:<x:int>", Query: gatedQuery})
	open := closeGate(t, db)
	first, second := begin(r, "k:1"), begin(r, "k:1")
	waitForLock(t, db, 1)
	open()
	for _, a := range []<-chan Answer{first, second} {
		if got := show(await(t, a)); got != "-ORIGINERR map m: internal error" {
			t.Errorf("got %s", got)
		}
	}
}

func TestOnErrorNil(t *testing.T) {
	db := harness.NewDatabase(t)
	counts := newCounts()
	r := newResolver(t, Database{URL: static(db.URL())}, Options{Observer: counts},
		Definition{Key: "k:<x:int>", Query: "select 1 / @x::int as q", OnError: ErrorNil})
	expect(t, r, "k:0", "nil")
	expect(t, r, "k:1", `{"q":1}`)
	if got, want := counts.String(), "map[error:1 found:1] map[] 0 map[ORIGINERR:1] map[] 0"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSetMaps(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{}, Definition{Key: "k:<x:int>", Query: gatedQuery})
	open := closeGate(t, db)
	old := begin(r, "k:1")
	waitForLock(t, db, 1)
	if err := r.SetMaps(mustCompile(t, Definition{Key: "k:<x:int>", Query: "select 'new' as x"})); err != nil {
		t.Fatal(err)
	}
	expect(t, r, "k:1", `{"x":"new"}`) // does not join
	open()
	if got := show(await(t, old)); got != `{"x":1}` {
		t.Errorf("got %s", got)
	}
	err := r.SetMaps(mustCompile(t, Definition{Name: "other", Key: "k", Query: "select 1", Origin: "nowhere"}))
	if err == nil || err.Error() != `map other: origin: no origin is named "nowhere": write one of those under origins` {
		t.Errorf("got %v", err)
	}
	expect(t, r, "k:1", `{"x":"new"}`)
}

func TestTooManyLoads(t *testing.T) {
	db := harness.NewDatabase(t)
	counts := newCounts()
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 1, Queue: 2}, Options{Observer: counts},
		Definition{Key: "k:<x:int>", Query: gatedQuery},
		Definition{Name: "hasty", Key: "hasty", Query: "select 1 as one", Timeout: 50 * time.Millisecond})
	open := closeGate(t, db)
	first := begin(r, "k:1")
	waitForLock(t, db, 1)
	eventually(t, func() error { // a machine that is busy itself may find the load late before it finds the pool busy
		if got := show(get(t, r, "hasty")); got != "-ORIGINBUSY map hasty: no connection to origin main came free in 50ms" {
			return errors.New(got)
		}
		return nil
	})
	eventually(t, func() error { // the load that gave up is counted until its goroutine ends
		if n := r.first.queued.Load(); n != 1 {
			return fmt.Errorf("%d loads", n)
		}
		return nil
	})
	second := begin(r, "k:2")
	expect(t, r, "k:3", "-ORIGINBUSY map m: 2 loads from origin main are under way")
	open()
	for i, a := range []<-chan Answer{first, second} {
		if got, want := show(await(t, a)), fmt.Sprintf(`{"x":%d}`, i+1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	eventually(t, func() error {
		if got := show(get(t, r, "hasty")); got != `{"one":1}` {
			return errors.New(got)
		}
		return nil
	})
	if counts.loaded[OutcomeBusy] < 2 || counts.loaded[OutcomeFound] != 3 {
		t.Errorf("got %s", counts)
	}
}

// One map's loads leave room for those of another.
func TestTooManyLoadsOfAMap(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 2}, Options{},
		Definition{Key: "k:<x:int>", Query: gatedQuery, Queue: 1},
		Definition{Name: "other", Key: "other", Query: "select 1 as one"})
	open := closeGate(t, db)
	first := begin(r, "k:1")
	waitForLock(t, db, 1)
	joined := begin(r, "k:1") // no load more
	expect(t, r, "k:2", "-ORIGINBUSY map m: 1 loads of this map are under way")
	expect(t, r, "other", `{"one":1}`)
	open()
	for _, a := range []<-chan Answer{first, joined} {
		if got := show(await(t, a)); got != `{"x":1}` {
			t.Errorf("got %s", got)
		}
	}
	expect(t, r, "k:2", `{"x":2}`)
}

func TestCloseWaitsForLoads(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{}, Definition{Key: "k:<x:int>", Query: gatedQuery})
	open := closeGate(t, db)
	answer := begin(r, "k:1")
	waitForLock(t, db, 1)
	closed := make(chan error, 1)
	go func() { closed <- r.Close(context.Background()) }()
	eventually(t, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed {
			return errors.New("not closing yet")
		}
		return nil
	})
	expect(t, r, "k:2", "-ORIGINDOWN map m: the sidecar is shutting down")
	select {
	case err := <-closed:
		t.Fatalf("closed with a load in flight: %v", err)
	default:
	}
	open()
	if got := show(await(t, answer)); got != `{"x":1}` {
		t.Errorf("got %s", got)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestCloseOutOfPatience(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{}, Definition{Key: "k:<x:int>", Query: gatedQuery})
	open := closeGate(t, db)
	defer open()
	answer := begin(r, "k:1")
	waitForLock(t, db, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	patience := errors.New("out of patience")
	cancel(patience)
	if err := r.Close(ctx); !errors.Is(err, patience) {
		t.Errorf("got %v", err)
	}
	if got := show(await(t, answer)); got != "-ORIGINDOWN map m: the sidecar is shutting down" {
		t.Errorf("got %s", got)
	}
	waitForLock(t, db, 0)
}

func TestErrorIsOneLine(t *testing.T) {
	m := &Map{Definition: Definition{Name: "m"}}
	e := newError(CodeError, m, nil, "a\r\n b\t\x00c%s", strings.Repeat("é", 500))
	if text := e.Error(); strings.ContainsAny(text, "\r\n\t\x00") || len(text) > 250 || !strings.HasPrefix(text, "ORIGINERR map m: a b cé") || !strings.HasSuffix(text, "é…") {
		t.Errorf("got %q", text)
	}
}

// Where a change of the key would mean something, nothing is filled in, unless somebody who wants that waits for the same load.
func TestWithoutFill(t *testing.T) {
	g := newGated(t, Definition{})
	load := func(key string) <-chan Answer {
		answers := make(chan Answer, 1)
		g.Resolve([][]byte{[]byte(key)}, WithoutFill, func(a []Answer) { answers <- a[0] })
		return answers
	}
	first := load("k:1")
	waitForLock(t, g.db, 1)
	late := load("k:1") // joined after the query was sent
	g.open()
	g.want("a load", first, "old")
	g.want("one after it", late, "old")
	if g.acquires.Load() != 0 || g.counts.again != 1 {
		t.Errorf("%d acquires, %d started over", g.acquires.Load(), g.counts.again)
	}
	g.holds("k:1", "")
}

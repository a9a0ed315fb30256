package origin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"readthrough/test/harness"
)

var errDown = errors.New("down")

// pass ends a load that the breaker must let through.
func pass(t *testing.T, b *breaker, outcome error) {
	t.Helper()
	p, refused := b.enter()
	if refused != nil {
		t.Fatalf("refused: %+v", *refused)
	}
	p.end(outcome)
}

func refused(t *testing.T, b *breaker) refusal {
	t.Helper()
	_, r := b.enter()
	if r == nil {
		t.Fatal("let through")
	}
	if peek := b.refuses(); peek == nil || *peek != *r {
		t.Errorf("refuses says %v, enter %v", peek, *r)
	}
	return *r
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []string
		b := newBreaker(3, time.Second, func(open bool, r refusal) { changes = append(changes, fmt.Sprint(open, r.failures)) })
		for _, outcome := range []error{errDown, errDown, nil, errDown, errDown, errNeither} { // not in a row
			pass(t, b, outcome)
		}
		late, _ := b.enter()
		laterStill, _ := b.enter()
		pass(t, b, errDown)
		if !b.open() {
			t.Fatal("closed after three failures in a row")
		}
		late.end(nil) // began before it was opened, and says nothing any more
		limit := time.Second
		for i := range 9 {
			r := refused(t, b)
			if r.failures != 3+i || r.cause != errDown || r.next > limit || r.next <= limit/2 {
				t.Errorf("pause %d, limit %s: %+v", i, limit, r)
			}
			time.Sleep(r.next - 1)
			refused(t, b)
			time.Sleep(1)
			if b.refuses() != nil {
				t.Error("refuses what enter lets through")
			}
			probe, r2 := b.enter()
			if r2 != nil || !probe.probe {
				t.Fatalf("no probe after the pause: %+v", r2)
			}
			if got := refused(t, b).when(); got != "the next try is under way" {
				t.Errorf("beside the probe: %s", got)
			}
			probe.end(errNeither) // says nothing, so another one may go at once
			probe, r2 = b.enter()
			if r2 != nil {
				t.Fatalf("a probe without an outcome was the last: %+v", r2)
			}
			probe.end(errDown)
			limit = min(2*limit, MaxPause)
		}
		laterStill.end(errDown) // counts, and changes nothing
		r := refused(t, b)
		if r.failures != 13 {
			t.Errorf("got %+v", r)
		}
		time.Sleep(r.next)
		pass(t, b, nil)
		for _, outcome := range []error{errDown, errDown, nil} {
			pass(t, b, outcome)
		}
		if b.open() {
			t.Error("open after a success")
		}
		for range 3 {
			pass(t, b, errDown)
		}
		if r := refused(t, b); r.next > time.Second {
			t.Errorf("the pauses did not begin again: %+v", r)
		}
		if got := strings.Join(changes, ","); got != "true 3,true 4,true 5,true 6,true 7,true 8,true 9,true 10,true 11,true 12,false 0,true 3" {
			t.Errorf("told %s", got)
		}
	})
	var none *breaker
	pass(t, none, errDown)
	if none.open() || none.refuses() != nil {
		t.Error("no breaker refuses")
	}
}

func TestRefusalSaysWhen(t *testing.T) {
	for next, want := range map[time.Duration]string{
		0: "the next try is under way", -1: "the next try is under way", 1: "next try in 1ms", 42_400_000: "next try in 42ms",
		823 * time.Millisecond: "next try in 800ms", 12_345 * time.Millisecond: "next try in 12.3s",
	} {
		if got := (refusal{next: next}).when(); got != want {
			t.Errorf("%d: got %s, want %s", next, got, want)
		}
	}
}

// expectPrefix polls: on a busy machine a load may be late for another reason first.
func expectPrefix(t *testing.T, r *Resolver, key, want string) {
	t.Helper()
	eventually(t, func() error {
		if got := show(get(t, r, key)); !strings.HasPrefix(got, want) {
			return errors.New(got)
		}
		return nil
	})
}

func TestOriginIsLeftAloneAndTriedAgain(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	w := newWire(t, pg.Addr())
	r := newResolver(t, Database{URL: static(through(t, pg.URL("postgres"), w.Addr().String())), Breaker: Breaker{Failures: 3, Pause: 200 * time.Millisecond}}, Options{},
		Definition{Key: "<x:int>", Query: "select @x::int as x", Timeout: 300 * time.Millisecond})
	expectPrefix(t, r, "1", `{"x":1}`)
	pg.Stop()
	expectPrefix(t, r, "1", "-ORIGINDOWN map m: origin main has failed ")
	m := r.Maps().All()[0]
	eventually(t, func() error {
		failure := r.first.refuses(m)
		if failure == nil {
			return errors.New("not refused")
		}
		if got := failure.Error(); !strings.HasPrefix(got, "ORIGINDOWN map m: origin main has failed ") || !strings.Contains(got, " (last: ") {
			t.Fatal(got)
		}
		state := r.States()[0]
		if !state.Open || state.Down == nil || !strings.HasPrefix(state.Down.Error(), "origin main has failed ") {
			return fmt.Errorf("state %+v", state)
		}
		return nil
	})
	// While it is open the origin sees a probe now and then, whatever clients ask.
	before, began := w.accepted.Load(), time.Now()
	for time.Since(began) < time.Second {
		get(t, r, "1")
	}
	if n := w.accepted.Load() - before; n > 20 { // pauses of 100 ms at least, growing, with a few attempts each
		t.Errorf("%d connections in a second", n)
	}
	if err := pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectPrefix(t, r, "1", `{"x":1}`)
	if state := r.States()[0]; state.Open || state.Down != nil {
		t.Errorf("state %+v", state)
	}
}

// What opens the breaker of an origin, and what does not.
func TestWhatOpensTheBreaker(t *testing.T) {
	db := harness.NewDatabase(t)
	full := "full_" + db.Name
	db.MustExec(t, "create role "+full+" login password 'p' connection limit 0")
	t.Cleanup(func() {
		if err := db.Exec(context.Background(), "drop role "+full); err != nil {
			t.Error(err)
		}
	})
	for _, test := range []struct{ name, url, last string }{
		{"refused", "postgres://u@127.0.0.1:1/db?sslmode=disable", "connection refused"},
		{"no connection left", db.URLFor(full, "p"), `53300 too many connections for role "` + full + `"`},
		{"password", db.URLFor(full, "wrong"), `28P01 password authentication failed for user "` + full + `"`},
		{"no such database", db.URL()[:strings.LastIndex(db.URL(), "/")] + "/nowhere?sslmode=disable", `3D000 database "nowhere" does not exist`},
		{"no TLS there", strings.Replace(db.URL(), "sslmode=disable", "sslmode=require", 1), "server refused TLS connection"},
		{"settings", "postgres://u@h:x/", "the connection settings are not understood"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := "postgres://127.0.0.1:1/"
			r := newResolver(t, Database{URL: func(ctx context.Context) (string, error) { return url, nil }, Breaker: Breaker{Failures: 2, Pause: MaxPause}}, Options{},
				Definition{Key: "k", Query: "select 1", Timeout: 300 * time.Millisecond})
			url = test.url
			expectPrefix(t, r, "k", "-ORIGINDOWN map m: origin main has failed ")
			if got := show(get(t, r, "k")); !strings.Contains(got, "s (last: "+test.last) {
				t.Errorf("got %s", got)
			}
		})
	}
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 1, Breaker: Breaker{Failures: 1, Pause: MaxPause}}, Options{},
		Definition{Name: "broken", Key: "broken", Query: "select nope"},
		Definition{Name: "slow", Key: "slow", Query: "select pg_sleep(20)", Timeout: 20 * time.Millisecond},
		Definition{Name: "k", Key: "k", Query: "select 1", Value: Column})
	for range 3 {
		expectPrefix(t, r, "broken", "-ORIGINERR")
		expectPrefix(t, r, "slow", "-ORIGINTIMEOUT")
		expect(t, r, "k", "1")
	}
}

func TestSlowMapIsLeftAlone(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 2, Breaker: Breaker{Failures: 5}}, Options{},
		Definition{Key: "m:<x:int>", Query: gatedQuery, Timeout: 30 * time.Millisecond},
		Definition{Name: "quick", Key: "quick:<x:int>", Query: "select @x::int as x"})
	expect(t, r, "quick:1", `{"x":1}`)
	open := closeGate(t, db)
	expectPrefix(t, r, "m:1", "-ORIGINTIMEOUT map m: 20 loads in a row had no answer: next try in ")
	expect(t, r, "quick:2", `{"x":2}`)
	m := r.Maps().All()[0]
	if failure := r.first.refuses(m); failure == nil || failure.Code != CodeTimeout {
		t.Errorf("got %v", failure)
	}
	// In one batch, too; what waited behind a slow one has done nothing wrong.
	if got := loadKeys(t, r, "quick:1", "m:1", "quick:2"); got[0] != `{"x":1}` || got[2] != `{"x":2}` || !strings.HasPrefix(got[1], "-ORIGINTIMEOUT map m: ") {
		t.Errorf("got %q", got)
	}
	if r.States()[0].Open {
		t.Error("the origin is left alone")
	}
	open()
	expectPrefix(t, r, "m:1", `{"x":1}`)
	// A map that is put in its place begins anew.
	open = closeGate(t, db)
	expectPrefix(t, r, "m:1", "-ORIGINTIMEOUT map m: 20 loads")
	if err := r.SetMaps(mustCompile(t, Definition{Key: "m:<x:int>", Query: "select 7", Value: Column})); err != nil {
		t.Fatal(err)
	}
	expect(t, r, "m:1", "7")
	open()
}

// A map whose loads wait in a batch behind another's has not failed.
func TestTimeoutsCountForTheMapThatRan(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 1, Breaker: Breaker{Failures: 5}}, Options{},
		Definition{Name: "slow", Key: "slow", Query: "select pg_sleep(20)", Timeout: time.Minute},
		Definition{Name: "quick", Key: "quick:<x:int>", Query: "select @x::int as x", Timeout: 20 * time.Second})
	maps := r.Maps().All()
	items := []loadItem{{m: maps[0]}}
	for range 30 {
		items = append(items, loadItem{maps[1], Params{[]byte("1")}})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for i, l := range r.first.loadAll(ctx, items) {
		if i > 0 && l.failure != nil && l.failure.Code == CodeError {
			t.Errorf("got %v", l.failure)
		}
	}
	if maps[0].breaker.failures != 1 || maps[1].breaker.failures != 0 || r.first.breaker.failures != 0 {
		t.Errorf("failures: %d, %d, origin %d", maps[0].breaker.failures, maps[1].breaker.failures, r.first.breaker.failures)
	}
}

// refuses says why a load of the map would end at once, nil where it would not.
func (d *database) refuses(m *Map) *Error {
	if r := d.mapBreaker(m).refuses(); r != nil {
		return m.refused(r)
	}
	if r := d.breaker.refuses(); r != nil {
		return d.refused(m, r)
	}
	return nil
}

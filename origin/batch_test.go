package origin

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

// syncWire is a proxy in front of a PostgreSQL server that counts the syncs that pass, and holds back the answers on demand.
type syncWire struct {
	net.Listener
	syncs atomic.Int64

	mu   sync.Mutex
	held sync.Cond // on mu
	hold bool
}

func newSyncWire(t testing.TB, server string) *syncWire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &syncWire{Listener: l}
	w.held.L = &w.mu
	var running sync.WaitGroup
	var open []net.Conn // guarded by mu
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			remote, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			w.mu.Lock()
			open = append(open, client, remote)
			w.mu.Unlock()
			running.Go(func() { defer func() { _ = remote.Close() }(); w.forward(remote, bufio.NewReader(client)) })
			running.Go(func() { defer func() { _ = client.Close() }(); w.backward(client, remote) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.pause(false)
		w.mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		w.mu.Unlock()
		running.Wait()
	})
	return w
}

// forward passes on what a client says, message by message.
func (w *syncWire) forward(to io.Writer, from io.Reader) {
	for header := 4; ; header = 5 { // the first message has no type
		message := make([]byte, header)
		if _, err := io.ReadFull(from, message); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(message[header-4:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if _, err := to.Write(append(message, body...)); err != nil {
			return
		}
		if message[0] == 'S' {
			w.syncs.Add(1)
		}
	}
}

func (w *syncWire) backward(to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		for w.hold {
			w.held.Wait()
		}
		w.mu.Unlock()
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (w *syncWire) pause(hold bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold = hold
	w.held.Broadcast()
}

// loadKeys has the keys loaded together.
func loadKeys(t testing.TB, r *Resolver, keys ...string) []string {
	t.Helper()
	var items []loadItem
	for _, key := range keys {
		m, params, ok := r.Maps().Match([]byte(key))
		if !ok {
			t.Fatalf("no map has %s", key)
		}
		items = append(items, loadItem{m, params})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	for _, l := range r.first.loadAll(ctx, items) {
		a := Answer{Value: l.value, Found: l.value != nil}
		if l.failure != nil {
			a.Err = l.failure
		}
		got = append(got, show(a))
	}
	return got
}

func expectKeys(t testing.TB, r *Resolver, keys, want []string) {
	t.Helper()
	got := loadKeys(t, r, keys...)
	for i := range keys {
		if got[i] != want[i] {
			t.Errorf("%s:\n got %s\nwant %s", keys[i], got[i], want[i])
		}
	}
}

// numbered returns n keys and their values, of two maps.
func numbered(n int) (keys, want []string) {
	for i := range n {
		if i%3 == 0 {
			keys, want = append(keys, fmt.Sprint("b:", i)), append(want, fmt.Sprint(i))
		} else {
			keys, want = append(keys, fmt.Sprint("a:", i)), append(want, fmt.Sprintf(`{"x":%d}`, i))
		}
	}
	return keys, want
}

var twoMaps = []Definition{
	{Name: "a", Key: "a:<x:int>", Query: "select @x::int as x"},
	{Name: "b", Key: "b:<x:int>", Query: "select @x::int as x", Value: Column},
	{Name: "c", Key: "c", Query: "select 1", Value: Column},
}

// The answers are held back until all has been asked: a second round trip could not begin.
func TestManyLoadsAreOneRoundTrip(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	bouncer := harness.NewPgBouncer(t, pg, harness.PgBouncerOptions{Config: []string{"default_pool_size = 3"}})
	for _, test := range []struct {
		name, url, addr string
		mode            QueryMode
	}{
		{"cache_statement", pg.URL("postgres"), pg.Addr(), CacheStatement},
		{"exec", pg.URL("postgres"), pg.Addr(), Exec},
		{"PgBouncer", bouncer.URL("postgres"), bouncer.Addr(), Exec},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newSyncWire(t, test.addr)
			r := newResolver(t, Database{URL: static(through(t, test.url, w.Addr().String())), QueryMode: test.mode, MaxConns: 1}, Options{}, twoMaps...)
			expectKeys(t, r, []string{"c"}, []string{"1"}) // connects
			eventually(t, func() error {                   // its last sync may be on its way to where they are counted
				if n := w.syncs.Load(); n != 2 {
					return fmt.Errorf("%d syncs for one key, want two", n)
				}
				return nil
			})
			keys, want := numbered(100)
			for range 3 { // described, prepared, and as it goes on
				before := w.syncs.Load()
				w.pause(true)
				answered := make(chan struct{})
				go func() {
					defer close(answered)
					expectKeys(t, r, keys, want)
				}()
				eventually(t, func() error {
					if n := w.syncs.Load() - before; n != int64(len(keys)+2) {
						return fmt.Errorf("%d syncs before the first answer", n)
					}
					return nil
				})
				w.pause(false)
				<-answered
				eventually(t, func() error {
					if n := w.syncs.Load() - before; n != int64(len(keys)+2) {
						return fmt.Errorf("%d syncs, want one for each of %d keys and two", n, len(keys))
					}
					return nil
				})
			}
			keys, want = numbered(2*maxBatch + 1)
			expectKeys(t, r, keys, want)
			if got := r.first.pool.Stat().NewConnsCount(); got != 1 {
				t.Errorf("%d connections, want 1", got)
			}
			if r.first.unnamed.Load() {
				t.Error("a statement was taken for lost")
			}
		})
	}
}

func TestFailuresOfABatchAreTheirOwn(t *testing.T) {
	db := harness.NewDatabase(t)
	db.MustExec(t, "create table t (id int primary key, v text); insert into t select i, 'v' || i from generate_series(1, 9) i")
	const value, message = 100_000, 110_000 // more than a value may have; more than is read at all
	defs := append([]Definition{
		{Name: "t", Key: "t:<id:int>", Query: "select v from t where id = @id", Value: Column},
		{Name: "many", Key: "many:<id:int>", Query: "select v from t where id <= @id", Value: Column},
		{Name: "div", Key: "div:<x:int>", Query: "select 1 / @x::int", Value: Column},
		{Name: "cast", Key: "cast:<x>", Query: "select @x::int", Value: Column},
		{Name: "long", Key: "long:<n:int>", Query: "select repeat('x', @n::int)", Value: Column},
		{Name: "bytes", Key: "bytes:<n:int>", Query: "select convert_to(repeat('x', @n::int), 'UTF8')", Value: Column},
		{Name: "twice", Key: "twice:<x:int>", Query: "select 1 as a, @x::int as a"},
		{Name: "broken", Key: "broken", Query: "select nope"},
		{Name: "slow", Key: "slow", Query: "select pg_sleep(20)", Timeout: 20 * time.Millisecond},
	}, twoMaps...)
	all := []struct{ key, want string }{
		{"t:1", "v1"},
		{"many:9", "-ORIGINERR map many: the query returned more than one row: add conditions, or LIMIT 1, or use value: array"},
		{"t:10", "nil"},
		{"div:0", "-ORIGINERR map div: 22012 division_by_zero"},
		{"t:3000000000", "nil"}, // in no int4
		{"cast:secret", "-ORIGINERR map cast: 22P02 invalid_text_representation"},
		{"div:1", "1"},
		{fmt.Sprint("long:", value), "-ORIGINERR map long: the value is larger than is allowed"},
		{"t:2", "v2"},
		{"twice:1", `-ORIGINERR map twice: two columns are named "a": give each a name of its own with AS`},
		{"twice:2", `-ORIGINERR map twice: two columns are named "a": give each a name of its own with AS`},
		{"broken", `-ORIGINERR map broken: 42703 column "nope" does not exist`},
		{"broken", `-ORIGINERR map broken: 42703 column "nope" does not exist`},
		{"slow", "-ORIGINTIMEOUT map slow: no answer in 20ms"},
		{fmt.Sprint("bytes:", value), "-ORIGINERR map bytes: the value is larger than is allowed"},
		{"many:1", "v1"},
		{"t:3", "v3"},
	}
	for _, mode := range []QueryMode{CacheStatement, Exec} {
		t.Run(string(mode), func(t *testing.T) {
			r := newResolver(t, Database{URL: static(db.URL()), QueryMode: mode, MaxConns: 1}, Options{MaxValue: value - 1}, defs...)
			var keys, want []string
			for _, one := range all {
				if !strings.HasPrefix(one.key, "bytes") { // its digits are more than is read at all
					keys, want = append(keys, one.key), append(want, one.want)
				}
			}
			for range 3 {
				expectKeys(t, r, keys, want)
			}
			if got := r.first.pool.Stat().NewConnsCount(); got != 1 {
				t.Errorf("%d connections: one must survive", got)
			}
			keys, want = append(keys, fmt.Sprint("long:", message)), append(want, "-ORIGINERR map long: the value is larger than is allowed")
			for _, one := range all {
				keys, want = append(keys, one.key), append(want, one.want)
			}
			expectKeys(t, r, keys, want) // over three connections
			if r.first.unnamed.Load() {
				t.Error("a statement was taken for lost")
			}
		})
	}
}

func TestValuesOfABatchAreBoundedTogether(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{MaxValue: 1000},
		Definition{Key: "<n:int>", Query: "select repeat('x', @n::int)", Value: Column})
	const tooMuch = "-ORIGINERR map m: the values that were asked for in one command are together larger than is allowed"
	expectKeys(t, r, []string{"600", "401", "400", "1", "1001"}, []string{
		strings.Repeat("x", 600), tooMuch, strings.Repeat("x", 400), tooMuch, "-ORIGINERR map m: the value is larger than is allowed",
	})
	var keys []string
	for range 2 * maxBatch {
		keys = append(keys, "5")
	}
	var ok int
	for _, got := range loadKeys(t, r, keys...) {
		if got == "xxxxx" {
			ok++
		} else if got != tooMuch {
			t.Fatal(got)
		}
	}
	if ok != 200 {
		t.Errorf("%d values of 5 bytes, want 200", ok)
	}
}

func TestStalePlansOfABatchAreRetried(t *testing.T) {
	db := harness.NewDatabase(t)
	db.MustExec(t, "create table t (id int primary key, v int); insert into t select i, i from generate_series(1, 50) i")
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 1}, Options{},
		append([]Definition{{Key: "t:<id:int>", Query: "select v from t where id = @id", Value: Column}}, twoMaps...)...)
	for i, suffix := range []string{"", "x", "xx"} {
		keys, want := numbered(50)
		for i := range 50 {
			keys, want = append(keys, fmt.Sprint("t:", i+1)), append(want, fmt.Sprint(i+1, suffix))
		}
		expectKeys(t, r, keys, want)
		expectKeys(t, r, keys, want)
		db.MustExec(t, []string{"alter table t alter v type text using v || 'x'", "alter table t alter v type varchar(9) using v || 'x'", "select"}[i])
	}
	if got := r.first.pool.Stat().NewConnsCount(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

func TestBatchBehindPgBouncer(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	bouncer := harness.NewPgBouncer(t, pg, harness.PgBouncerOptions{Config: []string{"default_pool_size = 3"}})
	for _, mode := range []QueryMode{Exec, CacheStatement} { // the second finds out by itself
		t.Run(string(mode), func(t *testing.T) {
			r := newResolver(t, Database{URL: static(bouncer.URL("postgres")), QueryMode: mode, MaxConns: 8}, Options{},
				append([]Definition{{Name: "div", Key: "div:<x:int>", Query: "select 1 / @x::int", Value: Column}}, twoMaps...)...)
			var running sync.WaitGroup
			for range 8 {
				running.Go(func() {
					keys, want := numbered(150)
					keys[77], want[77] = "div:0", "-ORIGINERR map div: 22012 division_by_zero"
					for range 5 {
						expectKeys(t, r, keys, want)
					}
				})
			}
			running.Wait()
		})
	}
}

// Connections die under a batch as they do under one load.
func TestBatchOverTerminatedConnections(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{}, append([]Definition{
		{Key: "k:<x:int>", Query: gatedQuery, Value: Column},
	}, twoMaps...)...)
	const terminate = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
	keys, want := numbered(20)
	for range 3 {
		expectKeys(t, r, keys, want)
		db.MustExec(t, terminate)
	}
	expectKeys(t, r, keys, want)

	open := closeGate(t, db)
	keys, want = append(keys, "k:7"), append(want, "7")
	keys, want = append(keys, "a:8"), append(want, `{"x":8}`)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		expectKeys(t, r, keys, want)
	}()
	waitForLock(t, db, 1)
	db.MustExec(t, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
	waitForLock(t, db, 1) // it is asked again, over another connection
	open()
	<-answered
}

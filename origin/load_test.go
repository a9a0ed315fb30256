package origin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

// through returns a connection string with another address.
func through(t testing.TB, rawURL, addr string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = addr
	return u.String()
}

func TestValues(t *testing.T) {
	db := harness.NewDatabase(t)
	db.MustExec(t, `
		create domain image as bytea;
		create table users (user_id int primary key, name text, tier smallint, seen timestamptz, photo image, ratio float8, day date);
		insert into users values (1, 'Zoë "Z" \ O''Hara →', 2, '2024-01-02 03:04:05+09', '\x00ff0a', 0.1, '2024-02-29'), (2, null, null, null, null, null, null), (3, '', 1, now(), '', 1, now());
		create table big (id bigint primary key, code text unique, ref uuid);
		insert into big values (9223372036854775807, 'a:b/c', '0f8fad5b-d9cb-469f-a165-70867728950e');
		create sequence numbers;
	`)
	// What a value looks like depends on none of these.
	for _, setting := range []string{
		"timezone = 'Asia/Tokyo'", "datestyle = 'German'", "intervalstyle = 'sql_standard'",
		"bytea_output = 'escape'", "extra_float_digits = -10", "client_encoding = 'LATIN1'", "standard_conforming_strings = off",
	} {
		db.MustExec(t, "alter database "+db.Name+" set "+setting)
	}
	const none = "nil"
	tests := []struct {
		pattern, query string
		form           ValueForm
		key, want      string
	}{
		{"<id:int>", "select user_id, name, tier from users where user_id = @id", "", "1", `{"user_id":1,"name":"Zoë \"Z\" \\ O'Hara →","tier":2}`},
		{"<id:int>", "select user_id, name from users where user_id = @id -- the end", Object, "2", `{"user_id":2,"name":null}`},
		{"<id:int>", "select user_id from users where user_id = @id;", Object, "9", none},
		{
			"<id:int>", "select seen, photo, ratio, day, interval '1 day 2 hours' as i from users where user_id = @id", Object, "1",
			`{"seen":"2024-01-01T18:04:05+00:00","photo":"\\x00ff0a","ratio":0.1,"day":"2024-02-29","i":"1 day 02:00:00"}`,
		},
		{"<id:int>", "select user_id from users where user_id <= @id", Object, "2", "-ORIGINERR map m: the query returned more than one row: add conditions, or LIMIT 1, or use value: array"},
		{"<id:int>", "select user_id, name as user_id from users where user_id = @id", Object, "1", `-ORIGINERR map m: two columns are named "user_id": give each a name of its own with AS`},
		{"<id:int>", "select a.*, b.* from users a join users b using (user_id) where user_id = @id", Array, "1", `-ORIGINERR map m: two columns are named "user_id": give each a name of its own with AS`},
		{"<id:int>", "select user_id from users where user_id <= @id order by 1 desc", Array, "3", "[{\"user_id\":3}, \n {\"user_id\":2}, \n {\"user_id\":1}]"},
		{"<id:int>", "select user_id from users where user_id > @id", Array, "3", none},
		{"<id:int>", "with u as (select * from users) select tier from u where user_id = @id", Array, "1", `[{"tier":2}]`},
		{"<id:int>", "select name from users where user_id = @id", Column, "1", `Zoë "Z" \ O'Hara →`},
		{"<id:int>", "select name from users where user_id = @id", Column, "2", none},
		{"<id:int>", "select name from users where user_id = @id", Column, "3", ""},
		{"<id:int>", "select photo from users where user_id = @id", Column, "1", "\x00\xff\n"},
		{"<id:int>", "select photo from users where user_id = @id", Column, "3", ""},
		{"<id:int>", "select seen from users where user_id = @id", Column, "1", "2024-01-01 18:04:05+00"},
		{"<id:int>", "select ratio from users where user_id = @id", Column, "1", "0.1"},
		{"<id:int>", "select day from users where user_id = @id", Column, "1", "2024-02-29"},
		{"<id:int>", "select json_build_object('a', 1) from users where user_id = @id", Column, "1", `{"a" : 1}`},
		{"<id:int>", "select user_id, name from users where user_id = @id", Column, "1", "-ORIGINERR map m: value: column needs a query with one column, this one has 2"},
		{"<id:int>", "select name from users where user_id <= @id", Column, "3", "-ORIGINERR map m: the query returned more than one row: add conditions, or LIMIT 1, or use value: array"},
		{"<id:int>", `select '@x \' || user_id || "name" || $q$ @id $q$ from users where user_id = /* @id */ @id`, Column, "3", `@x \3 @id `},

		{"<id:int>", "select code from big where id = @id", Column, "9223372036854775807", "a:b/c"},
		{"<code:path>", "select id from big where code = @code", Column, "a:b/c", "9223372036854775807"},
		{"c:{<code>}", "select id from big where code = @code", Column, "c:{a:b/c}", "9223372036854775807"},
		{"<ref:uuid>", "select id from big where ref = @ref", Column, "0f8fad5b-d9cb-469f-a165-70867728950e", "9223372036854775807"},
		{"<ref:hex>", "select id from big where replace(ref::text, '-', '') = @ref", Column, "0f8fad5bd9cb469fa16570867728950e", "9223372036854775807"},
		{"<day:date>", "select user_id from users where seen >= @day and seen < @day::date + 1", Column, "2024-01-01", "1"},
		{"<day:date>", "select user_id from users where seen::date = @day", Column, "2024-01-01", "1"},
		{"<id:int>", "select name from users where user_id::text = @id", Column, "3", ""},
		{"<a:int>:<b:int>", "select user_id from users where user_id = @b and tier = @a", Column, "2:1", "1"},

		// No int4 is that large, so no row has it: not an error.
		{"<id:int>", "select name from users where user_id = @id", Column, "3000000000", none},
		{"<id:int>", "select name from users where tier = @id", Column, "-32769", none},
		{"<id:int>", "select 2147483647 + user_id from users where user_id = @id", Column, "1", "-ORIGINERR map m: 22003 numeric_value_out_of_range"},

		// What PostgreSQL says about values is not for clients.
		{"<name>", "select name from users where user_id = @name", Column, "secret", "-ORIGINERR map m: 22P02 invalid_text_representation"},
		{"<id:int>", "select 1 / (user_id - @id) from users where user_id = @id", Column, "1", "-ORIGINERR map m: 22012 division_by_zero"},
		{"<name>", "select oid from pg_class where oid = @name::regclass", Column, "secret", "-ORIGINERR map m: 42P01 undefined_table"},
		{"<id:int>", "select nope from users where user_id = @id", Object, "1", `-ORIGINERR map m: 42703 column "nope" does not exist`},
		{"<id:int>", "select 1 where @id = ", Object, "1", "-ORIGINERR map m: 42601 syntax error at end of input"},
		{"<id:int>", "select nextval('numbers') where @id = 1", Column, "1", "-ORIGINERR map m: 25006 read_only_sql_transaction"},
		{"<id:int>", "delete from users where user_id = @id returning name", Object, "1", `-ORIGINERR map m: 42601 syntax error at or near "from"`},
	}
	for _, mode := range []QueryMode{CacheStatement, Exec} {
		for _, test := range tests {
			t.Run(string(mode)+"/"+test.query, func(t *testing.T) {
				r := newResolver(t, Database{URL: static(db.URL()), QueryMode: mode, MaxConns: 1}, Options{},
					Definition{Key: test.pattern, Query: test.query, Value: test.form})
				for range 3 { // described, prepared, and as it goes on
					expect(t, r, test.key, test.want)
				}
				if got := r.first.pool.Stat().NewConnsCount(); got != 1 {
					t.Errorf("%d connections for three loads: one must survive them", got)
				}
			})
		}
	}
}

func TestLoadIsOneRoundTrip(t *testing.T) {
	db := harness.NewDatabase(t)
	for _, mode := range []QueryMode{CacheStatement, CacheDescribe, Exec} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWire(t, db.Server.Addr())
			r := newResolver(t, Database{URL: static(through(t, db.URL(), w.Addr().String())), QueryMode: mode, MaxConns: 1}, Options{},
				Definition{Name: "a", Key: "a:<x:int>", Query: "select 10 / @x::int as q"},
				Definition{Name: "b", Key: "b:<x:int>", Query: "select 10 / @x::int as q", Value: Column})
			expect(t, r, "a:1", `{"q":10}`)
			for _, step := range []struct{ key, want string }{
				{"a:2", `{"q":5}`},
				{"b:2", "5"}, // the first time over this connection: described and prepared on the way
				{"b:5", "2"},
				{"b:0", "-ORIGINERR map b: 22012 division_by_zero"}, // rolled back on the way
				{"b:10", "1"},
			} {
				before := w.turns.Load()
				expect(t, r, step.key, step.want)
				if got := w.turns.Load() - before; got != 1 {
					t.Errorf("%s took %d round trips, want 1", step.key, got)
				}
			}
			if got := w.accepted.Load(); got != 1 {
				t.Errorf("%d connections, want 1", got)
			}
		})
	}
}

func TestTimedOutLoadsLeaveNothingBehind(t *testing.T) {
	db := harness.NewDatabase(t)
	w := newWire(t, db.Server.Addr())
	r := newResolver(t, Database{URL: static(through(t, db.URL(), w.Addr().String()))}, Options{},
		Definition{Key: "slow:<x:int>", Query: "select pg_sleep(60), @x::int", Timeout: 20 * time.Millisecond, Wait: 20 * time.Second},
		Definition{Name: "quick", Key: "quick", Query: "select 1", Value: Column})
	expect(t, r, "quick", "1")
	before := w.accepted.Load()
	for i := range 100 {
		expect(t, r, fmt.Sprintf("slow:%d", i), "-ORIGINTIMEOUT map m: no answer in 20ms")
		released(t, r)
	}
	expect(t, r, "quick", "1")
	if opened := w.accepted.Load() - before; opened > 1 {
		t.Errorf("%d new connections for 100 timed-out loads, at most 1 is allowed", opened)
	}
	noneActive(t, db)
}

// released waits until no load has a connection. On a busy machine an answer comes before that.
func released(t *testing.T, r *Resolver) {
	t.Helper()
	eventually(t, func() error {
		if n := r.first.pool.Stat().AcquiredConns(); n > 0 {
			return fmt.Errorf("%d connections are in use", n)
		}
		return nil
	})
}

// noneActive waits until no query runs in the database; it must not take long.
func noneActive(t *testing.T, db *harness.Database) {
	t.Helper()
	began := time.Now()
	r := newResolver(t, Database{URL: static(db.Server.URL("postgres"))}, Options{}, Definition{
		Key: "<db>", Value: Column,
		Query: "select count(*) from pg_stat_activity where datname = @db and state <> 'idle' and pid <> pg_backend_pid()",
	})
	eventually(t, func() error {
		if got := show(get(t, r, db.Name)); got != "0" {
			return fmt.Errorf("%s queries are running", got)
		}
		return nil
	})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("orphans lived for %s", took)
	}
}

func TestServerThatFallsSilent(t *testing.T) {
	db := harness.NewDatabase(t)
	w := newWire(t, db.Server.Addr())
	r := newResolver(t, Database{URL: static(through(t, db.URL(), w.Addr().String()))}, Options{},
		Definition{Key: "<x:int>", Query: "select @x::int as x", Timeout: 200 * time.Millisecond})
	expect(t, r, "1", `{"x":1}`)
	close(w.stalled)
	began := time.Now()
	expect(t, r, "2", "-ORIGINTIMEOUT map m: no answer in 200ms")
	if took := time.Since(began); took > time.Second {
		t.Errorf("the answer took %s: nobody waits for a connection to be given up", took)
	}
	_ = w.Close() // else pgx spends 15s on a cancel request and a farewell
	w.cut()
}

func TestStalePlanIsRetried(t *testing.T) {
	db := harness.NewDatabase(t)
	db.MustExec(t, "create table t (id int primary key, v int); insert into t values (1, 7)")
	counts := newCounts()
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 1}, Options{Observer: counts},
		Definition{Key: "<id:int>", Query: "select v from t where id = @id", Value: Column},
		Definition{Name: "o", Key: "o:<id:int>", Query: "select * from t where id = @id"})
	for i, change := range []string{"text using v || 'x'", "bytea using v::bytea", "text using 'y'"} {
		want := []string{"7", "7x", "7x"}[i]
		expect(t, r, "1", want)
		expect(t, r, "1", want)
		db.MustExec(t, "alter table t alter v type "+change)
	}
	expect(t, r, "1", "y")
	db.MustExec(t, "alter table t add w int default 5")
	expect(t, r, "o:1", `{"id":1,"v":"y","w":5}`)
	db.MustExec(t, "alter table t drop v")
	expect(t, r, "o:1", `{"id":1,"w":5}`)
	if got := r.first.pool.Stat().NewConnsCount(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

func TestPreparedStatementsAreBounded(t *testing.T) {
	db := harness.NewDatabase(t)
	var defs []Definition
	for i := range 20 {
		defs = append(defs, Definition{Name: fmt.Sprint("m", i), Key: fmt.Sprintf("k%d", i), Query: fmt.Sprintf("select %d", i), Value: Column})
	}
	defs = append(defs, Definition{Name: "count", Key: "count", Query: "select count(*) from pg_prepared_statements", Value: Column})
	r := newResolver(t, Database{URL: static(db.URL() + "&statement_cache_capacity=5"), MaxConns: 1}, Options{}, defs...)
	for range 2 {
		for i := range 20 {
			expect(t, r, fmt.Sprintf("k%d", i), fmt.Sprint(i))
		}
	}
	expect(t, r, "count", "6") // the bound, and the statement that goes over it
}

// Two pods with different maps, both taking a PgBouncer for a server, must never run each other's statements.
func TestNamesOfStatementsBehindPgBouncer(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	bouncer := harness.NewPgBouncer(t, pg, harness.PgBouncerOptions{Config: []string{"default_pool_size = 1"}})
	database := Database{URL: static(bouncer.URL("postgres")), MaxConns: 1}
	users := newResolver(t, database, Options{}, Definition{Key: "k", Query: "select 'user'", Value: Column})
	orders := newResolver(t, database, Options{}, Definition{Key: "k", Query: "select 'order'", Value: Column})
	for range 3 {
		expect(t, users, "k", "user")
		expect(t, orders, "k", "order")
	}
}

func TestValueTooLarge(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{MaxValue: 1000},
		Definition{Key: "<n:int>", Query: "select repeat('x', @n::int)", Value: Column})
	expect(t, r, "1000", strings.Repeat("x", 1000))
	for _, n := range []string{"1001", "100000"} {
		expect(t, r, n, "-ORIGINERR map m: the value is larger than is allowed")
	}
	expect(t, r, "1", "x")
}

func TestPgBouncer(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	bouncer := harness.NewPgBouncer(t, pg, harness.PgBouncerOptions{Config: []string{"default_pool_size = 3"}})
	if err := pg.Exec(t.Context(), "postgres", "create table t (id int primary key, v timestamptz); insert into t select i, '2024-01-01 00:00:00+00' from generate_series(1, 100) i"); err != nil {
		t.Fatal(err)
	}
	url := strings.Replace(bouncer.URL("postgres"), "sslmode=disable", "", 1) + "sslmode=disable"
	defs := []Definition{
		{Key: "<id:int>", Query: "select id, v from t where id = @id"},
		{Name: "slow", Key: "slow:<x:int>", Query: "select pg_sleep(60), @x::int", Timeout: 30 * time.Millisecond, Wait: 10 * time.Second},
	}
	for _, mode := range []QueryMode{Exec, CacheDescribe, CacheStatement} { // the last finds out by itself
		t.Run(string(mode), func(t *testing.T) {
			r := newResolver(t, Database{URL: static(url), QueryMode: mode, MaxConns: 8}, Options{}, defs...)
			var answers []<-chan Answer
			for i := range 100 {
				answers = append(answers, begin(r, fmt.Sprint(i+1)))
			}
			for i, a := range answers {
				if got, want := show(await(t, a)), fmt.Sprintf(`{"id":%d,"v":"2024-01-01T00:00:00+00:00"}`, i+1); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			for i := range 20 {
				expect(t, r, fmt.Sprintf("slow:%d", i), "-ORIGINTIMEOUT map slow: no answer in 30ms")
				released(t, r)
				expect(t, r, fmt.Sprint(i+1), fmt.Sprintf(`{"id":%d,"v":"2024-01-01T00:00:00+00:00"}`, i+1))
			}
			noneActive(t, &harness.Database{Server: pg, Name: "postgres"})
			if report, err := r.Prepare(t.Context()); err != nil || fmt.Sprint(report.Maps[0].Params, report.Maps[0].Columns) !=
				"[{id integer}] [{id integer} {v timestamp with time zone}]" {
				t.Errorf("got %v, %v", report, err)
			}
			if mode != CacheStatement && r.first.unnamed.Load() {
				t.Error("a statement was given a name")
			}
		})
	}
	// A load that is given up is canceled through PgBouncer, which has keys of its own.
	impatient, err := NewResolver(Options{Databases: []Database{{Name: "main", URL: static(url), QueryMode: Exec}}, Maps: mustCompile(t,
		Definition{Key: "k", Query: "select pg_sleep(60)"})})
	if err != nil {
		t.Fatal(err)
	}
	answer := begin(impatient, "k")
	eventually(t, func() error {
		if impatient.first.pool.Stat().AcquiredConns() == 0 {
			return errors.New("not connected yet")
		}
		return nil
	})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := impatient.Close(over); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := show(await(t, answer)); got != "-ORIGINDOWN map m: the sidecar is shutting down" {
		t.Errorf("got %s", got)
	}
	noneActive(t, &harness.Database{Server: pg, Name: "postgres"})

	// A server connection that an error has left must be as good as new to its next client.
	r := newResolver(t, Database{URL: static(url), QueryMode: Exec}, Options{}, Definition{Key: "<s>", Query: "select current_setting(@s)", Value: Column})
	expect(t, r, "bytea_output", "hex")
	expect(t, r, "TimeZone", "UTC")
	if err := pg.Exec(t.Context(), "postgres", "alter role postgres set timezone = 'Asia/Tokyo'"); err != nil {
		t.Fatal(err)
	}
	expect(t, r, "TimeZone", "UTC")
}

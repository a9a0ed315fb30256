package origin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"readthrough/test/harness"
)

func TestServerRestart(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{})
	r := newResolver(t, Database{URL: static(pg.URL("postgres"))}, Options{},
		Definition{Key: "<x:int>", Query: "select @x::int as x"},
		Definition{Name: "two", Key: "two:<x:int>", Query: "select @x::int as x, pg_sleep(0.05)::text as s"},
		Definition{Name: "hasty", Key: "hasty", Query: "select 1 as one", Timeout: 300 * time.Millisecond})
	for range 3 {
		first, second := begin(r, "two:1"), begin(r, "two:2") // both connections
		await(t, first)
		await(t, second)
		if err := pg.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		expect(t, r, "1", `{"x":1}`)
	}
	pg.Stop()
	expect(t, r, "hasty", "-ORIGINDOWN map hasty: cannot connect to origin main: connection refused")
	later := begin(r, "7") // has the time to try again until the server is back
	if err := pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := show(await(t, later)); got != `{"x":7}` {
		t.Errorf("got %s", got)
	}
}

func TestTerminatedConnections(t *testing.T) {
	db := harness.NewDatabase(t)
	r := newResolver(t, Database{URL: static(db.URL())}, Options{}, Definition{Key: "<x:int>", Query: "select @x::int as x"})
	for i := range 5 {
		first, second := begin(r, "1"), begin(r, "2")
		await(t, first)
		await(t, second)
		db.MustExec(t, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
		expect(t, r, fmt.Sprint(i), fmt.Sprintf(`{"x":%d}`, i))
	}
}

func TestStartNeedsNoDatabase(t *testing.T) {
	r := newResolver(t, Database{URL: static("postgres://nobody:secret@127.0.0.1:1/none?sslmode=disable")}, Options{},
		Definition{Key: "k", Query: "select 1", Timeout: 100 * time.Millisecond})
	expect(t, r, "k", "-ORIGINDOWN map m: cannot connect to origin main: connection refused")
	r = newResolver(t, Database{URL: static("postgres://nobody:secret@does-not-exist.invalid/none")}, Options{},
		Definition{Key: "k", Query: "select 1", Timeout: 500 * time.Millisecond})
	if got := show(get(t, r, "k")); !strings.HasPrefix(got, "-ORIGINDOWN map m: cannot connect to origin main: ") {
		t.Errorf("got %s", got)
	}
}

func TestBackoffGrowsWithJitterAndEnds(t *testing.T) {
	var b backoff
	if b.begin() != nil {
		t.Error("refuses without a failure")
	}
	limit := minBackoff
	for i := range 20 {
		wait := b.failed(errors.New("down"))
		if wait > limit || wait <= limit/2 {
			t.Errorf("pause %d is %s, want %s to %s", i, wait, limit/2, limit)
		}
		limit = min(2*limit, maxBackoff)
	}
	if err := b.begin(); err == nil || errors.Unwrap(err).Error() != "down" {
		t.Errorf("got %v", err)
	}
	b.succeeded()
	if err := b.begin(); err != nil {
		t.Errorf("refuses after a success: %v", err)
	}
	b.failed(errors.New("down"))
	b.dueNow()
	if err := b.begin(); err != nil {
		t.Errorf("the next attempt is refused: %v", err)
	}
	if b.begin() == nil {
		t.Error("another attempt may be made while that one is under way")
	}
	b.failed(errors.New("down"))
	b.dueNow()
	if err := b.begin(); err != nil {
		t.Errorf("the attempt after that is refused: %v", err)
	}
}

func TestIdlePodHoldsNoConnection(t *testing.T) {
	db := harness.NewDatabase(t)
	const name = "readthrough/shop/cart-7d4b9"
	r := newResolver(t, Database{URL: static(db.URL()), ApplicationName: name, MaxIdle: 50 * time.Millisecond}, Options{},
		Definition{Key: "k", Query: "select current_setting('application_name')", Value: Column})
	watch := newResolver(t, Database{URL: static(db.Server.URL("postgres"))}, Options{}, Definition{
		Key: "<n:path>", Value: Column,
		Query: "select count(*) from pg_stat_activity where application_name = @n",
	})
	expect(t, watch, name, "0")
	expect(t, r, "k", name)
	eventually(t, func() error {
		if got := show(get(t, watch, name)); got != "0" {
			return fmt.Errorf("%s connections", got)
		}
		return nil
	})
	expect(t, r, "k", name)

	r = newResolver(t, Database{URL: static(db.URL() + "&application_name=mine"), ApplicationName: name}, Options{},
		Definition{Key: "k", Query: "select current_setting('application_name')", Value: Column})
	expect(t, r, "k", "mine")
}

func TestPasswordRotation(t *testing.T) {
	db := harness.NewDatabase(t)
	role := "rotating_" + db.Name
	db.MustExec(t, "create role "+role+" login password 'p0'")
	t.Cleanup(func() {
		if err := db.Exec(context.Background(), "drop role "+role); err != nil {
			t.Error(err)
		}
	})
	var mu sync.Mutex
	password := "p0"
	counts := newCounts()
	r := newResolver(t, Database{
		URL:      static(db.URLFor(role, "ignored")),
		Password: func(context.Context) (string, error) { mu.Lock(); defer mu.Unlock(); return password, nil },
		MaxConns: 4, MaxIdle: time.Millisecond, // new connections all the time
	}, Options{Observer: counts}, Definition{Key: "<x:int>", Query: "select @x::int as x", Timeout: 20 * time.Second})

	stop := make(chan struct{})
	var load sync.WaitGroup
	for worker := range 8 {
		load.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if got, want := show(get(t, r, fmt.Sprint(worker+8*i))), fmt.Sprintf(`{"x":%d}`, worker+8*i); got != want {
					t.Errorf("got %s, want %s", got, want)
					return
				}
			}
		})
	}
	for i := 1; i <= 5; i++ {
		next := fmt.Sprintf("p%d", i)
		// The database knows the new password before the secret says it: for a moment the old one fails.
		db.MustExec(t, "alter role "+role+" password '"+next+"'")
		db.MustExec(t, "select pg_terminate_backend(pid) from pg_stat_activity where usename = '"+role+"'")
		mu.Lock()
		password = next
		mu.Unlock()
		seen := r.first.pool.Stat().NewConnsCount()
		eventually(t, func() error {
			if n := r.first.pool.Stat().NewConnsCount(); n < seen+5 {
				return fmt.Errorf("%d new connections", n-seen)
			}
			return nil
		})
	}
	close(stop)
	load.Wait()
	if counts.loaded[OutcomeFound] == 0 || len(counts.loaded) != 1 {
		t.Errorf("got %s", counts)
	}
	if err := r.Close(t.Context()); err != nil { // before the role is dropped
		t.Error(err)
	}
}

func TestNewSettingsApplyToNewConnections(t *testing.T) {
	first, second := harness.NewDatabase(t), harness.NewDatabase(t)
	var mu sync.Mutex
	current := first.URL()
	r := newResolver(t, Database{URL: func(context.Context) (string, error) { mu.Lock(); defer mu.Unlock(); return current, nil }},
		Options{}, Definition{Key: "k", Query: "select current_database() || current_setting('search_path')", Value: Column, Timeout: 3 * time.Second})
	expect(t, r, "k", first.Name+`"$user", public`)
	mu.Lock()
	current = "host=" + second.Server.SocketDir() + " port=" + second.Server.Addr()[len("127.0.0.1:"):] +
		" user=postgres password=" + second.Server.Password() + " dbname=" + second.Name + " options='-c search_path=x'"
	mu.Unlock()
	r.first.pool.Reset()
	expect(t, r, "k", second.Name+"x")
	mu.Lock()
	current = "host=127.0.0.1 password=hunter2 sslmode=nonsense"
	mu.Unlock()
	r.first.pool.Reset()
	expect(t, r, "k", "-ORIGINDOWN map m: cannot connect to origin main: the connection settings are not understood: failed to configure TLS (sslmode is invalid)")
}

func TestEnvironmentAlone(t *testing.T) {
	db := harness.NewDatabase(t)
	t.Setenv("PGHOST", "127.0.0.1")
	t.Setenv("PGPORT", db.Server.Addr()[len("127.0.0.1:"):])
	t.Setenv("PGUSER", "postgres")
	t.Setenv("PGPASSWORD", db.Server.Password())
	t.Setenv("PGDATABASE", db.Name)
	t.Setenv("PGSSLMODE", "disable")
	t.Setenv("PGTARGETSESSIONATTRS", "read-write")
	r := newResolver(t, Database{}, Options{}, Definition{Key: "k", Query: "select current_database()", Value: Column})
	expect(t, r, "k", db.Name)
}

func TestTLS(t *testing.T) {
	pg := harness.NewPostgres(t, harness.PostgresOptions{CA: harness.MustCA(t)})
	query := Definition{Key: "k", Query: "select ssl from pg_stat_ssl where pid = pg_backend_pid()", Value: Column, Timeout: 3 * time.Second}
	r := newResolver(t, Database{URL: static(pg.URL("postgres"))}, Options{}, query)
	expect(t, r, "k", "t")
	slow := query
	slow.Query, slow.Timeout = "select pg_sleep(60)", 50*time.Millisecond
	r = newResolver(t, Database{URL: static(pg.URL("postgres"))}, Options{}, slow)
	expectPrefix(t, r, "k", "-ORIGINTIMEOUT map m: no answer in 50ms") // a busy machine may not have connected by then

	u, err := url.Parse(pg.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = "sslmode=verify-full" // without the authority
	r = newResolver(t, Database{URL: static(u.String())}, Options{}, query)
	expectPrefix(t, r, "k", "-ORIGINDOWN map m: cannot connect to origin main: x509: certificate signed by unknown authority")
}

func TestMistakesInSettings(t *testing.T) {
	const good = "postgres://u:hunter2@127.0.0.1/db?sslmode=disable"
	maps := mustCompile(t, Definition{Key: "k", Query: "select 1"})
	fails := func(context.Context) (string, error) { return "", errors.New("no such file") }
	for _, test := range []struct {
		databases []Database
		want      string
	}{
		{nil, "origins: none is configured"},
		{[]Database{{Name: "a", URL: static(good)}, {Name: "a", URL: static(good)}}, `origins: two are named "a"`},
		{[]Database{{Name: "a", URL: static(good), QueryMode: "simple_protocol"}}, "origin a: the query mode simple_protocol is refused"},
		{[]Database{{Name: "a", URL: static(good + "&default_query_exec_mode=simple_protocol")}}, "behind PgBouncer write exec or cache_describe"},
		{[]Database{{Name: "a", URL: static(good), QueryMode: "fast"}}, `origin a: the query mode "fast" is unknown: write cache_statement, cache_describe or exec`},
		{[]Database{{Name: "a", URL: static(good + "&pool_max_conns=9")}}, "pool_max_conns is not possible in the connection settings: use pool.max and pool.idle"},
		{[]Database{{Name: "a", URL: static("postgres://u:hunter2@[::1/db")}}, "origin a: the connection settings are not understood: failed to parse as URL"},
		{[]Database{{Name: "a", URL: static("postgres://u:hunter2:x@127.0.0.1:hunter2/db")}}, "origin a: the connection settings are not understood: invalid port"},
		{[]Database{{Name: "a", URL: static("host=x password='hunter2")}}, "failed to parse as keyword/value"},
		{[]Database{{Name: "a", URL: static(good + "&target_session_attrs=hunter")}}, "unknown target_session_attrs"},
		{[]Database{{Name: "a", URL: fails}}, "origin a: the connection settings cannot be read"},
		{[]Database{{Name: "a", URL: static(good), Password: fails}}, "origin a: the password cannot be read"},
		{[]Database{{Name: "a", URL: static(good), MaxConns: -1}}, "origin a: pool: max and idle must not be negative"},
		{[]Database{{Name: "a", URL: func(context.Context) (string, error) { panic("x") }}}, "origin a: the connection settings cannot be read"},
	} {
		r, err := NewResolver(Options{Databases: test.databases, Maps: maps})
		if err == nil {
			t.Errorf("no error, want %q", test.want)
			_ = r.Close(t.Context())
			continue
		}
		if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %q and no secret", err, test.want)
		}
	}
	bad := Database{Name: "a", URL: static(good), QueryMode: "x"}
	worse := Database{Name: "b", URL: fails}
	if _, err := NewResolver(Options{Databases: []Database{bad, worse}, Maps: maps}); err == nil || len(unjoin(err)) != 2 {
		t.Errorf("every mistake must be found, got %v", err)
	}
}

func TestPrepare(t *testing.T) {
	db := harness.NewDatabase(t)
	reader, writer := "reader_"+db.Name, "writer_"+db.Name
	db.MustExec(t, `
		create table users (user_id bigint primary key, name varchar(20), tags text[]);
		create table hidden (id int);
		revoke create on schema public from public;
		create role `+reader+` login password 'p' connection limit 50;
		create role `+writer+` login password 'p' createdb;
		grant select on users to `+reader+`;
		grant select, update on users to `+writer+`;
	`)
	t.Cleanup(func() {
		ctx := context.Background()
		if err := db.Exec(ctx, "drop owned by "+reader+", "+writer+"; drop role "+reader+", "+writer); err != nil {
			t.Error(err)
		}
	})
	defs := []Definition{
		{Name: "good", Key: "u:<id:int>:<tag>", Query: "select user_id, name, tags from users where user_id = @id and tags @> array[@tag]"},
		{Name: "typo", Key: "t:<id:int>", Query: "select user_id, nam from users where user_id = @id"},
		{Name: "twice", Key: "w:<id:int>", Query: "select user_id, name as user_id from users where user_id = @id"},
		{Name: "forbidden", Key: "f:<id:int>", Query: "select id from hidden where id = @id"},
		{Name: "wide", Key: "c:<id:int>", Query: "select user_id, name from users where user_id = @id", Value: Column},
	}
	for _, mode := range []QueryMode{CacheStatement, Exec} {
		r := newResolver(t, Database{URL: static(db.URLFor(reader, "p")), QueryMode: mode}, Options{}, defs...)
		report, err := r.Prepare(t.Context())
		wantErr := strings.Join([]string{
			`map typo: query: 42703 column "nam" does not exist (Perhaps you meant to reference the column "users.name".)`,
			`map twice: query: two columns are named "user_id": give each a name of its own with AS`,
			`map forbidden: query: 42501 permission denied for table hidden`,
			`map wide: query: value: column needs a query with one column, this one has 2`,
		}, "\n")
		if err == nil || err.Error() != wantErr {
			t.Errorf("got\n%v\nwant\n%s", err, wantErr)
		}
		got := fmt.Sprint(report)
		want := "{[{good u:<id:int>:<tag> [{id bigint} {tag text}] [{user_id bigint} {name character varying(20)} {tags text[]}]}] [{main " + reader + " [] 50}]}"
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}

	for _, test := range []struct{ url, want string }{
		{db.URLFor(writer, "p"), "[{main " + writer + " [may create databases may write to the table public.users] -1}]"},
		{db.URL(), "[{main postgres [is a superuser] -1}]"},
	} {
		r := newResolver(t, Database{URL: static(test.url)}, Options{}, defs[0])
		report, err := r.Prepare(t.Context())
		if err != nil || fmt.Sprint(report.Origins) != test.want {
			t.Errorf("got %v, %v, want %s", report.Origins, err, test.want)
		}
	}

	r := newResolver(t, Database{URL: static(db.URLFor(reader, "wrong"))}, Options{}, defs...)
	if _, err := r.Prepare(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "origin main: 28P01 password authentication failed") {
		t.Errorf("got %v", err)
	}
	r = newResolver(t, Database{URL: static("postgres://127.0.0.1:1/x?sslmode=disable")}, Options{}, defs...)
	if _, err := r.Prepare(t.Context()); err == nil || err.Error() != "origin main: cannot connect: connection refused" {
		t.Errorf("got %v", err)
	}
}

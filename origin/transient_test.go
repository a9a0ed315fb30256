package origin

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"readthrough/test/harness"
)

// flaky fails with a code as often as it is told, and then returns how often it was called. A session's advisory locks are what a
// transaction that reads can leave behind.
const flaky = `create function flaky(times int, code text) returns int language plpgsql as $$
declare calls int := (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid());
begin
	if calls < times then
		perform pg_advisory_lock(calls);
		raise exception using errcode = code, message = 'as the test wants it';
	end if;
	perform pg_advisory_unlock_all();
	return calls + 1;
end $$`

func TestTransactionsThatGiveWayAreRetriedOnce(t *testing.T) {
	db := harness.NewDatabase(t)
	db.MustExec(t, flaky)
	for _, mode := range []QueryMode{CacheStatement, Exec} {
		t.Run(string(mode), func(t *testing.T) {
			r := newResolver(t, Database{URL: static(db.URL()), QueryMode: mode, MaxConns: 1}, Options{},
				append([]Definition{{Key: "f:<n:int>:<code>", Query: "select flaky(@n::int, @code)", Value: Column}}, twoMaps...)...)
			for range 2 {
				expect(t, r, "f:1:40001", "2")
				expect(t, r, "f:1:40P01", "2")
				expectKeys(t, r, []string{"a:1", "f:1:40001", "b:2"}, []string{`{"x":1}`, "2", "2"})
				expect(t, r, "f:2:40001", "-ORIGINERR map m: 40001 as the test wants it")
				expect(t, r, "f:2:40001", "3") // the third call
				expect(t, r, "f:1:23505", "-ORIGINERR map m: 23505 integrity_constraint_violation")
				expect(t, r, "f:1:23505", "2")
			}
			if got := r.first.pool.Stat().NewConnsCount(); got != 1 {
				t.Errorf("%d connections, want 1", got)
			}
		})
	}
}

// A retry has no more time than the load.
func TestRetriesEndWithTheLoad(t *testing.T) {
	db := harness.NewDatabase(t)
	db.MustExec(t, strings.Replace(flaky, "perform pg_advisory_lock", "perform pg_sleep(0.1); perform pg_advisory_lock", 1))
	r := newResolver(t, Database{URL: static(db.URL()), MaxConns: 1}, Options{},
		Definition{Key: "f:<n:int>", Query: "select flaky(@n::int, '40001'), pg_sleep(30)", Timeout: 300 * time.Millisecond},
		Definition{Name: "k", Key: "k", Query: "select 1", Value: Column})
	expect(t, r, "k", "1")
	began := time.Now()
	expect(t, r, "f:1", "-ORIGINTIMEOUT map m: no answer in 300ms")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	released(t, r)
	expect(t, r, "k", "1")
}

// script is a PostgreSQL whose answers a test writes.
type script struct {
	net.Listener
	connects atomic.Int64
	queries  atomic.Int64 // but begin, commit and the settings

	// refuse is asked at each connect; nil lets it in.
	refuse func(n int64) *pgproto3.ErrorResponse
	// answer is asked for each query: a value, or an error.
	answer func(n int64) any
	// commit is asked for each commit.
	commit func(n int64) *pgproto3.ErrorResponse
}

func (s *script) url() string { return "postgres://u:p@" + s.Addr().String() + "/db?sslmode=disable" }

func (s *script) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Listener = l
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
}

var commandTags = map[string]string{"begin read only": "BEGIN", "commit": "COMMIT", savepoint: "SAVEPOINT", rollback: "ROLLBACK"}

func (s *script) serve(conn net.Conn) {
	b := pgproto3.NewBackend(conn, conn)
	first, err := b.ReceiveStartupMessage()
	if _, connects := first.(*pgproto3.StartupMessage); err != nil || !connects { // pgx cancels what it gives up
		return
	}
	n := s.connects.Add(1)
	if s.refuse != nil {
		if e := s.refuse(n); e != nil {
			b.Send(e)
			_ = b.Flush()
			return
		}
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if b.Flush() != nil {
		return
	}
	var sql string
	var failed bool
	fail := func(e *pgproto3.ErrorResponse) (fatal bool) {
		failed = true
		b.Send(e)
		return e.Severity == "FATAL"
	}
	for {
		message, err := b.Receive()
		if err != nil {
			return
		}
		if _, isSync := message.(*pgproto3.Sync); failed && !isSync {
			continue
		}
		fatal := false
		switch message := message.(type) {
		case *pgproto3.Parse:
			sql = message.Query
			b.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Bind:
			b.Send(&pgproto3.BindComplete{})
		case *pgproto3.Describe:
			if message.ObjectType == 'S' {
				b.Send(&pgproto3.ParameterDescription{})
			}
			if commandTags[sql] != "" {
				b.Send(&pgproto3.NoData{})
			} else {
				b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("v"), DataTypeOID: 25}}})
			}
		case *pgproto3.Execute:
			switch sql {
			case "begin read only", "commit", savepoint, rollback:
				if sql == "commit" && s.commit != nil {
					if e := s.commit(s.queries.Load()); e != nil {
						fatal = fail(e)
						break
					}
				}
				b.Send(&pgproto3.CommandComplete{CommandTag: []byte(commandTags[sql])})
			case settingsQuery:
				b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 0")})
			default:
				switch a := s.answer(s.queries.Add(1)).(type) {
				case *pgproto3.ErrorResponse:
					fatal = fail(a)
				case string:
					b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(a)}})
					b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
				case nil: // hang up
					return
				}
			}
		case *pgproto3.Sync:
			failed = false
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			if b.Flush() != nil {
				return
			}
		}
		if fatal {
			_ = b.Flush()
			return
		}
	}
}

func serverError(severity, code, message string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: message}
}

// The first answers, by their number, and what becomes of the load.
func TestTransientErrorsAtTheWire(t *testing.T) {
	conflict := serverError("ERROR", "40001", "could not serialize access")
	shutdown := serverError("FATAL", "57P01", "terminating connection due to administrator command")
	crash := serverError("FATAL", "57P02", "terminating connection because of crash of another server process")
	for _, test := range []struct {
		name             string
		answers          []any
		commits          []*pgproto3.ErrorResponse
		want             string
		queries, connect int64
	}{
		{name: "well", answers: []any{"v1"}, want: "v1", queries: 1, connect: 1},
		{name: "conflict", answers: []any{conflict, "v2"}, want: "v2", queries: 2, connect: 1},
		{name: "two conflicts", answers: []any{conflict, conflict, "v3"}, want: "-ORIGINERR map m: 40001 could not serialize access", queries: 2, connect: 1},
		{name: "conflict in the commit", answers: []any{"v1", "v2"}, commits: []*pgproto3.ErrorResponse{conflict, nil}, want: "v2", queries: 2, connect: 1},
		{name: "two of them", answers: []any{"v1", "v2", "v3"}, commits: []*pgproto3.ErrorResponse{conflict, conflict}, want: "-ORIGINERR map m: 40001 could not serialize access", queries: 2, connect: 1},
		{name: "another error of the commit", answers: []any{"v1"}, commits: []*pgproto3.ErrorResponse{serverError("ERROR", "XX000", "x")}, want: "v1", queries: 1, connect: 1},
		{name: "end after the value", answers: []any{"v1"}, commits: []*pgproto3.ErrorResponse{shutdown}, want: "v1", queries: 1, connect: 1},
		{name: "shutdown", answers: []any{shutdown, "v2"}, want: "v2", queries: 2, connect: 2},
		{name: "conflict, then shutdown, then conflict", answers: []any{conflict, shutdown, conflict, "v4"}, want: "-ORIGINERR map m: 40001 could not serialize access", queries: 3, connect: 2},
		{name: "a crash is not repeated", answers: []any{crash, "v2"}, want: "-ORIGINERR map m: 57P02 terminating connection because of crash of another server process", queries: 1, connect: 1},
		{name: "nor a connection that breaks", answers: []any{nil, "v2"}, want: "-ORIGINERR map m: the connection was lost: closed by the server", queries: 1, connect: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &script{answer: func(n int64) any { return test.answers[n-1] }}
			s.commit = func(n int64) *pgproto3.ErrorResponse {
				if int(n) > len(test.commits) {
					return nil
				}
				return test.commits[n-1]
			}
			s.start(t)
			r := newResolver(t, Database{URL: static(s.url()), QueryMode: Exec, MaxConns: 1}, Options{}, Definition{Key: "k", Query: "select v", Value: Column})
			expect(t, r, "k", test.want)
			if q, c := s.queries.Load(), s.connects.Load(); q != test.queries || c != test.connect {
				t.Errorf("%d queries over %d connections, want %d over %d", q, c, test.queries, test.connect)
			}
		})
	}
}

// A connection that dies under a batch takes nothing along that has been answered, and what has not is asked once more at most.
func TestBatchWhoseConnectionDies(t *testing.T) {
	s := &script{answer: func(n int64) any {
		switch n {
		case 1, 2, 5:
			return fmt.Sprint("v", n)
		case 4:
			return serverError("FATAL", "57P01", "terminating connection due to administrator command")
		default:
			return nil // hangs up
		}
	}}
	s.start(t)
	r := newResolver(t, Database{URL: static(s.url()), QueryMode: Exec, MaxConns: 1}, Options{}, Definition{Key: "k<n:int>", Query: "select v where @n = 1", Value: Column})
	expect(t, r, "k0", "v1")
	const lost = "-ORIGINERR map m: the connection was lost: closed by the server"
	expectKeys(t, r, []string{"k1", "k2", "k3", "k4"}, []string{
		"v2",
		"v5", // 3: dies, the connection had been used; 4: ended by order
		lost, // 6: dies, the connection was new
		lost,
	})
	if q, c := s.queries.Load(), s.connects.Load(); q != 6 || c != 3 {
		t.Errorf("%d queries over %d connections", q, c)
	}
}

func TestServerThatCannotBeConnectedToNow(t *testing.T) {
	s := &script{answer: func(int64) any { return "v" }}
	s.refuse = func(n int64) *pgproto3.ErrorResponse {
		if n <= 3 {
			return serverError("FATAL", "57P03", "the database system is starting up")
		}
		return nil
	}
	s.start(t)
	r := newResolver(t, Database{URL: static(s.url()), QueryMode: Exec}, Options{}, Definition{Key: "k", Query: "select v", Value: Column})
	expect(t, r, "k", "v") // waited out

	s = &script{refuse: func(int64) *pgproto3.ErrorResponse {
		return serverError("FATAL", "57P03", "the database system is starting up")
	}}
	s.start(t)
	r = newResolver(t, Database{URL: static(s.url()), Breaker: Breaker{Failures: 2, Pause: MaxPause}}, Options{},
		Definition{Key: "k", Query: "select v", Value: Column, Timeout: 200 * time.Millisecond})
	expect(t, r, "k", "-ORIGINDOWN map m: cannot connect to origin main: 57P03 the database system is starting up")
	expect(t, r, "k", "-ORIGINDOWN map m: cannot connect to origin main: 57P03 the database system is starting up")
	connects := s.connects.Load()
	for range 100 {
		if got := show(get(t, r, "k")); !strings.HasPrefix(got, "-ORIGINDOWN map m: origin main has failed 2 times in a row: next try in ") ||
			!strings.HasSuffix(got, "s (last: 57P03 the database system is starting up)") {
			t.Fatal(got)
		}
	}
	if n := s.connects.Load() - connects; n != 0 {
		t.Errorf("%d connections while it is left alone", n)
	}
}

// Connections that are lost under queries open the breaker, as those do that cannot be made.
func TestLostConnectionsOpenTheBreaker(t *testing.T) {
	s := &script{answer: func(int64) any { return nil }}
	s.start(t)
	r := newResolver(t, Database{URL: static(s.url()), QueryMode: Exec, Breaker: Breaker{Failures: 3, Pause: MaxPause}}, Options{},
		Definition{Key: "k", Query: "select v", Value: Column})
	for range 3 {
		expect(t, r, "k", "-ORIGINERR map m: the connection was lost: closed by the server")
	}
	if got := show(get(t, r, "k")); !strings.HasPrefix(got, "-ORIGINDOWN map m: origin main has failed 3 times in a row: next try in ") ||
		!strings.HasSuffix(got, "s (last: closed by the server)") {
		t.Error(got)
	}
	if n := s.queries.Load(); n != 3 {
		t.Errorf("%d queries", n)
	}
}

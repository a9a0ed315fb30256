package harness

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// one runs a query that answers one text.
func one(t *testing.T, connString, query string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), connString)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var s string
	if err := conn.QueryRow(t.Context(), query).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

func TestDatabasesAreApart(t *testing.T) {
	a, b := NewDatabase(t), NewDatabase(t)
	if a.Server != b.Server || a.Name == b.Name {
		t.Errorf("databases %s and %s, on servers %p and %p", a.Name, b.Name, a.Server, b.Server)
	}
	a.MustExec(t, "CREATE TABLE users (id int); INSERT INTO users VALUES (7)")
	if got := one(t, a.URL(), "SELECT sum(id)::text FROM users"); got != "7" {
		t.Errorf("sum = %s", got)
	}
	if got := one(t, b.URL(), "SELECT (to_regclass('users') IS NULL)::text"); got != "true" {
		t.Error("the tables of one database are in the other")
	}
	if err := b.Exec(t.Context(), "SELECT * FROM users"); err == nil {
		t.Error("bad SQL is no error")
	}
}

func TestDatabaseIsDroppedWithOpenConnections(t *testing.T) {
	var name string
	var server *Postgres
	t.Run("inner", func(t *testing.T) {
		db := NewDatabase(t)
		name, server = db.Name, db.Server
		conn, err := pgx.Connect(t.Context(), db.URL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.PgConn().Conn().Close() })
	})
	if got := one(t, server.URL("postgres"), "SELECT count(*)::text FROM pg_database WHERE datname = '"+name+"'"); got != "0" {
		t.Errorf("%s exists still", name)
	}
}

func TestPostgresRestartKeepsData(t *testing.T) {
	pg := NewPostgres(t, PostgresOptions{Password: "it's a secret", CA: MustCA(t), Config: []string{"max_connections = 17"}})
	if err := pg.Exec(t.Context(), "postgres", "CREATE TABLE t AS SELECT 'kept' AS v"); err != nil {
		t.Fatal(err)
	}
	pg.Stop()
	if err := pg.Exec(t.Context(), "postgres", "SELECT 1"); err == nil {
		t.Error("a stopped server answers")
	}
	if err := pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := one(t, pg.URL("postgres"), "SELECT v FROM t"); got != "kept" {
		t.Errorf("v = %s", got)
	}
	if got := one(t, pg.URL("postgres"), "SELECT current_setting('max_connections')"); got != "17" {
		t.Errorf("max_connections = %s", got)
	}
	if got := one(t, pg.URL("postgres"), "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "true" {
		t.Error("the connection does not use TLS")
	}
	if _, err := pgx.Connect(t.Context(), pg.URLFor(Superuser, "wrong", "postgres")); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("a wrong password: %v", err)
	}
	onSocket := "host=" + pg.SocketDir() + " port=" + pg.port.String() + " user=postgres dbname=postgres password='it\\'s a secret'"
	if got := one(t, onSocket, "SELECT 'there'"); got != "there" {
		t.Errorf("over the socket: %s", got)
	}
}

func TestPgbenchInit(t *testing.T) {
	db := NewDatabase(t)
	var progress bytes.Buffer
	if err := db.Server.PgbenchInit(t.Context(), db.Name, 1, &progress); err != nil {
		t.Fatal(err, progress.String())
	}
	if got := one(t, db.URL(), "SELECT count(*)::text FROM pgbench_accounts"); got != "100000" {
		t.Errorf("%s accounts", got)
	}
	if !strings.Contains(progress.String(), "done in") {
		t.Errorf("progress: %q", progress.String())
	}
}

func TestPgBouncerPoolsTransactions(t *testing.T) {
	db := NewDatabase(t)
	db.MustExec(t, "CREATE ROLE bouncer_test LOGIN PASSWORD 'own'")
	b := NewPgBouncer(t, db.Server, PgBouncerOptions{Config: []string{"default_pool_size = 1"}})
	if got := one(t, b.URLFor("bouncer_test", "own", db.Name), "SELECT current_user::text"); got != "bouncer_test" {
		t.Errorf("user %s", got)
	}
	// Two clients, one connection to the server: each gets it for a transaction.
	var pids []string
	for range 2 {
		conn, err := pgx.Connect(t.Context(), b.URL(db.Name))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		var pid string
		if err := conn.QueryRow(t.Context(), "SELECT pg_backend_pid()::text", pgx.QueryExecModeExec).Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if pids[0] != pids[1] {
		t.Errorf("backends %v", pids)
	}
}

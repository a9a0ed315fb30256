package harness

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
)

// Database is an empty database of its own for one test, on a server that the test process shares. Roles are the server's,
// so tests give theirs names of their own.
type Database struct {
	Server *Postgres
	Name   string
}

// sharedServer is the process's PostgreSQL server, from the first use until CloseShared.
var sharedServer once[*Postgres]

var databases atomic.Int64

// NewDatabase creates a database, which is dropped when the test ends. The package's TestMain calls [Main].
func NewDatabase(t testing.TB) *Database {
	t.Helper()
	server, err := sharedServer.get(func() (*Postgres, func(), error) {
		// A package's tests share the connections of this one server, and none should fail for want of one.
		pg, err := StartPostgres(context.Background(), PostgresOptions{Config: []string{"max_connections = 500"}})
		if err != nil {
			return nil, nil, err
		}
		return pg, pg.Close, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	db := &Database{server, fmt.Sprintf("test_%d", databases.Add(1))}
	if err := server.Exec(t.Context(), "postgres", "CREATE DATABASE "+db.Name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's own context has ended; connections that it left open are closed.
		if err := server.Exec(context.Background(), "postgres", "DROP DATABASE "+db.Name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return db
}

// URL is the superuser's connection string.
func (db *Database) URL() string { return db.Server.URL(db.Name) }

// URLFor is the connection string of a role.
func (db *Database) URLFor(role, password string) string {
	return db.Server.URLFor(role, password, db.Name)
}

// Exec runs SQL, one statement or several, as the superuser.
func (db *Database) Exec(ctx context.Context, sql string) error {
	return db.Server.Exec(ctx, db.Name, sql)
}

// MustExec is Exec for tests: an error fails the test.
func (db *Database) MustExec(t testing.TB, sql string) {
	t.Helper()
	if err := db.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

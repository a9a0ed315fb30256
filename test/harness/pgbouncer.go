package harness

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// PgBouncerOptions describes a PgBouncer.
type PgBouncerOptions struct {
	// Config holds more lines of the section [pgbouncer], such as "default_pool_size = 5".
	Config []string
}

// PgBouncer pools the connections to a PostgreSQL server in transaction mode. Every role of the server may log in, with its
// own password; the superuser may use the console, the database "pgbouncer".
type PgBouncer struct {
	*Process

	server *Postgres
	port   port
	dir    folder
}

// StartPgBouncer starts a PgBouncer in front of a server.
func StartPgBouncer(ctx context.Context, server *Postgres, o PgBouncerOptions) (_ *PgBouncer, err error) {
	b := &PgBouncer{server: server}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			return nil, errMissing("pgbouncer", "pgbouncer")
		}
	}
	if b.port, err = reservePort(); err != nil {
		return nil, err
	}
	owner, err := unprivileged()
	if err != nil {
		return nil, err
	}
	if b.dir, err = newFolder(owner); err != nil {
		return nil, err
	}
	users := b.dir.join("userlist.txt")
	lines := append([]string{
		"[databases]",
		"* = host=127.0.0.1 port=" + server.port.String(),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		"listen_port = " + b.port.String(),
		"unix_socket_dir =",
		"pool_mode = transaction",
		"auth_type = scram-sha-256",
		"auth_file = " + users,
		"auth_user = " + Superuser, // looks the other roles up
		"admin_users = " + Superuser,
	}, o.Config...)
	config := b.dir.join("pgbouncer.ini")
	for file, text := range map[string]string{
		config: strings.Join(lines, "\n") + "\n",
		users:  fmt.Sprintf("%q %q\n", Superuser, server.Password()),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if err := giveAway(b.dir.path, owner); err != nil {
		return nil, err
	}
	b.Process, err = StartProcess(ProcessOptions{Path: path, Args: []string{config}, Dir: b.dir.path, User: owner})
	if err != nil {
		return nil, err
	}
	return b, awaitReady(ctx, b.Process, func() error { return execSQL(ctx, b.URL("postgres"), "") })
}

// NewPgBouncer is StartPgBouncer for tests.
func NewPgBouncer(t testing.TB, server *Postgres, o PgBouncerOptions) *PgBouncer {
	t.Helper()
	b, err := StartPgBouncer(t.Context(), server, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.Close()
		showOutput(t, "PgBouncer", b.Output())
	})
	return b
}

// Addr is host:port.
func (b *PgBouncer) Addr() string { return "127.0.0.1:" + b.port.String() }

// URL is the superuser's connection string for a database.
func (b *PgBouncer) URL(database string) string {
	return b.URLFor(Superuser, b.server.Password(), database)
}

// URLFor is the connection string of a role for a database.
func (b *PgBouncer) URLFor(role, password, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, password), Host: b.Addr(), Path: database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Close ends PgBouncer.
func (b *PgBouncer) Close() {
	if b.Process != nil {
		b.end(syscall.SIGTERM, 5*time.Second)
	}
	b.port.release()
	b.dir.remove()
}

package harness

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the role that owns a PostgreSQL server of the harness.
const Superuser = "postgres"

// PostgresOptions describes a PostgreSQL server.
type PostgresOptions struct {
	Password string // of the superuser; random if empty. Every connection authenticates by SCRAM
	CA       *CA    // connections over TCP use TLS, with a certificate of this authority

	// Config holds more lines of postgresql.conf, such as "max_connections = 20".
	Config []string
}

// Postgres is a PostgreSQL server on loopback and on a unix socket. It keeps its data until Close, but not safely: fsync is
// off.
type Postgres struct {
	*Process // replaced by Restart

	options PostgresOptions
	port    port
	dir     folder // holds data, the socket and certificates
	owner   *syscall.Credential
}

// StartPostgres creates and starts a PostgreSQL server.
func StartPostgres(ctx context.Context, o PostgresOptions) (_ *Postgres, err error) {
	if o.Password == "" {
		o.Password = rand.Text()
	}
	pg := &Postgres{options: o}
	defer func() {
		if err != nil {
			pg.Close()
		}
	}()
	if pg.port, err = reservePort(); err != nil {
		return nil, err
	}
	if pg.owner, err = unprivileged(); err != nil {
		return nil, err
	}
	if pg.dir, err = newFolder(pg.owner); err != nil {
		return nil, err
	}
	if err := pg.create(ctx); err != nil {
		return nil, err
	}
	return pg, pg.start(ctx)
}

// NewPostgres is StartPostgres for tests that restart the server or need settings of their own; the others use [NewDatabase].
func NewPostgres(t testing.TB, o PostgresOptions) *Postgres {
	t.Helper()
	pg, err := StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pg.Close()
		showOutput(t, "PostgreSQL", pg.Output())
	})
	return pg
}

// create runs initdb and writes the settings.
func (pg *Postgres) create(ctx context.Context) error {
	initdb, err := pgProgram("initdb")
	if err != nil {
		return err
	}
	passwordFile := pg.dir.join("password")
	if err := os.WriteFile(passwordFile, []byte(pg.options.Password), 0o600); err != nil {
		return err
	}
	if err := giveAway(pg.dir.path, pg.owner); err != nil {
		return err
	}
	err = run(ctx, ProcessOptions{
		Path: initdb,
		Args: []string{
			"--pgdata", pg.dataDir(), "--username", Superuser, "--pwfile", passwordFile, "--auth", "scram-sha-256",
			"--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions",
		},
		Dir: pg.dir.path, User: pg.owner,
	})
	if err = errors.Join(err, os.Remove(passwordFile)); err != nil {
		return err
	}
	lines := []string{
		"listen_addresses = '127.0.0.1'",
		"port = " + pg.port.String(),
		"unix_socket_directories = '" + pg.dir.path + "'",
		"fsync = off", "synchronous_commit = off", "full_page_writes = off",
		"shared_buffers = 32MB", "max_wal_size = 128MB",
	}
	if ca := pg.options.CA; ca != nil {
		cert, err := ca.Server()
		if err != nil {
			return err
		}
		caFile, certFile, keyFile, err := ca.WriteFiles(pg.dir.path, "server", cert)
		if err != nil {
			return err
		}
		lines = append(lines, "ssl = on", "ssl_ca_file = '"+caFile+"'", "ssl_cert_file = '"+certFile+"'", "ssl_key_file = '"+keyFile+"'")
	}
	lines = append(lines, pg.options.Config...)
	file := filepath.Join(pg.dataDir(), "postgresql.auto.conf") // read after postgresql.conf
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return giveAway(pg.dir.path, pg.owner)
}

func (pg *Postgres) start(ctx context.Context) error {
	path, err := pgProgram("postgres")
	if err != nil {
		return err
	}
	pg.Process, err = StartProcess(ProcessOptions{
		Path: path, Args: []string{"-D", pg.dataDir()}, Dir: pg.dir.path, User: pg.owner,
		DeathSignal: syscall.SIGQUIT, // ends the server's own processes too, and at once
	})
	if err != nil {
		return err
	}
	return awaitReady(ctx, pg.Process, func() error { return pg.Exec(ctx, "postgres", "") })
}

// Restart shuts the server down, if it runs, and starts it again at the same address with the same data.
func (pg *Postgres) Restart(ctx context.Context) error {
	pg.Stop()
	return pg.start(ctx)
}

// Stop shuts the server down and closes its connections; Restart starts it again.
func (pg *Postgres) Stop() { pg.end(syscall.SIGINT, 10*time.Second) }

// Close ends the server and removes its data.
func (pg *Postgres) Close() {
	if pg.Process != nil {
		_ = pg.Resume() // a paused server would not read the signal
		pg.end(syscall.SIGQUIT, 5*time.Second)
	}
	pg.port.release()
	pg.dir.remove()
}

// Addr is host:port.
func (pg *Postgres) Addr() string { return "127.0.0.1:" + pg.port.String() }

// SocketDir is the folder of the server's unix socket, to be used as the host of a connection.
func (pg *Postgres) SocketDir() string { return pg.dir.path }

// Password is the superuser's password.
func (pg *Postgres) Password() string { return pg.options.Password }

// URL is the superuser's connection string for a database.
func (pg *Postgres) URL(database string) string {
	return pg.URLFor(Superuser, pg.options.Password, database)
}

// URLFor is the connection string of a role for a database.
func (pg *Postgres) URLFor(role, password, database string) string {
	query := "sslmode=disable"
	if pg.options.CA != nil {
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {pg.dir.join("ca.crt")}}.Encode()
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, password), Host: pg.Addr(), Path: database, RawQuery: query}
	return u.String()
}

// Exec runs SQL, one statement or several, in a database as the superuser.
func (pg *Postgres) Exec(ctx context.Context, database, sql string) error {
	return execSQL(ctx, pg.URL(database), sql)
}

func execSQL(ctx context.Context, connString, sql string) error {
	conn, err := pgx.Connect(ctx, connString)
	if err != nil {
		return err
	}
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return errors.Join(err, conn.Close(ctx))
}

// PgbenchInit creates the tables of pgbench in a database, 100,000 accounts for each unit of scale, and writes pgbench's own
// account of its progress to w.
func (pg *Postgres) PgbenchInit(ctx context.Context, database string, scale int, w io.Writer) error {
	path, err := pgProgram("pgbench")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, "--initialize", "--scale", strconv.Itoa(scale), pg.URL(database))
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pgbench --initialize: %w", err)
	}
	return nil
}

func (pg *Postgres) dataDir() string { return pg.dir.join("data") }

// pgProgram finds a program of PostgreSQL: in the newest version that Debian's packages installed, where PATH does not reach,
// or else through PATH.
func pgProgram(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // the pattern is good
	best, newest := "", -1
	for _, path := range found {
		if version, err := strconv.Atoi(strings.Split(path, "/")[4]); err == nil && version > newest {
			best, newest = path, version
		}
	}
	if best != "" {
		return best, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", errMissing(name, "postgresql")
	}
	return path, nil
}

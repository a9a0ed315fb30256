// Demo starts a real Redis Cluster and a real PostgreSQL, fills them, runs the sidecar in front of them, and says what to try. It
// stays until Ctrl-C and leaves nothing behind. With -check it tries it by itself and ends.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"readthrough/test/harness"
)

//go:embed config.yaml
var config string

const (
	users      = 100_000
	usersBatch = 10_000
)

func main() {
	check := flag.Bool("check", false, "run the commands, compare what they answer, and end")
	port := flag.Int("port", 6380, "where the sidecar listens; its admin and debug `port`s are the next two")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *port, *check)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted && *check:
		os.Exit(130) // nothing was checked
	case interrupted:
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, port int, check bool) (err error) {
	defer harness.CloseShared()
	for _, p := range []int{port, port + 1, port + 2} {
		if err := available(p); err != nil {
			return err
		}
	}

	step(out, "Redis Cluster of three masters")
	cluster, err := harness.StartCluster(ctx, harness.ClusterOptions{Masters: 3})
	if err != nil {
		return err
	}
	defer cluster.Close()
	done(out, strings.Join(cluster.Addrs(), " "))

	step(out, "PostgreSQL")
	postgres, err := harness.StartPostgres(ctx, harness.PostgresOptions{})
	if err != nil {
		return err
	}
	defer postgres.Close()
	done(out, postgres.Addr())
	if err := fill(ctx, out, postgres); err != nil {
		return err
	}

	step(out, "Sidecar")
	sidecar, err := harness.StartSidecar(ctx, harness.SidecarOptions{
		Config: config,
		Listen: fmt.Sprintf("localhost:%d", port), Admin: fmt.Sprintf("localhost:%d", port+1), Debug: fmt.Sprintf("localhost:%d", port+2),
		Args: []string{"--state-dir="}, // else a copy of the configuration would stay behind
		Env:  []string{"REDIS_ADDRESS=" + cluster.Addrs()[0], "ORIGIN_URL=" + postgres.URL(database)},
	})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, sidecar.Logs())
		}
		sidecar.Close()
	}()
	done(out, fmt.Sprintf("localhost:%d, ready %v after its start", port, sidecar.StartTime.Round(time.Millisecond)))

	if check {
		return try(ctx, out, port)
	}
	fmt.Fprint(out, "\nTry these in another terminal:\n\n")
	for _, t := range trials {
		fmt.Fprintf(out, "  %s\n      %s\n", t.line(port), t.says)
	}
	fmt.Fprintf(out, `
Every other command reaches the cluster and comes back unchanged: use redis-cli -p %d as you are used to.

  configuration  %s
  metrics        http://localhost:%d/metrics
  state          http://localhost:%d/status    http://localhost:%d/explain?key=usr:profile:42

Ctrl-C ends everything and removes it.
`, port, sidecar.ConfigFile(), port+1, port+2, port+2)

	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nEnding.")
		return nil
	case <-sidecar.Done():
		return errors.New("the sidecar has ended by itself")
	}
}

// database is where the demo's tables are.
const database = "postgres"

// fill creates pgbench's accounts, and the users in batches, showing how far it is.
func fill(ctx context.Context, out io.Writer, postgres *harness.Postgres) error {
	step(out, "100,000 accounts of pgbench")
	if err := postgres.PgbenchInit(ctx, database, 1, io.Discard); err != nil {
		return err
	}
	done(out, "loaded")
	err := postgres.Exec(ctx, database, `CREATE TABLE users (user_id bigint PRIMARY KEY, status text NOT NULL, tier text NOT NULL)`)
	if err != nil {
		return err
	}
	for n := 0; n < users; n += usersBatch {
		progress(out, fmt.Sprintf("%6d of %d users", n, users))
		err := postgres.Exec(ctx, database, fmt.Sprintf(`INSERT INTO users
			SELECT i, CASE WHEN i %% 10 = 0 THEN 'suspended' ELSE 'active' END, (ARRAY['free', 'silver', 'gold'])[1 + i %% 3]
			FROM generate_series(%d, %d) AS i`, n+1, n+usersBatch))
		if err != nil {
			return err
		}
	}
	step(out, fmt.Sprintf("%d users", users))
	done(out, "loaded")
	return postgres.Exec(ctx, database, `CREATE INDEX ON users (tier, user_id); ANALYZE users`)
}

// step begins a line with what is being done.
func step(out io.Writer, what string) { fmt.Fprintf(out, "%-31s", what) }

// progress shows how far something is, on a terminal, where the next line takes its place.
func progress(out io.Writer, what string) {
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprintf(out, "%s\r", what)
		}
	}
}

// done ends a step's line.
func done(out io.Writer, result string) { fmt.Fprintln(out, result) }

// trial is a command for people to try, and what must come of it.
type trial struct {
	args  []string
	says  string // its answer, for people
	right func(answer string) bool
}

func (t trial) line(port int) string {
	return fmt.Sprintf("redis-cli -p %d %s", port, strings.Join(t.args, " "))
}

// equals is the answer of a trial that has just one.
func equals(args []string, answer string) trial {
	return trial{args, answer, func(got string) bool { return got == answer }}
}

var trials = []trial{
	equals([]string{"GET", "usr:profile:42"}, `{"user_id":42,"status":"active","tier":"free"}`),
	equals([]string{"GET", "account:7:balance"}, "0"),
	{[]string{"TTL", "usr:profile:42"}, "3240 to 3600: the row is in Redis now, for an hour less up to a tenth", func(got string) bool {
		var ttl int
		_, err := fmt.Sscanf(got, "%d", &ttl)
		return err == nil && ttl > 3180 && ttl <= 3600 // a minute for a slow machine
	}},
}

// try runs the trials.
func try(ctx context.Context, out io.Writer, port int) error {
	var wrong []error
	for _, t := range trials {
		args := append([]string{"-p", fmt.Sprint(port)}, t.args...)
		answer, err := exec.CommandContext(ctx, "redis-cli", args...).CombinedOutput()
		got := strings.TrimSpace(string(answer))
		fmt.Fprintf(out, "%s\n      %s\n", t.line(port), got)
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%s: %w", t.line(port), err))
		case !t.right(got):
			wrong = append(wrong, fmt.Errorf("%s answers %q, which should be %s", t.line(port), got, t.says))
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	fmt.Fprintln(out, "demo: all is as it should be")
	return nil
}

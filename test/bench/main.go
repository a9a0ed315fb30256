// Command bench measures the sidecar beside what else could stand in its place: nothing at all (direct), twemproxy and HAProxy
// in front of one Redis, predixy in front of a Redis Cluster, and pgbench on the path of a miss. Everything is driven in turn,
// round by round, on one machine, so that its noise hits all alike; the figures are medians. It prints Markdown.
//
// Usage, from the module's root:
//
//	go run ./test/bench [-quick | -write] [-only REGEXP] [-rounds N] [-predixy PATH]
//
// The files in the order in which to read them: main.go; contender.go, what is measured; driver.go, how; relay.go, miss.go and
// idle.go, the three parts; report.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"

	"readthrough/test/harness"
)

// documentPath is what -write writes, from the module's root.
const documentPath = "docs/benchmarks.md"

// options say what is measured, and for how long.
type options struct {
	rounds   int
	duration time.Duration  // of one run of a driver
	warmUp   int            // requests of a first run that is not counted, for each client's pipeline
	scale    int            // of pgbench's tables, in units of 100,000 rows
	clients  int            // idle ones
	starts   int            // of the sidecar, for the time to readiness
	settle   time.Duration  // how long an idle sidecar is left alone before its memory is looked at
	only     *regexp.Regexp // of the names of what is measured; nil: all
	peers    bool           // twemproxy and HAProxy too
	predixy  string         // path of the program; empty: without
	progress io.Writer
}

func full() options {
	return options{
		rounds: 5, duration: 1200 * time.Millisecond, warmUp: 10_000, scale: 10, clients: 10_000, starts: 9, settle: 5 * time.Second,
		peers: true, progress: os.Stderr,
	}
}

func quick() options {
	return options{
		rounds: 1, duration: 200 * time.Millisecond, warmUp: 1000, scale: 1, clients: 10_000, starts: 3, settle: time.Second,
		peers: true, progress: os.Stderr,
	}
}

func main() {
	o := full()
	short := flag.Bool("quick", false, "take a minute instead of ten; the figures are then rough")
	rounds := flag.Int("rounds", 0, "how often everything is measured, instead of 5, or 1 with -quick")
	only := flag.String("only", "", `measure only what matches this regexp, such as "^one/GET/50/1$", "^cluster/", "^miss" or "^idle"`)
	predixy := flag.String("predixy", "", "path of predixy, to be measured in front of the cluster")
	write := flag.Bool("write", false, "write the result to "+documentPath+" too; not with -quick or -only")
	flag.Parse()
	var err error
	if *short {
		o = quick()
	}
	if *rounds > 0 {
		o.rounds = *rounds
	}
	o.predixy = *predixy
	if *only != "" {
		o.only, err = regexp.Compile(*only)
	}
	switch {
	case err != nil:
	case flag.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case *write && (*short || o.only != nil):
		err = errors.New("-write is for whole results: leave out -quick and -only")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o, *write)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, write bool) error {
	defer harness.CloseShared()
	r, err := measure(ctx, o)
	if err != nil {
		return err
	}
	text := r.markdown()
	fmt.Print(text)
	if write {
		return os.WriteFile(documentPath, []byte(text), 0o644)
	}
	return nil
}

// measure measures what the options ask for.
func measure(ctx context.Context, o options) (*report, error) {
	began := time.Now()
	r := &report{options: o, machine: thisMachine(ctx, o), began: began}
	for _, part := range []func(context.Context, options, *report) error{measureRelay, measureMisses, measureIdle} {
		if err := part(ctx, o, r); err != nil {
			return nil, err
		}
	}
	r.took = time.Since(began)
	return r, nil
}

// wants tells whether something is to be measured.
func (o options) wants(name string) bool { return o.only == nil || o.only.MatchString(name) }

// say shows progress.
func (o options) say(format string, args ...any) { fmt.Fprintf(o.progress, format+"\n", args...) }

package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// valueSize is the size in bytes of the values that are read and written.
const valueSize = 64

// runLimit bounds one run, which takes a second or two: redis-benchmark itself waits for ever for a reply that does not come.
const runLimit = time.Minute

// workload is what redis-benchmark is told to do.
type workload struct {
	command  string // GET or SET
	key      string // in which redis-benchmark replaces __rand_int__; its own "key:…" if empty
	clients  int
	pipeline int
}

func (w workload) String() string { return fmt.Sprintf("%s/%d/%d", w.command, w.clients, w.pipeline) }

// sample is the outcome of one run.
type sample struct {
	rate      float64       // commands per second
	p50, p99  time.Duration // of the time from a command, or a pipeline of them, to its reply
	cpu       time.Duration // of the contender, per command
	allocated float64       // objects on the sidecar's heap, per command; 0 for others
}

// drive has redis-benchmark send n commands to a contender, or a few more: whole pipelines, as redis-benchmark counts, which with
// several threads otherwise waits for the rest until it gives up.
func drive(ctx context.Context, c *contender, w workload, n int) (sample, error) {
	n = (n + w.pipeline - 1) / w.pipeline * w.pipeline
	host, port, err := net.SplitHostPort(c.addr)
	if err != nil {
		return sample{}, err
	}
	args := []string{
		"-h", host, "-p", port, "-c", strconv.Itoa(w.clients), "-P", strconv.Itoa(w.pipeline), "-n", strconv.Itoa(n),
		"-d", strconv.Itoa(valueSize), "--csv",
	}
	if c.keys > 0 {
		args = append(args, "-r", strconv.Itoa(c.keys))
	}
	if c.shards {
		args = append(args, "--cluster")
	}
	if w.key == "" {
		args = append(args, "-t", strings.ToLower(w.command))
	} else {
		args = append(args, w.command, w.key)
	}

	before, err := c.usage(ctx)
	if err != nil {
		return sample{}, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, runLimit, fmt.Errorf("no end within %v", runLimit))
	defer cancel()
	cmd := exec.CommandContext(limited, "redis-benchmark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, context.Cause(limited))
		return sample{}, fmt.Errorf("redis-benchmark %s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	after, err := c.usage(ctx)
	if err != nil {
		return sample{}, err
	}
	s, err := parseBenchmark(string(out))
	if err != nil {
		return sample{}, fmt.Errorf("redis-benchmark %s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	s.cpu = (after.cpu - before.cpu) / time.Duration(n)
	s.allocated = (after.allocated - before.allocated) / float64(n)
	return s, nil
}

// usage is what a contender has used so far.
type usage struct {
	cpu       time.Duration
	allocated float64
}

func (c *contender) usage(ctx context.Context) (u usage, err error) {
	if c.sidecar != nil {
		if u.allocated, err = metric(ctx, c.sidecar, "go_memstats_mallocs_total"); err != nil {
			return usage{}, err
		}
	}
	u.cpu, err = c.cpu()
	return u, err
}

// parseBenchmark reads what redis-benchmark --csv prints for one test. Other lines may stand around it.
func parseBenchmark(out string) (sample, error) {
	lines := strings.Split(out, "\n")
	head := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, `"test",`) })
	if head < 0 || head+1 == len(lines) {
		return sample{}, fmt.Errorf("no result in what redis-benchmark has printed")
	}
	records, err := csv.NewReader(strings.NewReader(lines[head] + "\n" + lines[head+1])).ReadAll()
	if err != nil {
		return sample{}, err
	}
	if len(records) != 2 {
		return sample{}, fmt.Errorf("no result in what redis-benchmark has printed")
	}
	var s sample
	var p50, p99 float64
	for name, into := range map[string]*float64{"rps": &s.rate, "p50_latency_ms": &p50, "p99_latency_ms": &p99} {
		i := slices.Index(records[0], name)
		if i < 0 {
			return sample{}, fmt.Errorf("redis-benchmark has printed no %s", name)
		}
		if *into, err = strconv.ParseFloat(records[1][i], 64); err != nil {
			return sample{}, err
		}
	}
	s.p50, s.p99 = milliseconds(p50), milliseconds(p99)
	return s, nil
}

// pgbench has pgbench read random accounts by as many clients, one query a transaction, prepared. It returns the transactions
// per second, how many there were, and the CPU time that pgbench itself used for each.
func pgbench(ctx context.Context, url string, clients int, duration time.Duration) (sample, int, error) {
	seconds := max(1, int((duration+time.Second/2)/time.Second))
	cmd := exec.CommandContext(ctx, "pgbench", "--select-only", "--protocol=prepared", "--no-vacuum", "--client="+strconv.Itoa(clients),
		"--time="+strconv.Itoa(seconds), url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return sample{}, 0, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	s, transactions, err := parsePgbench(string(out))
	if err != nil {
		return sample{}, 0, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	s.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()) / time.Duration(transactions)
	return s, transactions, nil
}

var (
	pgbenchRate  = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without initial connection time\)`)
	pgbenchCount = regexp.MustCompile(`(?m)^number of transactions actually processed: ([0-9]+)`)
)

// parsePgbench reads pgbench's summary, which has no percentiles.
func parsePgbench(out string) (s sample, transactions int, err error) {
	var count float64
	for into, what := range map[*float64]*regexp.Regexp{&s.rate: pgbenchRate, &count: pgbenchCount} {
		m := what.FindStringSubmatch(out)
		if m == nil {
			return sample{}, 0, fmt.Errorf("nothing printed that matches %s", what)
		}
		if *into, err = strconv.ParseFloat(m[1], 64); err != nil {
			return sample{}, 0, err
		}
	}
	if count == 0 {
		return sample{}, 0, fmt.Errorf("no transaction was processed")
	}
	return s, int(count), nil
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// report is what was measured; parts that were not are nil.
type report struct {
	options options
	machine machine
	began   time.Time
	took    time.Duration

	relay []*relayResult
	miss  *missResult
	idle  *idleResult
}

// markdown is the whole document.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Benchmarks

Made by `+"`make bench`"+` on %s, in %s.

- Machine: %s, %d cores, %d GiB; %s
- Versions: %s
- Rounds: %d, of about %s for each row below

Servers, proxies and the program that drives them share these cores, so the rates are those of the whole and say little by
themselves. Compare rows: all are driven in turn in each round, and a ratio is the median of the ratios within the rounds. The
CPU time of a command is the user and system time of the process in the middle; for "direct" it is that of Redis itself.
`, r.began.Format("2 January 2006"), r.took.Round(time.Second), r.machine.cpu, r.machine.cores, (r.machine.memory+1<<29)>>30,
		r.machine.kernel, strings.Join(r.machine.versions, "; "), r.options.rounds, r.options.duration)
	r.writeFigures(&b)
	for _, result := range r.relay {
		result.write(&b)
	}
	if r.miss != nil {
		r.miss.write(&b)
	}
	if r.idle != nil {
		r.idle.write(&b)
	}
	return b.String()
}

// writeFigures writes what the project has promised itself, and what came of it.
func (r *report) writeFigures(b *strings.Builder) {
	t := table{head: []string{"figure to hold", "at most", "measured", ""}}
	add := func(what string, limit, measured float64, format string) {
		verdict := "held"
		if measured > limit {
			verdict = "**missed**"
		}
		t.row(what, fmt.Sprintf(format, limit), fmt.Sprintf(format, measured), verdict)
	}
	for _, result := range r.relay {
		if result.topology == one {
			result.addFigures(add)
		}
	}
	if m := r.miss; m != nil && len(m.stampedes) > 0 {
		add(fmt.Sprintf("queries for %d concurrent GETs of one missing key, over %d sidecars", stampedeClients, stampedeSidecars),
			1, float64(slices.Max(m.stampedes)), "%.0f")
	}
	if i := r.idle; i != nil {
		add("idle: RSS, MiB", 25, mebibytes(i.rss), "%.1f")
		add(fmt.Sprintf("RSS that %d idle clients add, MiB", i.clients), 40, mebibytes(i.crowd-i.rss), "%.1f")
		add("size of the program, MiB", 25, mebibytes(i.binary), "%.1f")
		add("start to ready, ms", 200, milli(medianOf(i.starts)), "%.0f")
	}
	if len(t.rows) > 0 {
		b.WriteString("\n## The figures to hold\n\n")
		t.write(b)
		b.WriteString("\nThe rate beside direct: without pipelining three processes share the cores that two share for \"direct\", so on two cores it is the\n" +
			"machine that is measured, and the CPU time of a command says what the sidecar costs.\n")
	}
}

// addFigures adds those of one Redis as far as they were measured.
func (r *relayResult) addFigures(add func(what string, limit, measured float64, format string)) {
	compare := func(w workload, peer string, do func()) {
		if slices.Contains(r.workloads, w) && slices.Contains(r.contenders, peer) {
			do()
		}
	}
	plain, piped, single := workload{command: "GET", clients: 50, pipeline: 1}, workload{command: "GET", clients: 50, pipeline: 16},
		workload{command: "GET", clients: 1, pipeline: 1}
	compare(plain, twemproxyName, func() {
		add("GET, 50 clients: CPU ÷ twemproxy's", 1, r.ratio(plain, sidecarName, twemproxyName, cpu), "%.2f")
	})
	compare(plain, directName, func() {
		add("GET, 50 clients: direct's rate ÷ ours", 1, r.ratio(plain, directName, sidecarName, rate), "%.2f")
	})
	compare(piped, haproxyName, func() {
		add("GET, 50 clients, pipeline 16: CPU ÷ HAProxy's", 1, r.ratio(piped, sidecarName, haproxyName, cpu), "%.2f")
	})
	compare(single, haproxyName, func() {
		add("GET, 1 client: p50 added, µs (at most HAProxy's)",
			r.difference(single, haproxyName, directName, p50), r.difference(single, sidecarName, directName, p50), "%.0f")
	})
	compare(piped, directName, func() {
		// None, but looking at the sidecar's count of them allocates too.
		add("GET, 50 clients, pipeline 16: allocations per command", 0.05, r.median(piped, sidecarName, allocated), "%.3f")
	})
}

// write writes a topology's tables, one for each command.
func (r *relayResult) write(b *strings.Builder) {
	title, note := "One Redis", "All through one key."
	if r.topology == cluster {
		title = "A Redis Cluster of three masters"
		note = fmt.Sprintf("\"direct\" is `redis-benchmark --cluster`, which finds the nodes by itself and has a thread for each. It ends its runs at\n"+
			"quarters of a second, so its rate comes out up to a tenth too low; its CPU time is the sum of the three. The others are driven\n"+
			"as one endpoint, through %d keys over all slots.", clusterKeys)
	}
	for _, command := range []string{"GET", "SET"} {
		t := table{head: []string{
			"clients", "pipeline", "", "commands/s", "p50 µs", "p99 µs", "CPU µs/command", "rate ÷ direct",
			"sidecar: rate ÷ this", "CPU ÷ this",
		}}
		for _, w := range r.workloads {
			if w.command != command {
				continue
			}
			for i, name := range r.contenders {
				clients, pipeline := "", ""
				if i == 0 {
					clients, pipeline = fmt.Sprint(w.clients), fmt.Sprint(w.pipeline)
				}
				toDirect, rateRatio, cpuRatio := "", "", ""
				if name != directName {
					toDirect = ratioText(r.ratio(w, name, directName, rate))
				}
				if name != sidecarName {
					rateRatio = ratioText(r.ratio(w, sidecarName, name, rate))
					cpuRatio = ratioText(r.ratio(w, sidecarName, name, cpu))
				}
				t.row(clients, pipeline, name, thousands(r.median(w, name, rate)), fmt.Sprintf("%.0f", r.median(w, name, p50)),
					fmt.Sprintf("%.0f", r.median(w, name, p99)), fmt.Sprintf("%.2f", r.median(w, name, cpu)), toDirect, rateRatio, cpuRatio)
			}
		}
		if len(t.rows) > 0 {
			fmt.Fprintf(b, "\n## %s: %s of %d bytes\n\n%s\n\n", title, command, valueSize, note)
			t.write(b)
		}
	}
}

func (m *missResult) write(b *strings.Builder) {
	if len(m.names) > 0 {
		fmt.Fprintf(b, `
## Misses

GET of %d-byte keys that Redis has not, each a query of one row by its primary key and a fill, over %d connections to PostgreSQL
(`+"`pool.max`"+`), beside pgbench reading the same %s rows over as many: prepared, each query a transaction of its own. A load is a
transaction of four statements in one round trip: begin read only, settings, the query wrapped for JSON, commit. Redis is a
cluster of three masters. The latency is the mean, which clients and rate imply.

`, len("account:000000000000"), missConns, thousands(float64(m.accounts)))
		t := table{head: []string{"", "per second", "÷ pgbench", "mean latency ms", "CPU µs each", "PostgreSQL's CPU µs each"}}
		for _, name := range m.names {
			figure := func(f func(missSample) float64) float64 { return medianBy(m.samples[name], f) }
			var ratios []float64
			for i, s := range m.samples[name] {
				ratios = append(ratios, s.rate/m.samples[m.names[0]][i].rate)
			}
			perSecond := figure(func(s missSample) float64 { return s.rate })
			t.row(name, thousands(perSecond), ratioText(median(ratios)),
				fmt.Sprintf("%.2f", 1000*float64(m.clients[name])/perSecond),
				fmt.Sprintf("%.0f", figure(func(s missSample) float64 { return microseconds(s.cpu) })),
				fmt.Sprintf("%.0f", figure(func(s missSample) float64 { return microseconds(s.postgres) })))
		}
		t.write(b)
	}
	if len(m.stampedes) > 0 {
		fmt.Fprintf(b, `
## One missing key, asked for by all

%d clients of %d sidecars ask at once for one key that Redis has not, whose query takes 50 ms. Queries that PostgreSQL has run, in
each of %d trials: %s. One of the sidecars gets the lease of the key, and the others wait for what it fills in.
`, stampedeClients, stampedeSidecars, len(m.stampedes), strings.Trim(fmt.Sprint(m.stampedes), "[]"))
	}
}

func (i *idleResult) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n## Idle\n\n")
	t := table{head: []string{"what", "figure"}}
	t.row("RSS without clients", fmt.Sprintf("%.1f MiB", mebibytes(i.rss)))
	t.row(fmt.Sprintf("RSS with %s idle clients, each served once", thousands(float64(i.clients))), fmt.Sprintf("%.1f MiB", mebibytes(i.crowd)))
	t.row("the program, with its symbols", fmt.Sprintf("%.1f MiB", mebibytes(i.binary)))
	t.row(fmt.Sprintf("start to ready, Redis Cluster and PostgreSQL up: median (least, most) of %d", len(i.starts)),
		fmt.Sprintf("%.0f ms (%.0f, %.0f)", milli(medianOf(i.starts)), milli(slices.Min(i.starts)), milli(slices.Max(i.starts))))
	t.write(b)
}

// table is a Markdown table.
type table struct {
	head []string
	rows [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table. Cells that begin with a digit are figures, and their columns are aligned to the right.
func (t *table) write(b *strings.Builder) {
	line := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	rules := make([]string, len(t.head))
	for i := range rules {
		rules[i] = "---"
		if slices.ContainsFunc(t.rows, func(row []string) bool { return row[i] != "" && row[i][0] >= '0' && row[i][0] <= '9' }) {
			rules[i] = "---:"
		}
	}
	line(rules)
	for _, row := range t.rows {
		line(row)
	}
}

// median returns the middle of the values, or the mean of the two in the middle; 0 for none.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func medianBy[T any](items []T, figure func(T) float64) float64 {
	var values []float64
	for _, item := range items {
		values = append(values, figure(item))
	}
	return median(values)
}

func medianOf(times []time.Duration) time.Duration {
	return time.Duration(medianBy(times, func(d time.Duration) float64 { return float64(d) }))
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func milli(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// ratioText is a ratio, and nothing where a run was too short for the kernel's clock of CPU time, which has steps of 10 ms.
func ratioText(ratio float64) string {
	if math.IsNaN(ratio) || math.IsInf(ratio, 0) {
		return ""
	}
	return fmt.Sprintf("%.2f", ratio)
}

// thousands is a number rounded to an integer, with a comma between thousands.
func thousands(n float64) string {
	s := fmt.Sprintf("%.0f", n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

package main

import (
	"context"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestParseBenchmark(t *testing.T) {
	for name, test := range map[string]struct {
		out  string
		want sample
	}{
		"plain": {
			out: `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"GET","90909.09","0.278","0.072","0.271","0.455","0.623","0.815"
`,
			want: sample{rate: 90909.09, p50: 271 * time.Microsecond, p99: 623 * time.Microsecond},
		},
		"columns in another order": {
			out:  "\"test\",\"p99_latency_ms\",\"rps\",\"p50_latency_ms\"\n\"SET\",\"2.5\",\"10\",\"1.5\"\n",
			want: sample{rate: 10, p50: 1500 * time.Microsecond, p99: 2500 * time.Microsecond},
		},
		"cluster": {
			out: `Cluster has 3 master nodes:

Master 0: c2b4 127.0.0.1:31783

"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"GET","2602.50","0.028","0.016","0.023","0.039","0.079","0.815"
`,
			want: sample{rate: 2602.5, p50: 23 * time.Microsecond, p99: 79 * time.Microsecond},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseBenchmark(test.out)
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
	head := `"test","rps","p50_latency_ms","p99_latency_ms"`
	for _, bad := range []string{
		"", "All clients disconnected... aborting.\n", head, head + "\n", head + "\n\"GET\",\"1\"\n",
		head + "\n\"GET\",\"fast\",\"1\",\"1\"\n", "\"test\",\"rps\"\n\"GET\",\"1\"\n",
	} {
		if got, err := parseBenchmark(bad); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}

func TestParsePgbench(t *testing.T) {
	const out = `transaction type: <builtin: select only>
scaling factor: 1
query mode: prepared
number of clients: 16
number of transactions actually processed: 59368
number of failed transactions: 0 (0.000%)
latency average = 0.539 ms
initial connection time = 40.012 ms
tps = 29684.250000 (without initial connection time)
`
	s, transactions, err := parsePgbench(out)
	if err != nil || s.rate != 29684.25 || transactions != 59368 {
		t.Errorf("%+v, %d, %v", s, transactions, err)
	}
	for _, bad := range []string{"", strings.ReplaceAll(out, "tps = ", "tps: "), strings.ReplaceAll(out, "59368", "0")} {
		if s, _, err := parsePgbench(bad); err == nil {
			t.Errorf("%q gives %+v", bad, s)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{9, 1, 4}, 4}, {[]float64{100, 2, 1, 3}, 2.5},
	} {
		before := slices.Clone(test.values)
		if got := median(test.values); got != test.want || !slices.Equal(before, test.values) {
			t.Errorf("median of %v is %v, want %v; now %v", before, got, test.want, test.values)
		}
	}
}

// A machine that gets slower from round to round must not change the ratios.
func TestRatiosAreWithinRounds(t *testing.T) {
	w := workload{command: "GET", clients: 1, pipeline: 1}
	r := relayResult{samples: map[workload]map[string][]sample{w: {
		"a": {{rate: 1000}, {rate: 100}, {rate: 10}},
		"b": {{rate: 2000}, {rate: 200}, {rate: 25}},
	}}}
	if got := r.ratio(w, "a", "b", rate); got != 0.5 {
		t.Errorf("ratio %v", got)
	}
	if got := r.difference(w, "b", "a", rate); got != 100 {
		t.Errorf("difference %v", got)
	}
	if got := r.median(w, "a", rate); got != 100 {
		t.Errorf("median %v", got)
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 999.4: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%v is %q", n, got)
		}
	}
	for n, want := range map[float64]string{0.345: "0.34", 12: "12.00", math.Inf(1): "", math.NaN(): ""} {
		if got := ratioText(n); got != want {
			t.Errorf("%v is %q", n, got)
		}
	}
	tab := table{head: []string{"what", "how much"}}
	tab.row("a", "1")
	tab.row("b", "")
	var b strings.Builder
	tab.write(&b)
	if want := "| what | how much |\n| --- | ---: |\n| a | 1 |\n| b |  |\n"; b.String() != want {
		t.Errorf("table\n%s", b.String())
	}
}

func TestFigures(t *testing.T) {
	w := workload{command: "GET", clients: 50, pipeline: 1}
	r := report{
		relay: []*relayResult{{
			topology: one, workloads: []workload{w}, contenders: []string{directName, sidecarName, twemproxyName},
			samples: map[workload]map[string][]sample{w: {
				directName:    {{rate: 1000, cpu: 10 * time.Microsecond}},
				sidecarName:   {{rate: 800, cpu: 9 * time.Microsecond}},
				twemproxyName: {{rate: 900, cpu: 12 * time.Microsecond}},
			}},
		}},
		idle: &idleResult{rss: 20 << 20, clients: 10_000, crowd: 70 << 20, binary: 20 << 20, starts: []time.Duration{time.Second / 10}},
	}
	text := r.markdown()
	for _, want := range []string{
		"| GET, 50 clients: CPU ÷ twemproxy's | 1.00 | 0.75 | held |",
		"| GET, 50 clients: direct's rate ÷ ours | 1.00 | 1.25 | **missed** |",
		"| RSS that 10000 idle clients add, MiB | 40.0 | 50.0 | **missed** |",
		"| start to ready, ms | 200 | 100 | held |",
		"| 50 | 1 | direct | 1,000 |",
		"|  |  | **sidecar** | 800 | 0 | 0 | 9.00 | 0.80 |  |  |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "HAProxy's") || strings.Contains(text, "## Misses") {
		t.Errorf("what was not measured is in\n%s", text)
	}
}

// The whole program, with few and short runs of all that needs no proxy.
func TestSmoke(t *testing.T) {
	var progress strings.Builder
	o := options{
		rounds: 1, duration: 10 * time.Millisecond, warmUp: 50, scale: 1, clients: 20, starts: 1, settle: time.Millisecond,
		only: regexp.MustCompile("^one/|^cluster/GET/50/16$|^miss|^idle"), progress: &progress,
	}
	r, err := measure(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	text := r.markdown()
	t.Log(text)
	for _, want := range []string{"## One Redis: GET", "## One Redis: SET", "## A Redis Cluster", "## Misses", "## One missing key", "## Idle"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, result := range r.relay {
		for _, w := range result.workloads {
			for _, name := range result.contenders {
				if n := len(result.samples[w][name]); n != 1 || result.median(w, name, rate) <= 0 || result.median(w, name, p50) <= 0 {
					t.Errorf("%s/%v, %s: %+v", result.topology, w, name, result.samples[w][name])
				}
			}
		}
	}
	if len(r.miss.stampedes) != 1 || r.miss.stampedes[0] < 1 || r.miss.stampedes[0] > stampedeSidecars {
		t.Errorf("stampedes have cost %v queries", r.miss.stampedes)
	}
	if i := r.idle; i.rss <= 0 || i.crowd <= 0 || i.binary <= 0 || i.starts[0] <= 0 {
		t.Errorf("idle: %+v", i)
	}
}

// The design's promise, kept by the program as it runs: a relayed command leaves nothing to the garbage collector, a GET that is
// intercepted included. What the sidecar allocates for the connections and for being asked its metrics is far less than one
// object for each command.
func TestRelayDoesNotAllocate(t *testing.T) {
	var done closers
	t.Cleanup(done.close)
	for name, start := range map[string]func(context.Context, options, *closers) ([]*contender, func() (int, error), error){
		one: oneRedis, cluster: threeMasters,
	} {
		contenders, _, err := start(t.Context(), options{}, &done)
		if err != nil {
			t.Fatal(err)
		}
		through := contenders[1]
		if through.sidecar == nil {
			t.Fatalf("%s is no sidecar", through.name)
		}
		for _, command := range []string{"SET", "GET"} {
			w := workload{command: command, clients: 50, pipeline: 16}
			for _, n := range []int{20_000, 100_000} { // the first run lets the buffers grow
				s, err := drive(t.Context(), through, w, n)
				if err != nil {
					t.Fatal(err)
				}
				if n == 100_000 && (s.allocated <= 0 || s.allocated > 0.5) {
					t.Errorf("%s, %s: %.2f allocations per command", name, command, s.allocated)
				}
			}
		}
	}
}

package checker

import (
	"os"
	"strconv"
	"testing"
	"time"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestProtocol runs the checker with everything at once, for as long as CHECKER says.
func TestProtocol(t *testing.T) {
	length := duration(t)
	w := newWorld(t, everything(), "")
	seed := firstSeed(t)
	for began := time.Now(); !t.Failed() && time.Since(began) < length; seed++ {
		w.round(t, seed, min(length, 15*time.Second)).passed(t)
	}
	w.exercised(t, length >= time.Minute)
}

// duration is how long to run: what CHECKER says, or 8 seconds, or 5 minutes at full length.
func duration(t *testing.T) time.Duration {
	t.Helper()
	if text := os.Getenv("CHECKER"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal("CHECKER: ", err)
		}
		return d
	}
	if harness.Long() {
		return 5 * time.Minute
	}
	return 8 * time.Second
}

// firstSeed is the seed of the first round: what CHECKER_SEED says, or a new one.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CHECKER_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano()) % 1_000_000_000
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal("CHECKER_SEED: ", err)
	}
	return seed
}

// exercised fails the test unless the sidecars did what the protocol is for; some of it is too rare for a run that is not long.
func (w *world) exercised(t *testing.T, long bool) {
	t.Helper()
	total := figures{}
	for _, s := range w.sidecars {
		f, err := s.figures(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		total.add(f)
	}
	for _, f := range []struct {
		what, name, label string
		rare              bool
	}{
		{"misses", "readthrough_misses_total", "", false},
		{"hits", "readthrough_hits_total", "", false},
		{"loads that found a row", "readthrough_loads_total", `outcome="found"`, false},
		{"loads that found none", "readthrough_loads_total", `outcome="none"`, false},
		{"joined loads", "readthrough_loads_joined_total", "", false},
		{"waiters that started over", "readthrough_loads_started_over_total", "", false},
		{"leases granted", "readthrough_leases_total", `outcome="granted"`, false},
		{"leases of another pod waited for", "readthrough_leases_total", `outcome="waits"`, false},
		{"values found by an acquire", "readthrough_leases_total", `outcome="hit"`, false},
		{"missing rows remembered", "readthrough_leases_total", `outcome="missing"`, false},
		{"loads while a slot moves", "readthrough_leases_total", `outcome="moving"`, false},
		{"fills stored", "readthrough_fills_total", `outcome="stored"`, false},
		{"fills refused", "readthrough_fills_total", `outcome="refused"`, false},
		{"fills that there is no row", "readthrough_fills_total", `outcome="missing"`, false},
		{"values renewed", "readthrough_renewals_total", `outcome="stored"`, true},
		{"voids settled after their writes", "readthrough_voids_settled_total", "", true},
		{"redirects", "readthrough_upstream_redirects_total", "", false},
	} {
		n := total.sum(f.name, f.label)
		t.Logf("  %-40s %8.0f", f.what, n)
		if n == 0 && (long || !f.rare) {
			t.Errorf("there were no %s", f.what)
		}
	}
}

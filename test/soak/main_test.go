// Package soak runs two sidecars under load of every kind, while at random times Redis, PostgreSQL and the network between fail, and then
// looks whether they hold more than before, and whether any answer was wrong.
package soak

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestSoak lasts for as long as SOAK says, with faults drawn from SOAK_SEED.
func TestSoak(t *testing.T) {
	length, seed := duration(t), firstSeed(t)
	t.Logf("seed %d, for %v", seed, length)
	w := newWorld(t)

	// What the sidecars hold when they have worked and are idle again is what everything later is compared with.
	w.load(t, seed, length/4, nil)
	before := w.figures(t, nil)
	faults := &faults{world: w, rng: rand.New(rand.NewPCG(seed, 0)), done: map[string]int{}}
	w.load(t, seed+1, length, faults.run)
	t.Logf("faults: %v", faults.done)
	if t.Failed() {
		t.Log(strings.Join(faults.log, "\n"))
	}
	w.load(t, seed+2, length/4, nil) // all is well again: errors are mistakes now
	w.flat(t, before)
	for _, s := range w.sidecars {
		for _, word := range []string{"panic", "DATA RACE", "fatal error"} {
			if strings.Contains(s.Logs(), word) {
				t.Errorf("a sidecar has logged a %s", word)
			}
		}
	}
}

// duration is how long faults happen: what SOAK says, or some seconds, or five minutes at full length.
func duration(t *testing.T) time.Duration {
	t.Helper()
	if text := os.Getenv("SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		must(t, err)
		return d
	}
	if harness.Long() {
		return 5 * time.Minute
	}
	return 6 * time.Second
}

// firstSeed is what SOAK_SEED says, or a new one.
func firstSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("SOAK_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano()) % 1_000_000_000
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	must(t, err)
	return seed
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rest waits for a while, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"readthrough/test/harness"
)

const oneMap = minimal + `
origins: [{name: main}]
maps: [{name: a, key: "a:<id:int>", query: SELECT 1, ttl: 1m}]
`

const twoMaps = minimal + `
origins: [{name: main}]
maps:
  - {name: a, key: "a:<id:int>", query: SELECT 1, ttl: 2m}
  - {name: b, key: "b:<id:int>", query: SELECT 1, ttl: 1m}
`

// reloading is a reloader on a file of its own, which notes what it applies.
type reloading struct {
	*reloader
	path    string
	applied []*Config
	refuse  error // what apply answers
	logs    *observer.ObservedLogs
}

func startReloading(t *testing.T) *reloading {
	t.Helper()
	dir := t.TempDir()
	core, logs := observer.New(zapcore.InfoLevel)
	r := &reloading{path: writeFile(t, dir, "readthrough.yaml", oneMap), logs: logs}
	config, err := LoadConfig(r.path)
	if err != nil {
		t.Fatal(err)
	}
	apply := func(c *Config) error {
		if r.refuse == nil {
			r.applied = append(r.applied, c)
		}
		return r.refuse
	}
	r.reloader = newReloader(r.path, stateDir(filepath.Join(dir, "state")), config, nil, apply, zap.New(core), prometheus.NewRegistry())
	return r
}

func (r *reloading) rewrite(t *testing.T, content string) {
	t.Helper()
	writeFile(t, filepath.Dir(r.path), filepath.Base(r.path), content)
	r.reload()
}

func TestReloadAppliesMaps(t *testing.T) {
	r := startReloading(t)
	r.rewrite(t, twoMaps)
	if len(r.applied) != 1 || len(r.applied[0].Maps) != 2 || len(r.applied[0].compiled.All()) != 2 {
		t.Fatalf("applied: %+v", r.applied)
	}
	if r.current.Load() != r.applied[0] {
		t.Error("what was applied is not what is in use")
	}
	if n := testutil.ToFloat64(r.reloads.WithLabelValues("applied")); n != 2 {
		t.Errorf("%v applied, want 2: at the start and now", n)
	}
	if kept, err := r.state.load(r.path); err != nil || string(kept) != twoMaps {
		t.Errorf("kept for a restart: %q, %v", kept, err)
	}
}

func TestReloadRefusesWhole(t *testing.T) {
	r := startReloading(t)
	before := r.current.Load()
	r.rewrite(t, strings.Replace(twoMaps, "ttl: 1m", "ttl: 1", 1))
	if len(r.applied) != 0 || r.current.Load() != before {
		t.Error("a bad file was applied")
	}
	if n := testutil.ToFloat64(r.reloads.WithLabelValues("refused")); n != 1 {
		t.Errorf("%v refused, want 1", n)
	}
	if testutil.ToFloat64(r.lastGood) != 0 {
		t.Error("the last reload counts as successful")
	}
	if bad := *r.bad.Load(); len(bad) != 1 || !strings.Contains(bad[0], "maps[1].ttl: 1 has no unit") {
		t.Errorf("status tells %q", bad)
	}
	if kept, err := r.state.load(r.path); err != nil || string(kept) != oneMap {
		t.Errorf("kept for a restart: %q, %v", kept, err)
	}

	r.rewrite(t, oneMap) // as it was
	if testutil.ToFloat64(r.lastGood) != 1 || len(*r.bad.Load()) != 0 {
		t.Error("the file is good again, and still counts as refused")
	}
}

func TestReloadRefusedByTheRelay(t *testing.T) {
	r := startReloading(t)
	before := r.current.Load()
	r.refuse = errors.New("no")
	r.rewrite(t, twoMaps)
	if r.current.Load() != before || testutil.ToFloat64(r.reloads.WithLabelValues("refused")) != 1 {
		t.Error("maps that the relay refused are in use")
	}
}

// TestReloadNamesWhatNeedsRestart changes fields that are not applied while running, and then takes the change back.
func TestReloadNamesWhatNeedsRestart(t *testing.T) {
	t.Setenv("READTHROUGH_LOOPS", "2") // the file's own value does not matter
	r := startReloading(t)
	changed := strings.NewReplacer("redis:6379", "other:6379", "{name: main}", "{name: main, pool: {max: 9}}").Replace(twoMaps)
	r.rewrite(t, changed+"log: {level: debug}\nloops: 7\n")
	want := []string{"log.level", "upstream.addresses[0]", "origins[0].pool.max"}
	if got := *r.pending.Load(); !slices.Equal(got, want) {
		t.Errorf("needs a restart: %q, want %q", got, want)
	}
	if n := testutil.ToFloat64(r.needRestart); n != 3 {
		t.Errorf("metric: %v", n)
	}
	current := r.current.Load()
	if len(current.Maps) != 2 || current.Upstream.Addresses[0] != "redis:6379" || current.Origins[0].Pool.Max != 2 {
		t.Errorf("in use: %+v", current)
	}
	if r.logs.FilterMessageSnippet("need a restart").Len() != 1 {
		t.Errorf("logs: %+v", r.logs.All())
	}
	r.rewrite(t, oneMap)
	if got := *r.pending.Load(); len(got) != 0 {
		t.Errorf("needs a restart after the change was taken back: %q", got)
	}
}

func TestReloadRefusesMapsOfNewOrigin(t *testing.T) {
	r := startReloading(t)
	r.rewrite(t, minimal+`
origins: [{name: main}, {name: second}]
maps: [{name: a, key: "a:<id:int>", query: SELECT 1, ttl: 1m, origin: second}]
`)
	if len(r.applied) != 0 {
		t.Error("a map of an origin that is not connected was applied")
	}
	if bad := *r.bad.Load(); len(bad) != 1 || !strings.HasSuffix(bad[0], `:5: maps[0].origin: origin "second" is new: it needs a restart`) {
		t.Errorf("errors: %q", bad)
	}
}

// TestFollowSymlinkSwap changes the file as a kubelet does: the link ..data is renamed to point to another folder.
func TestFollowSymlinkSwap(t *testing.T) {
	volume := harness.NewVolume(t, t.TempDir(), map[string]string{"readthrough.yaml": oneMap})
	path := volume.Path("readthrough.yaml")
	synctest.Test(t, func(t *testing.T) {
		since := fingerprintOf(path)
		changes := 0
		go watchFile(t.Context(), path, since, func() { changes++ })
		time.Sleep(10 * watchInterval)
		synctest.Wait()
		if changes != 0 {
			t.Fatalf("%d changes before the first", changes)
		}
		volume.Update(t, map[string]string{"readthrough.yaml": twoMaps})
		time.Sleep(2*watchInterval + watchInterval/2)
		synctest.Wait()
		if changes != 1 {
			t.Fatalf("%d changes after the swap, want 1", changes)
		}
		time.Sleep(10 * watchInterval)
		synctest.Wait()
		if changes != 1 {
			t.Errorf("%d changes for one swap", changes)
		}
	})
}

// TestFollowWaitsForTheWriter changes the file at each interval: it is not taken before it stays the same.
func TestFollowWaitsForTheWriter(t *testing.T) {
	path := writeFile(t, t.TempDir(), "c.yaml", "0")
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		go watchFile(t.Context(), path, fingerprintOf(path), func() { seen = append(seen, readFile(t, path)) })
		time.Sleep(watchInterval / 2)
		for _, content := range []string{"", "1", "12", "123"} {
			writeFile(t, filepath.Dir(path), "c.yaml", content)
			time.Sleep(watchInterval)
		}
		time.Sleep(watchInterval)
		synctest.Wait()
		if !slices.Equal(seen, []string{"123"}) {
			t.Errorf("taken: %q", seen)
		}
	})
}

// TestRestartWithBadFile starts with a file that is refused; an earlier run has left the last good one.
func TestRestartWithBadFile(t *testing.T) {
	r := startReloading(t)
	writeFile(t, filepath.Dir(r.path), filepath.Base(r.path), "apiVersion: nonsense\n")
	config, refused, err := loadOrRecover(r.path, r.state)
	if err != nil {
		t.Fatal(err)
	}
	if refused == nil || !strings.Contains(refused.Error(), "readthrough.yaml:1: apiVersion") {
		t.Errorf("refused: %v", refused)
	}
	if len(config.Maps) != 1 || config.Maps[0].Name != "a" {
		t.Errorf("config: %+v", config)
	}
	if _, _, err := loadOrRecover(r.path, ""); err == nil || !strings.Contains(err.Error(), "apiVersion") {
		t.Errorf("without a state directory: %v", err)
	}
	if _, _, err := loadOrRecover(filepath.Join(t.TempDir(), "other.yaml"), r.state); err == nil {
		t.Error("another file found this one's copy")
	}
}

func TestStateDirOfOthersIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := stateDir(dir)
	if err := s.save("c.yaml", []byte(oneMap)); err == nil || !strings.Contains(err.Error(), "written by everybody") {
		t.Errorf("save: %v", err)
	}
	writeFile(t, dir, filepath.Base(s.path("c.yaml")), oneMap)
	if _, err := s.load("c.yaml"); err == nil {
		t.Error("a copy that anybody could have written was used")
	}
}

// TestStateDirNotWritable is a read-only root file system: the program goes on and says so.
func TestStateDirNotWritable(t *testing.T) {
	file := writeFile(t, t.TempDir(), "file", "")
	core, logs := observer.New(zapcore.InfoLevel)
	config, err := ParseConfig("c.yaml", []byte(oneMap))
	if err != nil {
		t.Fatal(err)
	}
	newReloader("c.yaml", stateDir(filepath.Join(file, "state")), config, nil, func(*Config) error { return nil }, zap.New(core), prometheus.NewRegistry())
	if logs.FilterMessageSnippet("--state-dir").Len() != 1 {
		t.Errorf("logs: %+v", logs.All())
	}
	if _, err := stateDir(filepath.Join(t.TempDir(), "absent")).load("c.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load: %v", err)
	}
}

// TestRemarks are what /readyz?verbose shows of a configuration through its changes.
func TestRemarks(t *testing.T) {
	r := startReloading(t)
	shows := func(want ...string) {
		t.Helper()
		var got []string
		for _, m := range r.remarks() {
			got = append(got, strings.ReplaceAll(fmt.Sprintf("%t %s: %s", m.ok, m.name, m.text), r.path, "FILE"))
		}
		if !slices.Equal(got, want) {
			t.Errorf("it shows\n%q, want\n%q", got, want)
		}
	}
	const loaded = "true configuration: loaded"
	const refused = "false configuration: the file is refused, the last good one stays in use (does not count for readiness)"
	const restart = "false restart: needed for what has changed besides maps: loops (does not count for readiness)"
	shows(loaded)
	r.rewrite(t, twoMaps+"loops: 2\n")
	shows(loaded, restart)
	r.rewrite(t, oneMap+"loops: many\n")
	shows(refused+"\n    FILE:6: loops: must be a whole number, not \"many\"", restart)
	var many strings.Builder
	for i := range shownProblems + 3 {
		fmt.Fprintf(&many, "x%d: 1\n", i)
	}
	r.rewrite(t, oneMap+many.String())
	all := r.remarks()[0].text
	if n := strings.Count(all, "unknown field"); n != shownProblems || !strings.HasSuffix(all, "\n    and 3 more") {
		t.Errorf("%d problems are shown: %s", n, all)
	}
	r.rewrite(t, oneMap)
	shows(loaded)

	// The program starts with a file that is refused.
	r.rewrite(t, "apiVersion: nonsense\n")
	config, bad, err := loadOrRecover(r.path, r.state)
	if err != nil {
		t.Fatal(err)
	}
	apply := func(*Config) error { return nil }
	r.reloader = newReloader(r.path, r.state, config, bad, apply, zap.NewNop(), prometheus.NewRegistry())
	got := r.remarks()
	if len(got) != 1 || !strings.HasPrefix(got[0].text, "the file is refused, the last good one is in use, as the state directory has kept it (does not") {
		t.Errorf("after a restart: %+v", got)
	}
	r.rewrite(t, twoMaps)
	shows(loaded)

	// It cannot be kept.
	r.state = stateDir(filepath.Join(r.path, "state"))
	r.rewrite(t, oneMap)
	if got := r.remarks(); len(got) != 2 || got[1].name != "state directory" || !strings.Contains(got[1].text, "not kept for a restart: ") {
		t.Errorf("without a state directory: %+v", got)
	}
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestJudgeSaysWhatCheckSays compares both over every bad configuration. Those whose mistake shows only where
// variables are set are good where nothing but the file is known.
func TestJudgeSaysWhatCheckSays(t *testing.T) {
	elsewhere := []string{"environment.yaml", "secret-file-missing.yaml", "secret-twice.yaml", "username-alone.yaml", "variable-file-missing.yaml", "variable-unset.yaml"}
	entries, err := os.ReadDir("testdata/bad")
	if err != nil || len(entries) == 0 {
		t.Fatalf("%d bad configurations, %v", len(entries), err)
	}
	dir := t.TempDir()
	t.Chdir(dir) // a file that a configuration names is not found in either case
	for _, entry := range entries {
		t.Run(entry.Name(), func(t *testing.T) {
			content := readFile(t, filepath.Join(testdata, "bad", entry.Name()))
			writeFile(t, dir, "c.yaml", content)
			mistakes, _ := judge("c.yaml", []byte(content))

			err := reporter{&bytes.Buffer{}, &bytes.Buffer{}}.checkOffline("c.yaml")
			var want []string
			if err != nil {
				want = strings.Split(err.Error(), "\n")
			}
			// What check reads and judge must not: files.
			want = slices.DeleteFunc(want, func(line string) bool { return strings.Contains(line, "cannot be read: no such file") })
			if !slices.Equal(mistakes, want) {
				t.Errorf("judge:\n%s\ncheck:\n%s", strings.Join(mistakes, "\n"), strings.Join(want, "\n"))
			}
			if (len(mistakes) == 0) != slices.Contains(elsewhere, entry.Name()) {
				t.Errorf("%d mistakes", len(mistakes))
			}
		})
	}
}

var testdata = func() string {
	path, err := filepath.Abs("testdata")
	if err != nil {
		panic(err)
	}
	return path
}()

// TestJudgeIsHermetic has every variable and file around it speak against the content, and for it.
func TestJudgeIsHermetic(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("READTHROUGH_LOOPS", "two")
	t.Setenv("READTHROUGH_UPSTREAM_ADDRESSES", "redis:6379")
	t.Setenv("PASSWORD_FILE", filepath.Join(dir, "absent"))
	t.Setenv("HOST", "not a host")
	good := minimal + `origins: [{name: main, url: "postgres://${HOST}/shop", passwordFile: /run/absent}]
`
	good = strings.Replace(good, `["redis:6379"]`, `["redis:6379", "${HOST}"], password: "${PASSWORD}", tls: {enabled: true, caFile: /run/absent, certFile: /run/a, keyFile: /run/b}`, 1)
	if mistakes, warnings := judge("c.yaml", []byte(good)); len(mistakes)+len(warnings) > 0 {
		t.Errorf("good file: %q, %q", mistakes, warnings)
	}
	want := []string{"c.yaml: upstream.addresses: is missing: write a list"}
	if mistakes, _ := judge("c.yaml", []byte("apiVersion: readthrough/v1\n")); !slices.Equal(mistakes, want) {
		t.Errorf("without addresses: %q", mistakes)
	}
}

func TestJudgeWarns(t *testing.T) {
	mistakes, warnings := judge("c.yaml", []byte(checked+"listen: localhost:7000\ndebug: localhost:7002\ndeny: [FLUSHAL]\n"))
	want := []string{
		"c.yaml:16: listen: has no effect in injected pods: there the annotation readthrough/port says it",
		"c.yaml:17: debug: has no effect in injected pods: there the annotation readthrough/debug-port says it",
		"c.yaml: deny: FLUSHAL is no command of Redis itself: did you mean flushall? A module's is denied all the same",
		"c.yaml: map page: the query does not use the captured tenant: is a condition missing?",
	}
	if len(mistakes) > 0 || !slices.Equal(warnings, want) {
		t.Errorf("%q, warnings:\n%s", mistakes, strings.Join(warnings, "\n"))
	}
}

// TestJudgeIsBounded: whoever may write a ConfigMap cannot keep the injector busy with it, nor have it answer by the MiB.
func TestJudgeIsBounded(t *testing.T) {
	const longest = 128 << 10
	fill := func(item string, most int) string { return strings.Repeat(item, min(most, longest/len(item))) }
	var unknown, maps strings.Builder
	for i := range maxJudged/2 - 10 {
		fmt.Fprintf(&unknown, "f%d: 1\n", i)
	}
	maps.WriteString(minimal + "origins: [{name: main, url: \"${ORIGIN_URL}\"}]\nmaps:\n")
	for i := range maxJudged/9 - 10 {
		fmt.Fprintf(&maps, "- {name: m%d, key: \"%d:{id}\", query: SELECT 1, ttl: 1m}\n", i, i)
	}
	for name, text := range map[string]string{
		"origins":      "origins: [" + fill("{},", maxJudged-10) + "]",
		"many origins": "origins: [" + fill("{},", longest) + "]",
		"maps":         "maps: [" + fill("{},", maxJudged-10) + "]",
		"good maps":    maps.String(),
		"fields":       unknown.String(),
		"variables":    "apiVersion: readthrough/v1\nupstream: {addresses: [" + fill("'${A}',", maxJudged-10) + "]}",
		"commands":     minimal + "deny: [" + fill("'',", maxJudged-20) + "]",
		"aliases":      "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a,*a]\norigins: [" + fill("*b,", longest) + "]",
		"itself":       "origins: &a [*a,*a]",
		"lists":        fill("- \n", longest),
	} {
		var mistakes, warnings []string
		began := time.Now()
		peak := peakHeap(func() { mistakes, warnings = judge("a.yaml", []byte(text)) })
		if took := time.Since(began); took > 10*time.Second || peak > 64<<20 {
			t.Errorf("%s: took %s and %d MiB", name, took, peak>>20)
		}
		if good := len(mistakes) == 0 && len(warnings) == 0; good != (name == "good maps" || name == "variables") {
			t.Errorf("%s: %.300q, %.300q", name, mistakes, warnings)
		}
		if n := len(strings.Join(append(mistakes, warnings...), "\n")); n > 100<<10 {
			t.Errorf("%s: %d KiB are said", name, n>>10)
		}
	}
}

// peakHeap is what the heap holds more while f runs, garbage included.
func peakHeap(f func()) uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, stop, peak := m.HeapInuse, make(chan struct{}), make(chan uint64)
	go func() {
		most := before
		for {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
			select {
			case <-stop:
				peak <- most - before
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	f()
	close(stop)
	return <-peak
}

package soak

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// figures are what a sidecar holds while nobody is connected.
type figures struct {
	goroutines, files int
	heap, rss         int64 // bytes; the heap after a collection
}

// within says what of it is more than before, by more than changes with the moment.
func (f figures) within(before figures, plain bool) error {
	var errs []error
	if f.goroutines > before.goroutines+8 {
		errs = append(errs, fmt.Errorf("%d goroutines, before %d", f.goroutines, before.goroutines))
	}
	if f.files > before.files+8 {
		errs = append(errs, fmt.Errorf("%d files, before %d", f.files, before.files))
	}
	if f.heap > before.heap+8<<20 {
		errs = append(errs, fmt.Errorf("%d KiB of heap, before %d KiB", f.heap>>10, before.heap>>10))
	}
	if plain && f.rss > before.rss+32<<20 { // the race detector's own memory grows
		errs = append(errs, fmt.Errorf("%d KiB resident, before %d KiB", f.rss>>10, before.rss>>10))
	}
	return errors.Join(errs...)
}

func (f figures) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %d KiB of heap, %d KiB resident", f.goroutines, f.files, f.heap>>10, f.rss>>10)
}

// flat fails the test unless the sidecars hold what they held before, or come to that soon.
func (w *world) flat(t *testing.T, before []figures) {
	t.Helper()
	after := w.figures(t, before)
	for i := range after {
		t.Logf("sidecar %d: before %v; after %v", i, before[i], after[i])
	}
}

// figures waits until the sidecars hold what they held before, where that is given, and returns what they hold.
func (w *world) figures(t *testing.T, before []figures) (all []figures) {
	t.Helper()
	for i, s := range w.sidecars {
		var f figures
		err := harness.Poll(t.Context(), func() (err error) {
			if f, err = measure(t, s); err == nil && before != nil {
				err = f.within(before[i], i == 0)
			}
			return err
		})
		if err != nil {
			t.Errorf("sidecar %d: %v", i, err)
		}
		all = append(all, f)
	}
	return all
}

func measure(t *testing.T, s *harness.Sidecar) (f figures, err error) {
	if _, err = fetch(t, s.DebugURL()+"/debug/pprof/heap?gc=1&debug=0"); err != nil {
		return f, err
	}
	page, err := fetch(t, s.AdminURL()+"/metrics")
	if err != nil {
		return f, err
	}
	for line := range strings.Lines(page) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a comment
		}
		switch name {
		case "go_goroutines":
			f.goroutines = int(value)
		case "go_memstats_heap_alloc_bytes":
			f.heap = int64(value)
		case "readthrough_clients":
			if value != 0 {
				return f, fmt.Errorf("%v clients are still connected", value)
			}
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Pid()))
	if err != nil {
		return f, err
	}
	f.files = len(files)
	f.rss, err = s.RSS()
	return f, err
}

func fetch(t *testing.T, url string) (string, error) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, response.Status)
	}
	return string(body), err
}

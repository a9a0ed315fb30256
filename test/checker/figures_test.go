package checker

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"readthrough/test/harness"
)

// figures are series of /metrics, as they stand there, and their values.
type figures map[string]float64

func scrape(ctx context.Context, s *harness.Sidecar) (figures, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.AdminURL()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	f := figures{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		series, text, ok := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); ok && err == nil && strings.HasPrefix(series, "readthrough_") {
			f[series] = value
		}
	}
	return f, lines.Err()
}

func (f figures) add(more figures) {
	for series, value := range more {
		f[series] += value
	}
}

// sum adds up the series of a name whose labels, such as outcome="refused", contain a text.
func (f figures) sum(name, label string) float64 {
	total := 0.0
	for series, value := range f {
		if rest, ok := strings.CutPrefix(series, name); ok && (rest == "" || rest[0] == '{') && strings.Contains(rest, label) {
			total += value
		}
	}
	return total
}

// tally counts what happened, by name.
type tally map[string]int

func (t tally) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(&b, "  %-40s %8d\n", name, t[name])
	}
	return b.String()
}

package checker

import (
	"strings"
	"testing"
	"time"
)

// The judge itself, on records written by hand.
func TestJudge(t *testing.T) {
	s := &sidecar{name: "s"}
	put := func(version int, begun, acked int64) *write {
		return &write{version: version, begun: begun, acked: acked, via: s}
	}
	drop := func(version int, begun, acked int64) *write {
		w := put(version, begun, acked)
		w.absent = true
		return w
	}
	got := func(version int, sent, done int64) read {
		return read{version: version, sent: sent, done: done, via: s}
	}
	own := func(r read, version int) read { r.own = version; return r }
	failed := func(r read) read { r.err = "ERR"; return r }

	for name, c := range map[string]struct {
		writes []*write
		read   read
		want   string // the promise broken and a word of why; empty: none
	}{
		"the last one":                        {[]*write{put(1, 1, 2), put(2, 3, 4)}, got(2, 5, 6), ""},
		"an old one":                          {[]*write{put(1, 1, 2), put(2, 3, 4)}, got(1, 5, 6), "P1 v1 is older than v2"},
		"sent before the acknowledgement":     {[]*write{put(1, 1, 2), put(2, 3, 5)}, got(1, 4, 6), ""},
		"not acknowledged yet, the new one":   {[]*write{put(1, 1, 2), put(2, 3, 9)}, got(2, 4, 6), ""},
		"nobody knows, the old one":           {[]*write{put(1, 1, 2), put(2, 3, 0)}, got(1, 5, 6), ""},
		"nobody knows, the new one":           {[]*write{put(1, 1, 2), put(2, 3, 0)}, got(2, 5, 6), ""},
		"acknowledged out of order":           {[]*write{put(1, 1, 2), put(2, 3, 8), put(3, 4, 5)}, got(2, 9, 10), "P1 v2 is older than v3"},
		"the older one's acknowledgement":     {[]*write{put(1, 1, 2), put(2, 3, 5), put(3, 4, 8)}, got(2, 6, 9), ""},
		"one of the future":                   {[]*write{put(1, 1, 2), put(2, 7, 8)}, got(2, 5, 6), "P1 never written"},
		"one that never was":                  {[]*write{put(1, 1, 2)}, got(3, 5, 6), "P1 never written"},
		"a value of a version without a row":  {[]*write{put(1, 1, 2), drop(2, 3, 4)}, got(2, 5, 6), "P1 never written"},
		"null after a deletion":               {[]*write{put(1, 1, 2), drop(2, 3, 4)}, got(0, 5, 6), ""},
		"null after an insertion":             {[]*write{drop(1, 1, 2), put(2, 3, 4)}, got(0, 5, 6), "P1 null is at best v1, which is older than v2"},
		"null, though there was always a row": {[]*write{put(1, 1, 2)}, got(0, 5, 6), "P1 always a row"},
		"null of a later deletion":            {[]*write{drop(1, 1, 2), put(2, 3, 4), drop(3, 6, 0)}, got(0, 5, 7), ""},
		"null of a deletion in the future":    {[]*write{drop(1, 1, 2), put(2, 3, 4), drop(3, 8, 9)}, got(0, 5, 7), "P1 at best v1"},
		"a value after a deletion":            {[]*write{put(1, 1, 2), drop(2, 3, 4)}, got(1, 5, 6), "P1 v1 is older than v2"},
		"its own write, not read":             {[]*write{put(1, 1, 2), put(2, 3, 9)}, own(got(1, 4, 8), 2), "P1 v1 is older than v2"},
		"an error":                            {[]*write{put(1, 1, 2), put(2, 3, 4)}, failed(got(1, 5, 6)), ""},
	} {
		k := &key{name: "k", writes: c.writes, reads: []read{c.read}}
		found := k.judge()
		promise, why, _ := strings.Cut(c.want, " ")
		switch {
		case c.want == "" && len(found) > 0:
			t.Errorf("%s: %v, want none", name, found)
		case c.want != "" && (len(found) != 1 || found[0].promise != promise || !strings.Contains(found[0].text, why)):
			t.Errorf("%s: %v, want %s", name, found, c.want)
		}
	}
}

// What Redis is left with.
func TestJudgeQuiet(t *testing.T) {
	s := &sidecar{}
	row := &key{writes: []*write{{version: 1, begun: 1, acked: 2, via: s}, {version: 2, begun: 3, acked: 4, via: s}, {version: 3, begun: 5, via: s}}}
	none := &key{writes: []*write{{version: 1, absent: true, begun: 1, acked: 2, via: s}, {version: 2, begun: 3, acked: 4, via: s}, {version: 3, absent: true, begun: 5, acked: 6, via: s}}}
	for name, c := range map[string]struct {
		key     *key
		version int
		ok      bool
	}{
		"the last acknowledged":  {row, 2, true},
		"an unknown one":         {row, 3, true},
		"an old one":             {row, 1, false},
		"no row":                 {row, 0, false},
		"the deletion":           {none, 0, true},
		"a row that was deleted": {none, 2, false},
	} {
		if found := c.key.holds(c.version, "it"); (len(found) == 0) != c.ok {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// The time for which a sidecar was paused does not count.
func TestJudgeWait(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(int64(second), 0) }
	s := &sidecar{pauses: []span{{at(10), at(12)}, {at(20), at(25)}, {at(40), time.Time{}}}}
	for _, c := range []struct{ from, to, want int }{
		{0, 5, 5}, {0, 11, 10}, {11, 13, 1}, {10, 12, 0}, {11, 24, 8}, {0, 30, 23}, {39, 60, 1},
	} {
		if got := s.awake(at(c.from), at(c.to).Sub(at(c.from))); got != time.Duration(c.want)*time.Second {
			t.Errorf("from %d to %d: %v, want %ds", c.from, c.to, got, c.want)
		}
		w := wait{what: "GET", via: s, began: at(c.from), took: at(c.to).Sub(at(c.from))}
		if found := w.judge(9 * time.Second); (len(found) > 0) != (c.want > 9) {
			t.Errorf("from %d to %d: %v", c.from, c.to, found)
		}
	}
}

package checker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// key is one key of Redis and its row.
type key struct {
	name string
	id   int // of the row
	kind *kind

	mu      sync.Mutex // guards what is below
	writes  []*write
	reads   []read
	version int // the last one known to be committed
}

// other is the name of an unmapped key in the same slot.
func (k *key) other() string { return "other:" + k.name[strings.IndexByte(k.name, '{'):] }

// write is one version of a row.
type write struct {
	version int
	absent  bool // the row was deleted
	how     string
	client  string
	begun   int64    // ticks
	acked   int64    // 0: never
	via     *sidecar // that answered, or did not
}

// read is one key's answer in a GET or the like.
type read struct {
	version    int // 0: null
	err        string
	how        string
	client     string
	sent, done int64 // ticks
	own        int   // the version that the same client wrote before it in the same pipeline; 0: none
	via        *sidecar
}

// ticks orders the events of all clients.
type ticks struct{ now atomic.Int64 }

func (t *ticks) next() int64 { return t.now.Add(1) }

// wrote records a version that is being written. The caller sets the outcome by settled.
func (k *key) wrote(w *write) *write {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.writes = append(k.writes, w)
	k.version = max(k.version, w.version)
	return w
}

// settled records the outcome of a write: acked is its tick, or 0 where nobody knows.
func (k *key) settled(w *write, via *sidecar, acked int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w.via, w.acked = via, acked
}

func (k *key) was(r read) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reads = append(k.reads, r)
}

// wait is how long an answer took.
type wait struct {
	what, client string
	via          *sidecar
	began        time.Time
	took         time.Duration
}

// judge finds whether it breaks P3, with the bound of an answer. The time for which the sidecar was paused does not count.
func (w wait) judge(limit time.Duration) []violation {
	late := w.via.awake(w.began, w.took)
	if late <= limit {
		return nil
	}
	return []violation{{"P3", w.what, fmt.Sprintf("%s waited %v for an answer via %s", w.client, late, w.via)}}
}

// violation is a broken promise.
type violation struct {
	promise string // P1, P2 or P3
	key     string
	text    string
}

func (v violation) String() string { return fmt.Sprintf("%s %s: %s", v.promise, v.key, v.text) }

// bound knows for every tick the newest version acknowledged before it.
type bound struct {
	ticks    []int64 // ascending
	versions []int   // the newest acknowledged by then
}

func newBound(writes []*write) bound {
	acked := slices.DeleteFunc(slices.Clone(writes), func(w *write) bool { return w.acked == 0 })
	slices.SortFunc(acked, func(a, b *write) int { return cmp.Compare(a.acked, b.acked) })
	var b bound
	newest := 0
	for _, w := range acked {
		newest = max(newest, w.version)
		b.ticks = append(b.ticks, w.acked)
		b.versions = append(b.versions, newest)
	}
	return b
}

// before is the newest version acknowledged before a tick.
func (b bound) before(tick int64) int {
	i, _ := slices.BinarySearch(b.ticks, tick)
	if i == 0 {
		return 0
	}
	return b.versions[i-1]
}

// last is the newest version acknowledged.
func (b bound) last() int {
	if len(b.versions) == 0 {
		return 0
	}
	return b.versions[len(b.versions)-1]
}

// explain says why an answer may not be given: version (0 is null) to a read that was over at the tick done, where nothing older than
// oldest is allowed. It is empty if it may.
func explain(writes []*write, version, oldest int, done int64) string {
	if version > 0 {
		i := slices.IndexFunc(writes, func(w *write) bool { return w.version == version })
		switch {
		case i < 0 || writes[i].absent || writes[i].begun > done:
			return fmt.Sprintf("v%d was never written by then", version)
		case version < oldest:
			return fmt.Sprintf("v%d is older than v%d", version, oldest)
		}
		return ""
	}
	newest := 0
	for _, w := range writes {
		if w.absent && w.begun < done {
			newest = max(newest, w.version)
		}
	}
	switch {
	case newest == 0:
		return "there was always a row by then"
	case newest < oldest:
		return fmt.Sprintf("null is at best v%d, which is older than v%d", newest, oldest)
	}
	return ""
}

// judge finds what breaks P1 in a key's record, the first of it: what follows may follow from that.
func (k *key) judge() []violation {
	k.mu.Lock()
	defer k.mu.Unlock()
	acked := newBound(k.writes)
	for _, r := range k.reads {
		if r.err != "" {
			continue
		}
		oldest := max(acked.before(r.sent), r.own)
		if why := explain(k.writes, r.version, oldest, r.done); why != "" {
			return []violation{{"P1", k.name, fmt.Sprintf("%s: %s\n%s", r, why, k.around(r.sent, r.done))}}
		}
	}
	return nil
}

// holds judges what Redis has for the key when all is quiet (P2): a value, or the mark that there is none.
func (k *key) holds(version int, what string) []violation {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := newBound(k.writes).last()
	why := explain(k.writes, version, last, 1<<62)
	if why == "" {
		return nil
	}
	return []violation{{"P2", k.name, fmt.Sprintf("Redis is left with %s: %s\n%s", what, why, k.around(1<<61, 1<<62))}}
}

// around lists what happened to the key shortly before and during a span of ticks.
func (k *key) around(from, to int64) string {
	type line struct {
		tick int64
		text string
	}
	var lines []line
	for _, w := range k.writes {
		if w.begun < to {
			lines = append(lines, line{w.begun, "begun  " + w.String()})
		}
		if w.acked != 0 && w.acked < to {
			lines = append(lines, line{w.acked, "acked  " + w.String()})
		}
	}
	for _, r := range k.reads {
		if r.done <= to {
			lines = append(lines, line{r.done, fmt.Sprintf("read   %s sent at %d", r, r.sent)})
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.tick, b.tick) })
	i, _ := slices.BinarySearchFunc(lines, from, func(l line, tick int64) int { return cmp.Compare(l.tick, tick) })
	text := ""
	for _, l := range lines[max(0, min(i, len(lines))-12):] {
		text += fmt.Sprintf("      %8d %s\n", l.tick, l.text)
	}
	return text
}

func (w *write) String() string {
	what := fmt.Sprintf("v%d", w.version)
	if w.absent {
		what += " (no row)"
	}
	return fmt.Sprintf("%s by %s, %s via %s", what, w.client, w.how, w.via)
}

func (r read) String() string {
	what := "null"
	switch {
	case r.err != "":
		what = r.err
	case r.version > 0:
		what = fmt.Sprintf("v%d", r.version)
	}
	return fmt.Sprintf("%s answered %s to %s via %s", r.how, what, r.client, r.via)
}

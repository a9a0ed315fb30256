package origin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxNear bounds the near misses of an explanation.
const maxNear = 5

// Explanation says which map a key belongs to, for people.
type Explanation struct {
	Map    *Map        // nil where no map matches
	Params []Parameter // of the key, in the order of the pattern
	Near   []NearMiss  // where no map matches: those that came near, the nearest first
}

// Parameter is a capture with its value in one key.
type Parameter struct {
	Capture
	Value string
	Used  bool // by the query
}

// NearMiss is a map that matches the beginning of a key.
type NearMiss struct {
	Map      string
	Key      string // its pattern
	Position int    // bytes of the key that match
	Reason   string // what the pattern expects there
}

// Explain says which map the key belongs to and with which parameters; where there is none, which maps came near and where
// they fail.
func (m *Maps) Explain(key []byte) Explanation {
	if found, params, ok := m.Match(key); ok {
		e := Explanation{Map: found}
		for i, c := range found.pattern.captures() {
			e.Params = append(e.Params, Parameter{Capture: c, Value: string(params[i]), Used: slices.Contains(found.args, i)})
		}
		return e
	}
	var e Explanation
	for _, candidate := range m.maps {
		position, reason := candidate.pattern.fails(key)
		if position > 0 {
			e.Near = append(e.Near, NearMiss{candidate.Name, candidate.Key, position, reason})
		}
	}
	slices.SortStableFunc(e.Near, func(a, b NearMiss) int { return cmp.Compare(b.Position, a.Position) })
	if len(e.Near) > maxNear {
		e.Near = e.Near[:maxNear]
	}
	return e
}

// fails walks a key that the pattern does not match and returns where it fails and why. It returns "" for a key that matches.
func (p *pattern) fails(key []byte) (position int, reason string) {
	at := 0
	for _, part := range p.parts {
		if part.literal != "" {
			n := 0
			for n < len(part.literal) && at+n < len(key) && key[at+n] == part.literal[n] {
				n++
			}
			if n < len(part.literal) {
				for !utf8.RuneStart(part.literal[n]) {
					n--
				}
				return at + n, fmt.Sprintf("expected %q", part.literal[n:])
			}
			at += n
			continue
		}
		end := part.capture.Type.end(key, at, part.stop)
		if end < 0 {
			return at, part.expectation(key[at:])
		}
		at = end
	}
	if at < len(key) {
		return at, "the pattern ends here, the key goes on"
	}
	return at, ""
}

// expectation says what a capture wants where it fails.
func (p part) expectation(rest []byte) string {
	want := fmt.Sprintf("%s is %s", p.capture.Name, captureTypes[p.capture.Type].accepts)
	if p.capture.Type != Text {
		return want
	}
	switch {
	case p.stop != "" && !strings.Contains(string(rest), p.stop):
		return fmt.Sprintf("%s, and ends before %q, which does not follow", want, p.stop)
	case p.stop == "" && slices.Contains(rest, separator):
		return fmt.Sprintf("%s, without %q at the end of a pattern: write <%s:path> to take the rest", want, string(separator), p.capture.Name)
	}
	return want
}

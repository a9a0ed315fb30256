package origin

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// CaptureType says what a capture of a key pattern accepts.
//
// Each type but text and path accepts one spelling of a value only: the one in which PostgreSQL prints it. Two spellings of one
// number ("7" and "007") would be two keys, two cache entries and two loads for one row, and invalidating one would leave the
// other. Who needs another spelling captures text and lets PostgreSQL convert it.
type CaptureType uint8

const (
	Text CaptureType = iota // one or more characters, up to the first character of the literal that follows; at a pattern's end up to the key's end, without ':'
	Int                     // a 64-bit integer in decimal: no plus sign, no leading zero, no -0
	UUID                    // 8-4-4-4-12 lower-case hexadecimal digits
	Date                    // YYYY-MM-DD, a day that exists, from the year 0001 on
	Hex                     // one or more lower-case hexadecimal digits
	Path                    // the rest of the key, ':' included; not empty
)

var captureTypes = [...]struct{ name, accepts, example string }{
	Text: {"text", "one or more characters of valid UTF-8 without NUL", "x"},
	Int:  {"int", "a 64-bit integer without plus sign or leading zero", "1"},
	UUID: {"uuid", "8-4-4-4-12 lower-case hexadecimal digits", "00000000-0000-0000-0000-000000000000"},
	Date: {"date", "a date that exists, as YYYY-MM-DD", "2000-01-01"},
	Hex:  {"hex", "lower-case hexadecimal digits", "a"},
	Path: {"path", "the rest of the key, in valid UTF-8 without NUL", "x"},
}

func (t CaptureType) String() string { return captureTypes[t].name }

// separator is what Redis keys are split with by convention. A text capture at a pattern's end does not hold it: else
// "usr:<id>" and "usr:<id>:settings" could not stand side by side, and every key below "usr:" would be looked up as a row.
const separator = ':'

func parseCaptureType(name string) (CaptureType, bool) {
	for t, d := range captureTypes {
		if d.name == name {
			return CaptureType(t), true
		}
	}
	return 0, false
}

// captureTypeNames lists the types for messages.
func captureTypeNames() string {
	names := make([]string, len(captureTypes))
	for t, d := range captureTypes {
		names[t] = d.name
	}
	return strings.Join(names, ", ")
}

// end returns where the capture that begins at key[start] ends, or -1 when there is none. stop is the first character of the
// literal that follows, "" at the end of the pattern.
func (t CaptureType) end(key []byte, start int, stop string) int {
	switch t {
	case Text, Path:
		span := key[start:]
		if stop != "" {
			i := bytes.Index(span, []byte(stop))
			if i < 0 {
				return -1
			}
			span = span[:i]
		} else if t == Text && bytes.IndexByte(span, separator) >= 0 {
			return -1
		}
		if len(span) == 0 || bytes.IndexByte(span, 0) >= 0 || !utf8.Valid(span) {
			return -1
		}
		return start + len(span)
	case Int:
		return intEnd(key, start)
	default:
		var p progress
		i := start
		for ; i < len(key); i++ {
			next, ok := t.step(p, rune(key[i]), 0)
			if !ok {
				break
			}
			p = next
		}
		if !t.complete(p) {
			return -1
		}
		return i
	}
}

// The digits of the largest and the smallest int64.
const (
	maxInt = "9223372036854775807"
	minInt = "9223372036854775808"
)

// intEnd is end for Int, which is what most keys have. It accepts what stepInt accepts.
func intEnd(key []byte, start int) int {
	digits := start
	if digits < len(key) && key[digits] == '-' {
		digits++
	}
	i := digits
	for i < len(key) && isDigit(rune(key[i])) {
		i++
	}
	n := i - digits
	switch {
	case n == 0 || n > len(maxInt) || key[digits] == '0' && i-start > 1:
		return -1
	case n == len(maxInt) && string(key[digits:i]) > maxInt && (digits == start || string(key[digits:i]) > minInt):
		return -1
	}
	return i
}

// follows reports whether a literal may begin with r after a capture of this type: where the capture would swallow it, the
// pattern could match no key.
func (t CaptureType) follows(r rune) bool {
	switch t {
	case Int:
		return !isDigit(r)
	case Hex:
		return !isHexDigit(r)
	default:
		return true
	}
}

// progress is how far a capture has come: the state of the automaton that accepts its type. It is comparable, and has few
// values for each type, so that two automata can be run side by side (overlap.go).
type progress struct {
	n     int8 // characters so far, where their number matters; otherwise 1 once there is one
	minus bool // Int: begins with a minus sign
	cmp   int8 // Int: the digits so far against those of the limit, -1, 0 or 1
	v     int  // Date: the number being read; Int: 1 for a lone zero
	limit int8 // Date: whether the year is a leap year, then the days of the month
}

// step takes one more character. stop ends text; 0 stands for the end of the pattern.
func (t CaptureType) step(p progress, r, stop rune) (progress, bool) {
	switch t {
	case Int:
		return p.stepInt(r)
	case UUID:
		p.n++
		if p.n == 9 || p.n == 14 || p.n == 19 || p.n == 24 {
			return p, r == '-'
		}
		return p, p.n <= 36 && isHexDigit(r)
	case Date:
		return p.stepDate(r)
	case Hex:
		return progress{n: 1}, isHexDigit(r)
	case Path:
		return progress{n: 1}, r != 0
	default:
		return progress{n: 1}, r != 0 && r != stop && (stop != 0 || r != separator)
	}
}

// complete reports whether the capture may end here.
func (t CaptureType) complete(p progress) bool {
	switch t {
	case UUID:
		return p.n == 36
	case Date:
		return p.n == 10
	default:
		return p.n > 0
	}
}

func (p progress) stepInt(r rune) (progress, bool) {
	if r == '-' {
		ok := p == progress{}
		p.minus = true
		return p, ok
	}
	limit := maxInt
	if p.minus {
		limit = minInt
	}
	if !isDigit(r) || p.v == 1 || int(p.n) == len(limit) {
		return p, false
	}
	if p.n == 0 && r == '0' {
		p.v = 1
		if p.minus {
			return p, false
		}
	}
	if p.cmp == 0 {
		p.cmp = int8(min(1, max(-1, r-rune(limit[p.n]))))
	}
	p.n++
	return p, int(p.n) < len(limit) || p.cmp <= 0
}

func (p progress) stepDate(r rune) (progress, bool) {
	p.n++
	switch p.n {
	case 5, 8:
		return p, r == '-'
	}
	if !isDigit(r) || p.n > 10 {
		return p, false
	}
	p.v = p.v*10 + int(r-'0')
	v := p.v
	switch p.n {
	case 4:
		p.v, p.limit = 0, 0
		if v%4 == 0 && (v%100 != 0 || v%400 == 0) {
			p.limit = 1
		}
		return p, v > 0
	case 7:
		if v < 1 || v > 12 {
			return p, false
		}
		days := [...]int8{31, 28 + p.limit, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
		p.v, p.limit = 0, days[v-1]
	case 10:
		p.v = 0
		return p, v >= 1 && v <= int(p.limit)
	}
	return p, true
}

// runes are the characters that this type tells apart, for a search over all keys. Text and path accept nearly everything:
// three characters stand for the many, so that one is left when two patterns stop at the others.
func (t CaptureType) runes() string {
	switch t {
	case Int:
		return "-0123456789"
	case UUID, Hex:
		return "-0123456789abcdef"
	case Date:
		return "-0123456789"
	default:
		return "xyz"
	}
}

// example is a value of this type that stop does not cut short.
func (t CaptureType) example(stop string) string {
	e := captureTypes[t].example
	if t == Text && e == stop {
		return "y"
	}
	return e
}

func isDigit(r rune) bool    { return '0' <= r && r <= '9' }
func isHexDigit(r rune) bool { return isDigit(r) || 'a' <= r && r <= 'f' }

// Package frame finds the borders of RESP commands and replies in a byte stream, without decoding what lies between them.
//
// Both directions are incremental: a command or reply that arrives in a thousand pieces is scanned once. Commands are
// judged as Redis judges them (networking.c, processMultibulkBuffer and processInlineBuffer): the same limits, the same
// error texts, the same leniency. Replies are RESP2 and RESP3 as Redis sends them
// (https://redis.io/docs/latest/develop/reference/protocol-spec/).
package frame

import (
	"bytes"
	"math"
)

// parseInt reads a decimal as Redis's string2ll does: an optional minus, no plus, no leading zero, no blank, within int64.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 1 && b[0] == '0' {
		return 0, true
	}
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 || b[0] < '1' || b[0] > '9' {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	switch {
	case negative && n <= -math.MinInt64:
		return int64(-n), true
	case !negative && n <= math.MaxInt64:
		return int64(n), true
	}
	return 0, false
}

// indexLine looks for the first end in b[from:] as C's strchr does, which stops at a NUL: Redis never finds a line end behind
// one. It returns the index of end, or -1 and the index from which a later call, with more bytes, has to go on.
func indexLine(b []byte, from int, end byte) (at, next int) {
	if from < len(b) && b[from] == 0 { // an earlier call has found it
		return -1, from
	}
	at = bytes.IndexByte(b[from:], end)
	searched := b[from:]
	if at >= 0 {
		searched = b[from : from+at]
	}
	if nul := bytes.IndexByte(searched, 0); nul >= 0 {
		return -1, from + nul
	}
	if at < 0 {
		return -1, len(b)
	}
	return from + at, from + at
}

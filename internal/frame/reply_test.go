package frame

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// everyType has a reply of each type of RESP2 and RESP3.
var everyType = []string{
	"+OK\r\n",
	"+\r\n",
	"-ERR no\r\n",
	":0\r\n",
	":-9223372036854775808\r\n",
	"$0\r\n\r\n",
	"$5\r\nhello\r\n",
	"$4\r\n\r\n+x\r\n",
	"$-1\r\n",
	"*0\r\n",
	"*-1\r\n",
	"*3\r\n:1\r\n$1\r\nx\r\n*2\r\n+a\r\n$-1\r\n",
	"_\r\n",
	"#t\r\n",
	",3.25\r\n",
	",-inf\r\n",
	"(3492890328409238509324850943850943825024385\r\n",
	"=15\r\ntxt:Some string\r\n",
	"!21\r\nSYNTAX invalid syntax\r\n",
	"%0\r\n",
	"%2\r\n+a\r\n:1\r\n*1\r\n+b\r\n%1\r\n_\r\n#f\r\n",
	"~3\r\n:1\r\n+two\r\n$3\r\nsix\r\n",
	">3\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n_\r\n",
	"|1\r\n+ttl\r\n:3600\r\n$1\r\nv\r\n",
	"|0\r\n+OK\r\n",
	"|1\r\n+a\r\n:1\r\n|1\r\n+b\r\n:2\r\n*1\r\n|1\r\n+c\r\n%1\r\n+d\r\n_\r\n:3\r\n", // attributes of attributes' values and of elements
	"*2\r\n|1\r\n+a\r\n:1\r\n+x\r\n+y\r\n",
}

// lengths frames what Redis sends, in pieces, as a connection does.
func lengths(pieces ...[]byte) (all []int, err error) {
	var r Replies
	var unread []byte
	for _, piece := range pieces {
		unread = append(unread, piece...)
		for len(unread) > 0 {
			n, err := r.Next(unread)
			if err != nil {
				return all, err
			}
			if n == 0 {
				break
			}
			all = append(all, n)
			unread = unread[n:]
		}
	}
	return all, nil
}

// partLengths is lengths for a connection that passes on each piece at once.
func partLengths(pieces ...[]byte) (all []int, err error) {
	var r Replies
	taken := 0
	for _, piece := range pieces {
		for len(piece) > 0 {
			n, err := r.Next(piece)
			if err != nil {
				return all, err
			}
			if n == 0 {
				n = r.Take()
				if n != len(piece) || !r.Within() {
					return all, fmt.Errorf("took %d of the %d bytes of an unfinished reply", n, len(piece))
				}
				taken += n
			} else {
				all = append(all, taken+n)
				taken = 0
			}
			piece = piece[n:]
		}
	}
	return all, nil
}

func TestReplies(t *testing.T) {
	var stream []byte
	var want []int
	for _, reply := range everyType {
		for name, pieces := range map[string][][]byte{"whole": {[]byte(reply)}, "byte by byte": bytewise([]byte(reply))} {
			if got, err := lengths(pieces...); err != nil || !slices.Equal(got, []int{len(reply)}) {
				t.Errorf("%q %s: got %d, %v", reply, name, got, err)
			}
		}
		stream = append(stream, reply...)
		want = append(want, len(reply))
	}
	for at := range stream {
		pieces := [][]byte{stream[:at], stream[at:]}
		if got, err := lengths(pieces...); err != nil || !slices.Equal(got, want) {
			t.Errorf("cut at %d: got %d, %v, want %d", at, got, err, want)
		}
		if got, err := partLengths(pieces...); err != nil || !slices.Equal(got, want) {
			t.Errorf("in parts, cut at %d: got %d, %v, want %d", at, got, err, want)
		}
	}
}

func TestMalformedReplies(t *testing.T) {
	for _, in := range []string{
		"x\r\n", "\r\n", "\x00", "PING\r\n", "@1\r\n", ".\r\n", // types that do not exist
		"$\r\n", "$x\r\n", "$1x\r\n", "$--1\r\n", "$1-\r\n", "$ 1\r\n", "$+1\r\n", "$-\r\n", "*\r\n", "%1.5\r\n",
		"$?\r\n", "*?\r\n", // the streamed types of RESP3, which Redis does not send
		"$9223372036854775807\r\n", "*9999999999999999999\r\n",
		"*1\r\nx", "|1\r\n+a\r\n+b\r\n?",
		strings.Repeat("*999999999999999999\r\n", 10), // each announces 10^18 values: the sum passes 2^63
		strings.Repeat("%999999999999999999\r\n", 5),
		strings.Repeat("|999999999999999999\r\n", 5),
	} {
		for name, pieces := range map[string][][]byte{"whole": {[]byte(in)}, "byte by byte": bytewise([]byte(in))} {
			if got, err := lengths(pieces...); !errors.Is(err, ErrReply) || len(got) > 0 {
				t.Errorf("%q %s: got %d, %v, want an error", in, name, got, err)
			}
		}
	}
}

// TestDeepReplies: the depth of nesting costs no memory.
func TestDeepReplies(t *testing.T) {
	const depth = 100_000
	for _, level := range []string{"*1\r\n", "*2\r\n:1\r\n", "%1\r\n+k\r\n", "|1\r\n+k\r\n+v\r\n", "~1\r\n", "|1\r\n"} {
		in := []byte(strings.Repeat(level, depth))
		if level == "|1\r\n" { // the key of an attribute has an attribute, and so on: each leaves a value and what it describes
			in = append(in, strings.Repeat("+x\r\n", 2*depth)...)
		}
		in = append(in, "+leaf\r\n"...)
		var r Replies
		if allocs := testing.AllocsPerRun(1, func() {
			if n, err := r.Next(in); n != len(in) || err != nil {
				t.Fatalf("%q: got %d of %d, %v", level, n, len(in), err)
			}
		}); allocs != 0 {
			t.Errorf("%q: %v allocations", level, allocs)
		}
	}
}

// TestRepliesScannedOnce spoils everything that Next was shown before each further call.
func TestRepliesScannedOnce(t *testing.T) {
	for name, in := range map[string][]byte{
		"line":   []byte("+" + strings.Repeat("x", 64<<10) + "\r\n"),
		"bulk":   fmt.Appendf(nil, "$%d\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20)),
		"array":  []byte("*100000\r\n" + strings.Repeat("$4\r\nabcd\r\n", 100_000)),
		"nested": []byte(strings.Repeat("*2\r\n:1\r\n", 50_000) + "_\r\n"),
	} {
		for _, piece := range []int{1, 1000} {
			var r Replies
			shown := make([]byte, len(in))
			for end := 0; end < len(in); {
				start := end
				end = min(end+piece, len(in))
				copy(shown[start:end], in[start:end])
				n, err := r.Next(shown[:end])
				if err != nil || end < len(in) && n != 0 || end == len(in) && n != end {
					t.Fatalf("%s by %d: after %d of %d bytes got %d, %v", name, piece, end, len(in), n, err)
				}
				for i := start; i < end; i++ {
					shown[i] = '\n'
				}
			}
		}
	}
}

func TestRepliesDoNotAllocate(t *testing.T) {
	stream := []byte(strings.Join(everyType, ""))
	var r Replies
	if allocs := testing.AllocsPerRun(100, func() {
		for rest := stream; len(rest) > 0; {
			n, err := r.Next(rest)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			rest = rest[n:]
		}
	}); allocs != 0 {
		t.Errorf("%v allocations for %d replies", allocs, len(everyType))
	}
}

// FuzzReplies holds that the pieces in which bytes arrive do not matter, collected or taken in parts, and compares the borders
// with those that a recursive reader finds.
func FuzzReplies(f *testing.F) {
	for _, reply := range everyType {
		f.Add([]byte(reply), uint64(1))
	}
	f.Add([]byte(strings.Join(everyType, "")), uint64(2))
	f.Add([]byte(strings.Repeat("*999999999999999999\r\n", 10)), uint64(3))
	f.Add([]byte("*2\r\n$3\r\nabc\r\n?"), uint64(4))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		whole, err := lengths(in)
		for name, frame := range map[string]func(...[]byte) ([]int, error){"collected": lengths, "in parts": partLengths} {
			for how, pieces := range map[string][][]byte{"bytes": bytewise(in), "pieces": cut(in, seed)} {
				got, gotErr := frame(pieces...)
				if !slices.Equal(got, whole) || fmt.Sprint(gotErr) != fmt.Sprint(err) {
					t.Fatalf("%q %s %s: got %d, %v, whole %d, %v", in, name, how, got, gotErr, whole, err)
				}
			}
		}
		for rest := in; len(whole) > 0; whole = whole[1:] {
			if n, ok := valueLength(rest, 0); ok && n != whole[0] {
				t.Fatalf("%q: reply of %d bytes, a recursive reader finds %d", in, whole[0], n)
			}
			rest = rest[whole[0]:]
		}
	})
}

// valueLength is the length of the RESP value at the start of b, by the book. It is not ok for what is not by the book, or is
// too deep to recurse.
func valueLength(b []byte, depth int) (n int, ok bool) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 1 || depth > 1000 || bytes.IndexByte(b[:end], '\n') >= 0 {
		return 0, false
	}
	n = end + 2
	var children int64
	switch b[0] {
	case '+', '-', ':', ',', '(', '#', '_':
		return n, true
	default:
		length, isNumber := parseInt(b[1:end])
		switch {
		case !isNumber || length < -1 || length > int64(len(b)):
			return 0, false
		case length == -1:
			return n, b[0] == '$' || b[0] == '*'
		}
		switch b[0] {
		case '$', '=', '!':
			n += int(length) + 2
			return n, n <= len(b)
		case '*', '~', '>':
			children = length
		case '%':
			children = 2 * length
		case '|':
			children = 2*length + 1
		}
	}
	for range children {
		size, ok := valueLength(b[n:], depth+1)
		if !ok {
			return 0, false
		}
		n += size
	}
	return n, true
}

func BenchmarkReplies(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	hash := fmt.Appendf(nil, "%%%d\r\n", 100)
	for range 200 {
		hash = fmt.Appendf(hash, "$8\r\n%08d\r\n", random.IntN(1e8))
	}
	for _, bc := range []struct {
		name string
		in   []byte
	}{
		{"status", []byte("+OK\r\n")},
		{"null", []byte("$-1\r\n")},
		{"bulk64", fmt.Appendf(nil, "$64\r\n%s\r\n", strings.Repeat("v", 64))},
		{"bulk16KiB", fmt.Appendf(nil, "$16384\r\n%s\r\n", strings.Repeat("v", 16<<10))},
		{"map100", hash},
	} {
		b.Run(bc.name, func(b *testing.B) {
			var r Replies
			b.ReportAllocs()
			b.SetBytes(int64(len(bc.in)))
			for b.Loop() {
				if n, err := r.Next(bc.in); n != len(bc.in) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

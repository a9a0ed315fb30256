package resp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"readthrough/internal/command"
	"readthrough/internal/frame"
)

func TestMerge(t *testing.T) {
	const none = "they do not go together"
	for _, test := range []struct {
		how     command.Response
		replies []string
		want    string
	}{
		{command.ResponseAllSucceeded, []string{"+OK\r\n", "+OK\r\n"}, "+OK\r\n"},
		{command.ResponseOneSucceeded, []string{"$1\r\na\r\n", "+OK\r\n"}, "$1\r\na\r\n"},

		{command.ResponseAggSum, []string{":1\r\n", ":0\r\n", ":41\r\n"}, ":42\r\n"},
		{command.ResponseAggSum, []string{":-1\r\n"}, ":-1\r\n"},
		{command.ResponseAggMin, []string{":3\r\n", ":-7\r\n", ":5\r\n"}, ":-7\r\n"},
		{command.ResponseAggMax, []string{":3\r\n", ":-7\r\n", ":5\r\n"}, ":5\r\n"},
		{command.ResponseAggLogicalAnd, []string{":1\r\n", ":0\r\n"}, ":0\r\n"},
		{command.ResponseAggLogicalOr, []string{":1\r\n", ":0\r\n"}, ":1\r\n"},
		{command.ResponseAggLogicalAnd, []string{"*3\r\n:1\r\n:0\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n:0\r\n"}, "*3\r\n:1\r\n:0\r\n:0\r\n"},
		{command.ResponseAggSum, []string{"*0\r\n", "*0\r\n"}, "*0\r\n"},
		{command.ResponseAggSum, []string{":1\r\n", "$1\r\n1\r\n"}, none},
		{command.ResponseAggSum, []string{"*1\r\n:1\r\n", "*2\r\n:1\r\n:1\r\n"}, none},
		{command.ResponseAggSum, []string{"*1\r\n:1\r\n", ":1\r\n"}, none},
		{command.ResponseAggSum, []string{"+OK\r\n", "+QUEUED\r\n"}, none},

		{command.ResponseSumPairs, []string{"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:0\r\n", "*4\r\n$1\r\na\r\n:2\r\n$1\r\nb\r\n:3\r\n"}, "*4\r\n$1\r\na\r\n:3\r\n$1\r\nb\r\n:3\r\n"},
		{command.ResponseSumPairs, []string{"%1\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:2\r\n"}, "%1\r\n$1\r\na\r\n:3\r\n"},
		{command.ResponseSumPairs, []string{"*2\r\n$1\r\na\r\n:1\r\n", "*2\r\n$1\r\nb\r\n:2\r\n"}, none},

		{command.ResponseUnion, []string{"*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*0\r\n", "*2\r\n$1\r\nc\r\n$1\r\na\r\n"}, "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"},
		{command.ResponseUnion, []string{"~1\r\n+a\r\n", "~1\r\n+a\r\n"}, "~1\r\n+a\r\n"},
		{command.ResponseUnion, []string{"~1\r\n+a\r\n", "*1\r\n+a\r\n"}, none},
		{command.ResponseUnion, []string{":1\r\n"}, none},

		{command.ResponseDefault, []string{"+PONG\r\n", "+PONG\r\n"}, "+PONG\r\n"},
		{command.ResponseDefault, []string{"_\r\n", "*0\r\n"}, none},
	} {
		var replies [][]byte
		for _, r := range test.replies {
			replies = append(replies, []byte(r))
		}
		got, ok := merge([]byte("before"), test.how, replies)
		if text := strings.TrimPrefix(string(got), "before"); ok != (test.want != none) || ok && text != test.want {
			t.Errorf("%s of %q: %q, %t, want %q", test.how, test.replies, text, ok, test.want)
		}
	}
}

func TestHeader(t *testing.T) {
	for reply, want := range map[string][3]int{
		"*3":          {0, 0, 0},
		"*3\r\n:1":    {'*', 3, 4},
		"%12\r\n":     {'%', 12, 5},
		"~0\r\n":      {'~', 0, 4},
		"*-1\r\n":     {'*', -1, 5},
		"-ERR no\r\n": {'-', -1, 9},
		"$1\r\na\r\n": {'$', -1, 4},
		"_\r\n":       {'_', -1, 3},
	} {
		if kind, n, size := header([]byte(reply)); [3]int{int(kind), n, size} != want {
			t.Errorf("%q: %c %d %d, want %v", reply, kind, n, size, want)
		}
	}
}

// Cutting an array into any parts and merging these makes the same array; so do sums, and unions of what is different.
func FuzzMergeOfParts(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0, 1, 2}, uint8(3), uint64(1))
	f.Add([]byte{1, 1, 1}, uint8(2), uint64(2))
	f.Add([]byte{}, uint8(1), uint64(3))
	f.Add(bytes.Repeat([]byte{3, 0, 9}, 50), uint8(5), uint64(4))
	// What stands in the array at each position, in RESP2 and RESP3.
	element := func(i int) string {
		return []string{
			"$-1\r\n", "$0\r\n\r\n", fmt.Sprintf("$%d\r\n%d\r\n", len(fmt.Sprint(i)), i), "*2\r\n:1\r\n*0\r\n", "_\r\n", "%1\r\n+k\r\n$2\r\n\r\n\r\n",
			fmt.Sprintf(":%d\r\n", i), "|1\r\n+ttl\r\n:3\r\n+x\r\n",
		}[i%8]
	}
	f.Fuzz(func(t *testing.T, choices []byte, count uint8, seed uint64) {
		parts := int(count)%16 + 1
		order := make([]int32, len(choices))
		sizes := make([]int, parts)
		bodies := make([]string, parts)
		var whole strings.Builder
		for i, c := range choices {
			n := int(c) % parts
			order[i] = int32(n)
			sizes[n]++
			bodies[n] += element(i)
			whole.WriteString(element(i))
		}
		replies := make([][]byte, parts)
		sums := make([][]byte, parts)
		for n := range replies {
			replies[n] = fmt.Appendf(nil, "*%d\r\n%s", sizes[n], bodies[n])
			sums[n] = fmt.Appendf(nil, ":%d\r\n", sizes[n])
		}
		r := rand.New(rand.NewPCG(seed, 0))
		if got := string(arriving(r, replies, order)); got != whole.String() {
			t.Errorf("%q in order: %q, want %q", replies, got, whole.String())
		}
		all := arriving(r, replies, nil)
		if got, want := elements(all), elements([]byte(whole.String())); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%q joined: %q, want %q", replies, got, want)
		}
		if got, ok := merge(nil, command.ResponseAggSum, sums); !ok || string(got) != fmt.Sprintf(":%d\r\n", len(choices)) {
			t.Errorf("sum of %q: %q, %t", sums, got, ok)
		}
		joined, ok := merge(nil, command.ResponseUnion, replies)
		different := map[string]bool{}
		for i := range choices {
			different[element(i)] = true
		}
		if n := len(frame.Elements(joined)); !ok || n != len(different) {
			t.Errorf("union of %q: %q, %t, want %d elements", replies, joined, ok, len(different))
		}
	})
}

// arriving has replies arrive in pieces, in turn, and returns what is passed on, in order or, without one, as it comes.
func arriving(r *rand.Rand, replies [][]byte, order []int32) (passed []byte) {
	streams := make([]stream, len(replies))
	left := make([][]byte, len(replies))
	bytes := 0
	for i, reply := range replies {
		left[i] = reply
		bytes += len(reply)
	}
	emit := func(b []byte) { passed = append(passed, b...) }
	for next := 0; bytes > 0; {
		i := r.IntN(len(left))
		n := min(len(left[i]), 1+r.IntN(30))
		streams[i].add(left[i][:n])
		left[i] = left[i][n:]
		bytes -= n
		if order != nil {
			next = inOrder(order, next, func(n int32) *stream { return &streams[n] }, emit)
		} else {
			emit(streams[i].elements())
		}
	}
	return passed
}

// elements cuts a sequence of values.
func elements(b []byte) (all []string) {
	for len(b) > 0 {
		var one frame.Replies
		n, err := one.Next(b)
		if n == 0 || err != nil {
			return append(all, fmt.Sprintf("broken: %q", b))
		}
		all = append(all, string(b[:n]))
		b = b[n:]
	}
	return all
}

// Nulls are found in a reply that comes in two pieces, wherever it is cut, and nothing else is taken for one.
func TestNullsOfAStream(t *testing.T) {
	const reply = "*6\r\n$-1\r\n$7\r\nabcd$-1\r\n_\r\n$5\r\n_\r\n_\r\r\n$0\r\n\r\n$-1\r\n"
	_, count, size := header([]byte(reply))
	for cut := range len(reply) {
		var r stream
		var taken strings.Builder
		var nulls []int
		index := 0
		for _, piece := range []string{reply[:cut], reply[cut:]} {
			if piece == "" {
				continue
			}
			r.add([]byte(piece))
			for index < count {
				ahead := r
				if _, _, whole := ahead.element(); !whole {
					taken.Write(r.some())
					break
				}
				b, null, _ := r.element()
				taken.Write(b)
				if null {
					nulls = append(nulls, index)
				}
				index++
			}
		}
		if got := taken.String(); got != reply[size:] || !slices.Equal(nulls, []int{0, 2, 5}) {
			t.Errorf("cut at %d: nulls at %v of %q", cut, nulls, got)
		}
	}
}

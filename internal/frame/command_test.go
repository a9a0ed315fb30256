package frame

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// command is args as RESP.
func command(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// framed is what became of a client's bytes: one command, or the error that ends the stream.
type framed struct {
	raw   string // of a large command, with what was streamed
	args  []string
	large bool
	whole bool
	err   error
}

// frameAll frames a client's bytes, which arrive in pieces, as a session does: what is not used is shown again with the next
// piece.
func frameAll(t testing.TB, pieces ...[]byte) (all []framed) {
	t.Helper()
	return frameAllWith(t, Commands{}, pieces...)
}

// frameAllWith is frameAll by commands with settings of their own.
func frameAllWith(t testing.TB, c Commands, pieces ...[]byte) (all []framed) {
	t.Helper()
	var unread []byte
	for _, piece := range pieces {
		unread = append(unread, piece...)
		for len(unread) > 0 {
			if c.Streaming() {
				last := &all[len(all)-1]
				n, status, err := c.Stream(unread)
				last.raw += string(unread[:n])
				last.whole = status == Complete
				unread = unread[n:]
				if err != nil {
					return append(all, framed{err: err})
				}
				if n == 0 && status == Incomplete {
					break
				}
				continue
			}
			n, status, err := c.Next(unread)
			if err != nil {
				return append(all, framed{err: err})
			}
			if status == Incomplete {
				break
			}
			f := framed{raw: string(c.Raw), large: status == Large, whole: status == Complete}
			for i := range min(c.Arguments(), Leading) {
				f.args = append(f.args, string(c.Arg(i)))
			}
			if f.whole && c.N > 0 {
				args := Args(nil, c.Raw)
				if len(args) != c.N {
					t.Fatalf("Args finds %d arguments in %q, Next found %d", len(args), c.Raw, c.N)
				}
				for i, a := range args {
					if i < Leading && string(a) != f.args[i] {
						t.Fatalf("argument %d of %q is %q by Args and %q by Arg", i, c.Raw, a, f.args[i])
					}
					if i >= Leading {
						f.args = append(f.args, string(a))
					}
				}
			}
			all = append(all, f)
			unread = unread[n:]
		}
	}
	return all
}

func sameFrames(a, b []framed) bool {
	return slices.EqualFunc(a, b, func(x, y framed) bool {
		return x.raw == y.raw && x.large == y.large && x.whole == y.whole && x.err == y.err && slices.Equal(x.args, y.args)
	})
}

// bytewise is b in pieces of one byte.
func bytewise(b []byte) [][]byte { return slices.Collect(slices.Chunk(b, 1)) }

func TestCommands(t *testing.T) {
	get := framed{raw: string(command("GET", "k")), args: []string{"GET", "k"}, whole: true}
	ignored := framed{whole: true}
	for _, tc := range []struct {
		name, in string
		want     []framed
	}{
		{"nothing", "", nil},
		{"one", get.raw, []framed{get}},
		{"pipeline", get.raw + get.raw + get.raw, []framed{get, get, get}},
		{"inline", "GET k\r\n", []framed{get}},
		{"inline, bare newline", "GET k\n", []framed{get}},
		{"inline among multibulk", get.raw + "GET k\n" + get.raw, []framed{get, get, get}},
		{"empty lines", "\r\n\n \t\r\n" + get.raw, []framed{ignored, ignored, ignored, get}},
		{"no arguments", "*0\r\n*-1\r\n*-9223372036854775808\r\n" + get.raw, []framed{ignored, ignored, ignored, get}},
		{"empty argument", "*1\r\n$0\r\n\r\n", []framed{{raw: "*1\r\n$0\r\n\r\n", args: []string{""}, whole: true}}},
		{"line ends in arguments", "*2\r\n$3\r\nGET\r\n$4\r\n\r\n*1\r\n", []framed{{raw: "*2\r\n$3\r\nGET\r\n$4\r\n\r\n*1\r\n", args: []string{"GET", "\r\n*1"}, whole: true}}},
		{"any byte passes for the line feed", "*2\rx$3\ryGETzz$1\r\nk\r\n", []framed{{raw: "*2\rx$3\ryGETzz$1\r\nk\r\n", args: []string{"GET", "k"}, whole: true}}},
		{
			"more arguments than are noted", string(command("MSET", "a", "1", "b", "2", "c", "3")),
			[]framed{{raw: string(command("MSET", "a", "1", "b", "2", "c", "3")), args: []string{"MSET", "a", "1", "b", "2", "c", "3"}, whole: true}},
		},
		{"an unfinished one behind", get.raw + "*2\r\n$3\r\nGET\r\n$1\r\nk\r", []framed{get}},
		{"an error behind", get.raw + "*x\r\n" + get.raw, []framed{get, {err: ProtocolError("ERR Protocol error: invalid multibulk length")}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, pieces := range map[string][][]byte{"whole": {[]byte(tc.in)}, "byte by byte": bytewise([]byte(tc.in))} {
				if got := frameAll(t, pieces...); !sameFrames(got, tc.want) {
					t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
				}
			}
		})
	}
}

func TestProtocolErrors(t *testing.T) {
	const (
		multibulk = "ERR Protocol error: invalid multibulk length"
		bulk      = "ERR Protocol error: invalid bulk length"
		quotes    = "ERR Protocol error: unbalanced quotes in request"
	)
	cases := []struct{ in, want string }{
		{"*\r\n", multibulk},
		{"*+1\r\n", multibulk},
		{"*01\r\n", multibulk},
		{"* 1\r\n", multibulk},
		{"*1 \r\n", multibulk},
		{"*-0\r\n", multibulk},
		{"*--1\r\n", multibulk},
		{"*one\r\n", multibulk},
		{"*1.5\r\n", multibulk},
		{"*2147483648\r\n", multibulk},
		{"*9223372036854775808\r\n", multibulk},
		{"*-9223372036854775809\r\n", multibulk},
		{"*18446744073709551617\r\n", multibulk},
		{"*1\r\n$\r\n", bulk},
		{"*1\r\n$-1\r\n", bulk},
		{"*1\r\n$+1\r\n", bulk},
		{"*1\r\n$01\r\n", bulk},
		{"*1\r\n$00\r\n", bulk},
		{"*1\r\n$1 \r\n", bulk},
		{"*1\r\n$a\r\n", bulk},
		{"*1\r\n$536870913\r\n", bulk},
		{"*1\r\n$9223372036854775807\r\n", bulk},
		{"*1\r\n$9223372036854775808\r\n", bulk},
		{"*2\r\n$3\r\nGET\r\n$-1\r\n", bulk},
		{"*1\r\nPING\r\n", "ERR Protocol error: expected '$', got 'P'"},
		{"*1\r\n*1\r\n$4\r\nPING\r\n", "ERR Protocol error: expected '$', got '*'"},
		{"*1\r\n\r\n", "ERR Protocol error: expected '$', got ' '"},
		{"*1\r\n\n\r\n", "ERR Protocol error: expected '$', got ' '"},
		{"*1\r\n\x01\r\n", "ERR Protocol error: expected '$', got '\x01'"},
		{"*1\r\n\xff\r\n", "ERR Protocol error: expected '$', got '\xff'"},
		{"*2\r\n$3\r\nGETTER\r\n", "ERR Protocol error: expected '$', got 'R'"},
		{"GET \"k\r\n", quotes},
		{"GET 'k\r\n", quotes},
		{"GET \"k\"x\r\n", quotes},
		{"\"\r\n", quotes},
	}
	for _, tc := range cases {
		for name, pieces := range map[string][][]byte{"whole": {[]byte(tc.in)}, "byte by byte": bytewise([]byte(tc.in))} {
			got := frameAll(t, pieces...)
			if len(got) != 1 || got[0].err != ProtocolError(tc.want) {
				t.Errorf("%q %s: got %+v, want the error %q", tc.in, name, got, tc.want)
			}
		}
	}
}

// TestLongLines holds a line's limit: 64 KiB may wait for their end, one byte more may not.
func TestLongLines(t *testing.T) {
	for _, tc := range []struct{ name, before, first, want string }{
		{"inline", "", "x", "ERR Protocol error: too big inline request"},
		{"inline with NUL", "", "\x00\n", "ERR Protocol error: too big inline request"},
		{"multibulk count", "", "*", "ERR Protocol error: too big mbulk count string"},
		{"multibulk count with NUL", "", "*\x00\r\n", "ERR Protocol error: too big mbulk count string"},
		{"bulk count", "*1\r\n", "$", "ERR Protocol error: too big bulk count string"},
		{"not even a bulk count", "*1\r\n", "x", "ERR Protocol error: too big bulk count string"},
		{"bulk count with NUL", "*1\r\n", "$1\x00\r\n", "ERR Protocol error: too big bulk count string"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := []byte(tc.before + tc.first + strings.Repeat("1", maxLine+1-len(tc.first)))
			var c Commands
			if n, status, err := c.Next(b[:len(b)-1]); n != 0 || status != Incomplete || err != nil {
				t.Fatalf("64 KiB: got %d, %v, %v", n, status, err)
			}
			if _, _, err := c.Next(b); err != ProtocolError(tc.want) {
				t.Fatalf("one byte more: got error %v, want %q", err, tc.want)
			}
		})
	}
}

// TestLongestLine: what has an end within the limit is a command.
func TestLongestLine(t *testing.T) {
	word := strings.Repeat("x", maxLine-1)
	for name, pieces := range map[string][][]byte{"whole": {[]byte(word + "\n")}, "byte by byte": bytewise([]byte(word + "\n"))} {
		if got := frameAll(t, pieces...); len(got) != 1 || !slices.Equal(got[0].args, []string{word}) {
			t.Errorf("%s: the word of 64 KiB - 1 is not framed as one", name)
		}
	}
}

// TestManyArguments: an announced count costs nothing until the arguments come.
func TestManyArguments(t *testing.T) {
	var c Commands
	b := fmt.Appendf(nil, "*%d\r\n", math.MaxInt32)
	if allocs := testing.AllocsPerRun(1, func() {
		c.Unread()
		if n, status, err := c.Next(b); n != 0 || status != Incomplete || err != nil {
			t.Fatalf("got %d, %v, %v", n, status, err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestLarge(t *testing.T) {
	before := bytes.Index(command("SET", "k", strings.Repeat("v", LargeCommand)), []byte("vv"))
	exact := strings.Repeat("v", LargeCommand-before)
	if got := frameAll(t, command("SET", "k", exact)); len(got) != 1 || got[0].large || got[0].args[2] != exact {
		t.Error("a command of LargeCommand bytes is not collected")
	}

	value := exact + "v"
	in := slices.Concat(command("SET", "k", value, "PX", "1000", "KEEP", "more"), command("GET", "k"))
	want := []framed{
		{raw: string(in[:len(in)-len(command("GET", "k"))]), args: []string{"SET", "k"}, large: true, whole: true},
		{raw: string(command("GET", "k")), args: []string{"GET", "k"}, whole: true},
	}
	header := bytes.Index(in, []byte("vvv"))
	for name, pieces := range map[string][][]byte{
		"whole":                 {in},
		"in pieces of 1000":     slices.Collect(slices.Chunk(in, 1000)),
		"header apart":          {in[:header], in[header:]},
		"end byte by byte":      append([][]byte{in[:header+len(value)-5]}, bytewise(in[header+len(value)-5:])...),
		"everything by 64 KiB":  slices.Collect(slices.Chunk(in, 64<<10)),
		"one byte, then others": append(bytewise(in[:header+3]), in[header+3:]),
	} {
		if got := frameAll(t, pieces...); !sameFrames(got, want) {
			t.Errorf("%s: framed wrongly", name)
		}
	}
}

// TestLargeFirst: the name itself is large, so that no argument can be read.
func TestLargeFirst(t *testing.T) {
	in := command(strings.Repeat("n", LargeCommand+1), "k")
	got := frameAll(t, in)
	if want := []framed{{raw: string(in), large: true, whole: true}}; !sameFrames(got, want) {
		t.Error("framed wrongly")
	}
}

// TestLargeOfManyArguments: it is the command that counts, not one argument.
func TestLargeOfManyArguments(t *testing.T) {
	in := command(slices.Repeat([]string{strings.Repeat("x", 1000)}, 2000)...)
	for _, pieces := range [][][]byte{{in}, slices.Collect(slices.Chunk(in, 777))} {
		got := frameAll(t, pieces...)
		if len(got) != 1 || !got[0].large || !got[0].whole || got[0].raw != string(in) || len(got[0].args) != Leading {
			t.Errorf("%d pieces: framed wrongly", len(pieces))
		}
	}
}

// TestLimit lowers the limit when a part of a command has come.
func TestLimit(t *testing.T) {
	in := command("SET", "k", strings.Repeat("v", 1000), "KEEPTTL")
	c := Commands{Limit: 100}
	if n, status, err := c.Next(in[:90]); n == 0 || status != Large || err != nil || c.Arguments() != 2 {
		t.Errorf("announced over the limit: got %d, %v, %v, %d arguments", n, status, err, c.Arguments())
	}
	c = Commands{}
	if n, status, err := c.Next(in[:500]); n != 0 || status != Incomplete || err != nil {
		t.Fatalf("got %d, %v, %v", n, status, err)
	}
	c.Limit = 500
	if n, status, err := c.Next(in[:500]); n != 0 || status != Incomplete || err != nil {
		t.Fatalf("not over the limit: got %d, %v, %v", n, status, err)
	}
	n, status, err := c.Next(in[:600])
	if status != Large || err != nil || c.Arguments() != 2 || string(c.Arg(1)) != "k" {
		t.Fatalf("over the limit: got %d, %v, %v, %d arguments", n, status, err, c.Arguments())
	}
	raw := string(c.Raw)
	for _, piece := range [][]byte{in[n:600], in[600:]} {
		n, status, err = c.Stream(piece)
		raw += string(piece[:n])
	}
	if raw != string(in) || status != Complete || err != nil {
		t.Errorf("got %q, %v, %v", raw, status, err)
	}
}

// TestLargeThenError: behind its large argument, a command is judged as any other.
func TestLargeThenError(t *testing.T) {
	big := fmt.Sprintf("*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n", LargeCommand+1, strings.Repeat("k", LargeCommand+1))
	for behind, want := range map[string]string{
		"x\r\n":                          "ERR Protocol error: expected '$', got 'x'",
		"$-1\r\n":                        "ERR Protocol error: invalid bulk length",
		"$" + strings.Repeat("1", 70000): "ERR Protocol error: too big bulk count string",
	} {
		for name, pieces := range map[string][][]byte{
			"whole":  {[]byte(big + behind)},
			"pieces": append([][]byte{[]byte(big)}, bytewise([]byte(behind))...),
		} {
			got := frameAll(t, pieces...)
			if len(got) != 2 || !got[0].large || got[0].whole || got[1].err != ProtocolError(want) {
				t.Errorf("%.10q %s: not an error %q", behind, name, want)
			}
		}
	}
}

// TestUnauthenticated holds that a client which has to authenticate first has the lower limits of Redis, at each border, whole and in
// pieces, and also in what is streamed.
func TestUnauthenticated(t *testing.T) {
	guarded := Commands{Unauthenticated: true}
	const (
		tooMany  = ProtocolError("ERR Protocol error: unauthenticated multibulk length")
		tooLarge = ProtocolError("ERR Protocol error: unauthenticated bulk length")
	)
	for _, tc := range []struct {
		in   string
		want error
	}{
		{string(command(slices.Repeat([]string{"a"}, 10)...)), nil},
		{string(command(slices.Repeat([]string{"a"}, 11)...)), tooMany},
		{"*11\r\n", tooMany},
		{"*2147483647\r\n", tooMany},
		{"*2147483648\r\n", ProtocolError("ERR Protocol error: invalid multibulk length")},
		{"*0\r\n*-1\r\n", nil},
		{string(command("AUTH", strings.Repeat("p", 16384))), nil},
		{string(command("AUTH", strings.Repeat("p", 16385))), tooLarge},
		{string(command(strings.Repeat("p", 16385))), tooLarge},
		{"*2\r\n$4\r\nAUTH\r\n$016385\r\n", ProtocolError("ERR Protocol error: invalid bulk length")},
		{"*1\r\n$536870912\r\n", tooLarge},
		{"*1\r\n$536870913\r\n", ProtocolError("ERR Protocol error: invalid bulk length")},
		{"NOSUCH" + strings.Repeat(" a", 30_000) + "\r\n", nil},
	} {
		for name, pieces := range map[string][][]byte{"whole": {[]byte(tc.in)}, "bytewise": bytewise([]byte(tc.in))} {
			got := frameAllWith(t, guarded, pieces...)
			if len(got) == 0 || got[len(got)-1].err != tc.want || tc.want == nil && !got[len(got)-1].whole {
				t.Errorf("%.40q %s: %.200v, want %v", tc.in, name, got, tc.want)
			}
		}
	}

	// With little memory a command of that size is streamed.
	small := Commands{Unauthenticated: true, Limit: 16 << 10}
	in := string(command("NOSUCH", strings.Repeat("a", 16384), "b", "c"))
	if got := frameAllWith(t, small, []byte(in)); len(got) != 1 || !got[0].large || !got[0].whole || got[0].raw != in {
		t.Errorf("streamed: %.200v", got)
	}
	in = "*3\r\n$6\r\nNOSUCH\r\n$16384\r\n" + strings.Repeat("a", 16384) + "\r\n$16385\r\n"
	if got := frameAllWith(t, small, []byte(in)); len(got) != 2 || got[1].err != tooLarge {
		t.Errorf("streamed: %.200v", got)
	}
}

// TestAuthenticatedLater has the limits change between two commands, as they do at a login.
func TestAuthenticatedLater(t *testing.T) {
	login, more := command("AUTH", "p"), command(slices.Repeat([]string{"a"}, 11)...)
	in := slices.Concat(login, more, more)
	c := Commands{Unauthenticated: true}
	n, status, err := c.Next(in)
	if n != len(login) || status != Complete || err != nil {
		t.Fatal(n, status, err)
	}
	c.Unauthenticated = false
	if n, status, err = c.Next(in[n:]); n != len(more) || status != Complete || err != nil {
		t.Fatal(n, status, err)
	}
	c.Unauthenticated = true
	if _, _, err = c.Next(more); err == nil {
		t.Error("after RESET there is no limit")
	}
}

func TestUnread(t *testing.T) {
	for _, in := range [][]byte{
		command("GET", "k"),
		[]byte("SET k \"a b\"\r\n"),
		fmt.Appendf(nil, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\nv", LargeCommand+1),
	} {
		var c Commands
		n, status, err := c.Next(in)
		if err != nil || status == Incomplete {
			t.Fatalf("%q: got %v, %v", in, status, err)
		}
		raw, count, arguments := string(c.Raw), c.N, c.Arguments()
		c.Unread()
		if c.Streaming() {
			t.Errorf("%q: still streaming", in)
		}
		n2, status2, err := c.Next(in)
		if n2 != n || status2 != status || err != nil || string(c.Raw) != raw || c.N != count || c.Arguments() != arguments {
			t.Errorf("%q: framed again as %d, %v, %v, %q", in, n2, status2, err, c.Raw)
		}
	}
}

// TestScannedOnce spoils what Next was shown before each further call, but for a few bytes: a search that started over would
// find a line end that is not there.
func TestScannedOnce(t *testing.T) {
	var many []string
	for i := range 10_000 {
		many = append(many, strconv.Itoa(i)+strings.Repeat("x", 90))
	}
	line := strings.Repeat("1", maxLine-10)
	for _, tc := range []struct {
		name  string
		in    []byte
		piece int
		end   byte
		n     int // of arguments; 0 for an error
	}{
		{"inline", []byte("SET k " + line[8:] + "\r\n"), 1, '\n', 3},
		{"multibulk count", []byte("*" + line + "\r\n"), 1, '\r', 0},
		{"bulk count", []byte("*1\r\n$" + line + "\r\n"), 1, '\r', 0},
		{"1 MiB in one argument", command("SET", "k", strings.Repeat("v", LargeCommand-100)), 1000, '\r', 3},
		{"1 MiB in 10,000 arguments", command(many...), 1000, '\r', 10_000},
		{"10,000 arguments byte by byte", command(many...), 1, '\r', 10_000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const reread = 8 // bytes of a short header, read again when it was cut
			var c Commands
			shown := make([]byte, len(tc.in))
			spoilt := 1 // the type byte is looked at again
			for end := 0; ; {
				start := end
				end = min(end+tc.piece, len(tc.in))
				copy(shown[start:end], tc.in[start:end])
				if end == len(tc.in) {
					copy(shown, tc.in)
				}
				n, status, err := c.Next(shown[:end])
				if end < len(tc.in) {
					if n != 0 || status != Incomplete || err != nil {
						t.Fatalf("after %d of %d bytes: got %d, %v, %v", end, len(tc.in), n, status, err)
					}
					for ; spoilt < end-reread; spoilt++ {
						shown[spoilt] = tc.end
					}
					continue
				}
				if tc.n == 0 && err == nil || tc.n > 0 && (err != nil || status != Complete || n != len(tc.in) || c.N != tc.n) {
					t.Fatalf("got %d, %v, %d arguments, %v", n, status, c.N, err)
				}
				return
			}
		})
	}
}

func TestCommandsDoNotAllocate(t *testing.T) {
	pipeline := slices.Concat(
		command("GET", "user:1000"), command("SET", "user:1000", strings.Repeat("v", 64)), command("SET", "k", strings.Repeat("v", 20_000)),
	)
	var c Commands
	var args [][]byte
	if allocs := testing.AllocsPerRun(100, func() {
		for rest := pipeline; len(rest) > 0; {
			n, status, err := c.Next(rest)
			if err != nil || status != Complete || string(c.Arg(1)) == "" {
				t.Fatal(status, err)
			}
			args = Args(args[:0], c.Raw)
			rest = rest[n:]
		}
	}); allocs != 0 {
		t.Errorf("%v allocations for three commands", allocs)
	}
}

// FuzzCommands holds that the pieces in which bytes arrive do not matter, and that what comes out is the client's own: each
// command frames again as itself, and the multibulk ones together are the input.
func FuzzCommands(f *testing.F) {
	for _, in := range []string{
		"*1\r\n$9223372036854775807\r\n",
		"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nGET k\r\n*0\r\n*-1\r\n\r\n*1\r\n$4\r\nPING\r\n",
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\nvvv",
		"*2\r\n$1048577\r\n",
		"SET k \"a\\x41\\n\" 'b\\'c' d\"e f\"\r\nGET \"",
		"*1\r\n*1\r\n$4\r\nPING\r\n",
		"*11\r\n$1\r\na\r\n", "*2\r\n$4\r\nAUTH\r\n$16385\r\np", "*0\r\n*10\r\n$16384\r\n",
		"*01\r\n", "*1\r\n$01\r\n", "*1\rx$4\ryPINGzz", "a\x00\r\n", "*1\x00\r\n", "\va\vb\f\n",
	} {
		f.Add([]byte(in), uint64(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		if len(in) > maxLine { // a line over the limit passes when its end has come with it, as with Redis
			return
		}
		whole := frameAll(t, in)
		if got := frameAll(t, bytewise(in)...); !sameFrames(got, whole) {
			t.Fatalf("%q: byte by byte %+v, whole %+v", in, got, whole)
		}
		if got := frameAll(t, cut(in, seed)...); !sameFrames(got, whole) {
			t.Fatalf("%q: in pieces %+v, whole %+v", in, got, whole)
		}
		guarded := Commands{Unauthenticated: true}
		before := frameAllWith(t, guarded, in)
		if got := frameAllWith(t, guarded, cut(in, seed)...); !sameFrames(got, before) {
			t.Fatalf("%q: unauthenticated, in pieces %+v, whole %+v", in, got, before)
		}
		if n := len(before); n > 0 && !sameFrames(before[:n-1], whole[:min(n-1, len(whole))]) { // the lower limits end the stream earlier, and change nothing else
			t.Fatalf("%q: unauthenticated %+v, else %+v", in, before, whole)
		}
		for _, c := range whole {
			if !c.whole || len(c.args) == 0 {
				continue
			}
			again := frameAll(t, []byte(c.raw))
			if len(again) != 1 || !sameFrames(again, []framed{c}) {
				t.Fatalf("%q: its command %q frames as %+v", in, c.raw, again)
			}
			if canonical := frameAll(t, command(c.args...)); len(canonical) != 1 || !slices.Equal(canonical[0].args, c.args) {
				t.Fatalf("%q: arguments %q frame as %+v", in, c.args, canonical)
			}
		}
	})
}

// cut cuts b into random pieces.
func cut(b []byte, seed uint64) (pieces [][]byte) {
	r := rand.New(rand.NewPCG(seed, 0))
	for len(b) > 0 {
		n := 1 + r.IntN(min(len(b), 1+r.IntN(64)))
		pieces = append(pieces, b[:n])
		b = b[n:]
	}
	return pieces
}

func BenchmarkCommands(b *testing.B) {
	for _, bc := range []struct {
		name string
		in   []byte
	}{
		{"GET", command("GET", "user:1000")},
		{"SET64", command("SET", "user:1000", strings.Repeat("v", 64))},
		{"SET16KiB", command("SET", "user:1000", strings.Repeat("v", 16<<10))},
		{"MSET100", command(append([]string{"MSET"}, slices.Repeat([]string{"key", "value"}, 100)...)...)},
		{"inline", []byte("GET user:1000\r\n")},
	} {
		b.Run(bc.name, func(b *testing.B) {
			var c Commands
			b.ReportAllocs()
			b.SetBytes(int64(len(bc.in)))
			for b.Loop() {
				if n, status, err := c.Next(bc.in); n != len(bc.in) || status != Complete || err != nil {
					b.Fatal(n, status, err)
				}
			}
		})
	}
}

package harness

import (
	"bufio"
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for raw, want := range map[string]Value{
		"+OK\r\n":            {Type: '+', Str: "OK"},
		"-ERR no\r\n":        {Type: '-', Str: "ERR no"},
		":-12\r\n":           {Type: ':', Str: "-12"},
		"$-1\r\n":            {Type: '$', Null: true},
		"$0\r\n\r\n":         {Type: '$'},
		"$4\r\na\r\nb\r\n":   {Type: '$', Str: "a\r\nb"},
		"*-1\r\n":            {Type: '*', Null: true},
		"*0\r\n":             {Type: '*'},
		"_\r\n":              {Type: '_', Null: true},
		"#t\r\n":             {Type: '#', Str: "t"},
		",1.5\r\n":           {Type: ',', Str: "1.5"},
		"(123\r\n":           {Type: '(', Str: "123"},
		"!3\r\nERR\r\n":      {Type: '!', Str: "ERR"},
		"=5\r\ntxt:a\r\n":    {Type: '=', Str: "txt:a"},
		"~1\r\n:1\r\n":       {Type: '~', Elems: []Value{{Type: ':', Str: "1"}}},
		">1\r\n+a\r\n":       {Type: '>', Elems: []Value{{Type: '+', Str: "a"}}},
		"%1\r\n+k\r\n:1\r\n": {Type: '%', Elems: []Value{{Type: '+', Str: "k"}, {Type: ':', Str: "1"}}},
		"*2\r\n*1\r\n:1\r\n$-1\r\n": {Type: '*', Elems: []Value{
			{Type: '*', Elems: []Value{{Type: ':', Str: "1"}}}, {Type: '$', Null: true},
		}},
		"|1\r\n+ttl\r\n:9\r\n+OK\r\n": {Type: '+', Str: "OK", Attrs: []Value{{Type: '+', Str: "ttl"}, {Type: ':', Str: "9"}}},
	} {
		got, err := Decode([]byte(raw))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Decode(%q) = %+v, %v; want %+v", raw, got, err, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, raw := range []string{
		"", "+OK", "+OK\n", "\r\n", "?\r\n", "$x\r\n", "$3\r\nab\r\n", "$2\r\nabc\r\n", "*2\r\n:1\r\n", "$-2\r\n",
		"*99999999999999999999\r\n", "+OK\r\n+OK\r\n", "|1\r\n+a\r\n+b\r\n",
	} {
		if v, err := Decode([]byte(raw)); err == nil {
			t.Errorf("Decode(%q) = %+v; want an error", raw, v)
		}
	}
}

// A whole reply followed by another is read to its last byte and no further.
func FuzzReplyBorders(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n%1\r\n+k\r\n_\r\n"))
	f.Add([]byte("|1\r\n+a\r\n:1\r\n=5\r\ntxt:a\r\n"))
	f.Add([]byte("$-1\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		want, err := Decode(raw)
		if err != nil {
			return
		}
		src := bufio.NewReader(io.MultiReader(bytes.NewReader(raw), strings.NewReader("+next\r\n")))
		first := replyReader{src: src}
		if got, err := first.value(); err != nil || !bytes.Equal(first.raw, raw) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q was read as %q, %v", raw, first.raw, err)
		}
		next := replyReader{src: src}
		if v, err := next.value(); err != nil || v.Str != "next" {
			t.Errorf("after %q came %+v, %v", raw, v, err)
		}
	})
}

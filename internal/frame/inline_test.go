package frame

import (
	"slices"
	"testing"
)

func TestSplitWords(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{" \t\r\n\v\f ", nil},
		{"a", []string{"a"}},
		{"  a\tb  c ", []string{"a", "b", "c"}},
		{"a\vb\fc", []string{"a\vb\fc"}}, // they separate words only where no word has begun
		{"\va \fb", []string{"a", "b"}},
		{"a\rb", []string{"a", "b"}},
		{`""`, []string{""}},
		{`''`, []string{""}},
		{`"" ''`, []string{"", ""}},
		{`"a b" 'c d'`, []string{"a b", "c d"}},
		{`a"b c"`, []string{"ab c"}},
		{`a'b c'`, []string{"ab c"}},
		{"\"a\"\vb", []string{"a", "b"}}, // any blank may follow a closing quote
		{`"\n\r\t\b\a"`, []string{"\n\r\t\b\a"}},
		{`"\q\"\\\'"`, []string{`q"\'`}},
		{`"\x41\xfF\x00"`, []string{"A\xff\x00"}},
		{`"\x4" "\xg1" "\x"`, []string{"x4", "xg1", "x"}},
		{`'\n\x41\\ '`, []string{`\n\x41\\ `}},
		{`'it\'s'`, []string{"it's"}},
		{`a\nb \`, []string{`a\nb`, `\`}},
		{"\xff\x80", []string{"\xff\x80"}},
		{"\"\xa0\"", []string{"\xa0"}}, // no blank in the C locale
	} {
		words, ok := splitWords([]byte(tc.in))
		var got []string
		for _, w := range words {
			got = append(got, string(w))
		}
		if !ok || !slices.Equal(got, tc.want) {
			t.Errorf("%q: got %q, %v, want %q", tc.in, got, ok, tc.want)
		}
	}
	for _, in := range []string{`"`, `'`, `a "b`, `a 'b`, `"a"b`, `'a'b`, `"a""b"`, `"a"'b'`, `"a\"`, `'a\'`, `"\x4`, `"\`, "\"a\"\xa0"} {
		if words, ok := splitWords([]byte(in)); ok {
			t.Errorf("%q: got %q, want unbalanced quotes", in, words)
		}
	}
}

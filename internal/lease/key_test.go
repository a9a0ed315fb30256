package lease

import (
	"bytes"
	"testing"

	"readthrough/internal/slot"
)

func TestAppendKey(t *testing.T) {
	for key, want := range map[string]string{
		"usr:profile:42":   "readthrough:lease:{usr:profile:42}:usr:profile:42",
		"usr:{42}:profile": "readthrough:lease:{42}:usr:{42}:profile",
		"a{b":              "readthrough:lease:{a{b}:a{b",
		"a{{b}}":           "readthrough:lease:{{b}:a{{b}}",
		"a{x}{y}":          "readthrough:lease:{x}:a{x}{y}",
		"":                 "",
		"a}b":              "",
		"{}x":              "",
		"a{}b{c}":          "",
	} {
		got, ok := AppendKey(nil, []byte(key))
		if string(got) != want || ok != (want != "") {
			t.Errorf("AppendKey(%q) = %q, %v, want %q", key, got, ok, want)
		}
	}
}

func FuzzAppendKey(f *testing.F) {
	for _, key := range []string{"", "a", "{a}", "a{b}c", "{}", "}{", "a{{b}}"} {
		f.Add([]byte(key))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		before := []byte("x")
		got, ok := AppendKey(before, key)
		if !ok {
			if !bytes.Equal(got, before) {
				t.Errorf("AppendKey(%q) appended %q and says that there is none", key, got)
			}
			return
		}
		got = got[1:]
		if slot.Of(got) != slot.Of(key) || !Is(got) || !bytes.HasSuffix(got, key) {
			t.Errorf("AppendKey(%q) = %q, in slot %d instead of %d", key, got, slot.Of(got), slot.Of(key))
		}
	})
}

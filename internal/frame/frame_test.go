package frame

import (
	"strconv"
	"testing"
)

func TestParseInt(t *testing.T) {
	for _, in := range []string{"0", "1", "-1", "9", "10", "9223372036854775807", "-9223372036854775807", "-9223372036854775808"} {
		want, _ := strconv.ParseInt(in, 10, 64)
		if got, ok := parseInt([]byte(in)); !ok || got != want {
			t.Errorf("%q: got %d, %v", in, got, ok)
		}
	}
	for _, in := range []string{
		"", "-", "+1", "-0", "00", "01", "-01", " 1", "1 ", "1a", "a", "0x1", "1_0", "1.0", "--1",
		"9223372036854775808", "-9223372036854775809", "18446744073709551616", "99999999999999999999", "100000000000000000000000",
	} {
		if got, ok := parseInt([]byte(in)); ok {
			t.Errorf("%q: got %d, want none", in, got)
		}
	}
}

func FuzzParseInt(f *testing.F) {
	for _, in := range []string{"0", "-1", "+1", "01", "9223372036854775808", "-9223372036854775808"} {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, ok := parseInt([]byte(in))
		want, err := strconv.ParseInt(in, 10, 64)
		canonical := err == nil && strconv.FormatInt(want, 10) == in // what string2ll takes
		if ok != canonical || ok && got != want {
			t.Errorf("%q: got %d, %v, want %d, %v", in, got, ok, want, canonical)
		}
	})
}

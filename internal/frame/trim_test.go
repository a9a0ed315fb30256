package frame

import (
	"strings"
	"testing"
)

// The buffer of a long inline command is not kept, that of a short one is, the caller's never, and framing goes on after either.
func TestTrim(t *testing.T) {
	for _, test := range []struct {
		size int
		kept bool
	}{{10, true}, {60_000, false}} {
		var c Commands
		for range 2 {
			word := strings.Repeat("x", test.size)
			if n, status, err := c.Next([]byte("ECHO " + word + "\r\n")); n != len(word)+7 || status != Complete || err != nil || string(c.Arg(1)) != word {
				t.Fatalf("%d, %v, %v", n, status, err)
			}
			c.Trim()
			if kept := cap(c.inline) > 0; kept != test.kept || c.Raw != nil {
				t.Errorf("a command of %d bytes: %d bytes kept, and %d of Raw", test.size, cap(c.inline), len(c.Raw))
			}
		}
	}
}

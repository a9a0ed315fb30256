package resp

import (
	"slices"
	"testing"

	"readthrough/internal/command"
)

// What may be sent before a login is what Redis marks so. Only the words of HTTP, which end the connection, have no marks.
func TestWhatMayComeFirst(t *testing.T) {
	found := 0
	for _, info := range command.Snapshot().All() {
		if info.Action == command.ActionClose {
			continue
		}
		first := slices.Contains(firstActions, info.Action)
		if marked := info.Flags.Has(command.FlagNoAuth); marked != first {
			t.Errorf("%s: %t, and Redis marks it %t", info.Name, first, marked)
		}
		if first {
			found++
		}
	}
	if found != len(firstActions)-1 {
		t.Errorf("%d commands, want AUTH, HELLO, QUIT and RESET", found)
	}
}

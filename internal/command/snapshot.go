package command

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
)

//go:generate go run ./gen -u redis://127.0.0.1:6379 -o snapshot.json

//go:embed snapshot.json
var snapshotJSON []byte

type snapshotFile struct {
	Version  string  `json:"version"` // of the server that was asked
	Commands []Entry `json:"commands"`
}

// Snapshot returns the table of the server that snapshot.json was made from. It
// serves while the upstream's own is unknown, or has no key specs because the
// upstream is older than Redis 7.
var Snapshot = sync.OnceValue(func() *Table { return New(readSnapshot().Commands) })

// WithSnapshot returns the table for a server older than Redis 7, whose entries
// lack key specs: the snapshot's commands and, of the entries, those that it
// lacks, which are those of modules. Commands that only the snapshot has are
// relayed, and the server refuses them itself.
func WithSnapshot(entries []Entry) *Table {
	more := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return Snapshot().Lookup([]byte(e.Name)) != nil })
	if len(more) == 0 {
		return Snapshot()
	}
	return New(append(readSnapshot().Commands, more...))
}

func readSnapshot() (s snapshotFile) {
	if err := json.Unmarshal(snapshotJSON, &s); err != nil {
		panic(fmt.Sprintf("command: the embedded snapshot.json: %v", err)) // the build is broken
	}
	return s
}

// Package command knows what Redis's commands are: where their keys stand, what
// they do to data and connections, and how a proxy over several nodes must
// handle each of them.
//
// The knowledge comes from the server's own COMMAND reply, so that modules and
// later versions need no change here, and from one reviewed list of what that
// reply leaves out or gets wrong for a proxy (exceptions.go). Nothing else in
// the program decides anything by a command's name.
package command

import (
	"maps"
	"slices"
	"strings"
)

// Table is an immutable set of commands, safe for concurrent use.
type Table struct {
	infos   []*Info // by name; an Info's ID is its index
	names   index
	aliases map[string]*Info // by what is called instead of the name, in lower case
}

// New makes a table of the entries of a COMMAND reply and of the names that
// servers treat as commands without listing them (unlisted). Of entries with
// the same name the first counts; subcommands count in their command's entry.
func New(entries []Entry) *Table {
	t := &Table{}
	top := make(map[string]*Info)
	for _, list := range [][]Entry{entries, unlisted} {
		for _, e := range list {
			if name := strings.ToLower(e.Name); name != "" && !strings.Contains(name, "|") && top[name] == nil {
				top[name] = newInfo(e, nil)
			}
		}
	}
	t.names = newIndex(top)
	for _, i := range top {
		t.infos = append(t.infos, i)
		for _, sub := range i.subs.names() {
			t.infos = append(t.infos, sub)
		}
	}
	slices.SortFunc(t.infos, func(a, b *Info) int { return strings.Compare(a.Name, b.Name) })
	for id, i := range t.infos {
		i.ID = id
	}
	return t
}

// WithAliases returns a table of the same commands in which those that aliases
// maps to are called by the aliases too, in lower case both. A server whose
// configuration renames commands lists them in COMMAND under their own names,
// and tells only those who ask for it by COMMAND INFO what an alias calls.
// Aliases of commands that the table lacks, and those that are names of others,
// are left out.
func (t *Table) WithAliases(aliases map[string]string) *Table {
	called := make(map[string]*Info)
	names := t.names.names()
	for alias, name := range aliases {
		if info := t.Lookup([]byte(name)); info != nil && names[alias] == nil {
			called[alias] = info
		}
	}
	if len(called) == 0 {
		return t
	}
	maps.Copy(names, called)
	return &Table{infos: t.infos, names: newIndex(names), aliases: called}
}

// Aliases returns what WithAliases added. The map is the table's own: do not write to it.
func (t *Table) Aliases() map[string]*Info { return t.aliases }

// Find returns the command or subcommand that args call, or nil. Of a command
// whose subcommand is unknown or left out it returns the command.
func (t *Table) Find(args [][]byte) *Info {
	if len(args) == 0 {
		return nil
	}
	info := t.Lookup(args[0])
	if info == nil || len(args) == 1 {
		return info
	}
	if sub := info.Sub(args[1]); sub != nil {
		return sub
	}
	return info
}

// Lookup returns the command that a client calls by name, in any case, or nil
// if there is none. It finds no subcommands: see Info.Sub.
func (t *Table) Lookup(name []byte) *Info { return t.names.find(name) }

// Named returns the command or, for "config|set", the subcommand of that name,
// in any case, or nil. It is for configuration, not for what clients send.
func (t *Table) Named(name string) *Info {
	parent, sub, isSub := strings.Cut(name, "|")
	info := t.Lookup([]byte(parent))
	if info != nil && isSub {
		return info.Sub([]byte(sub))
	}
	return info
}

// Len returns the number of commands, subcommands included.
func (t *Table) Len() int { return len(t.infos) }

// All returns the commands, subcommands included, sorted by name; the index is
// the Info's ID. The slice is the table's own: do not write to it.
func (t *Table) All() []*Info { return t.infos }

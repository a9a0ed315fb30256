package resp

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
)

// denials are what the configuration denies, by the command's name in lower case. Names that Redis does not know (yet) are among them.
type denials map[string]denial

// denial is what is denied of a command.
type denial struct {
	whole bool
	subs  []string // subcommands, in lower case
}

// newDenials takes names such as FLUSHALL and config|set.
func newDenials(names []string) denials {
	if len(names) == 0 {
		return nil
	}
	ds := denials{}
	for _, name := range names {
		name, sub, isSub := strings.Cut(strings.ToLower(name), "|")
		d := ds[name]
		if isSub {
			d.subs = append(d.subs, sub)
		} else {
			d.whole = true
		}
		ds[name] = d
	}
	return ds
}

// of returns them by the ID of each command; a subcommand has its command's. One that has another name too is denied by either.
func (ds denials) of(t *command.Table) []denial {
	if ds == nil {
		return nil
	}
	byName := maps.Clone(ds)
	for alias, info := range t.Aliases() {
		d, more := byName[info.Name], ds[alias]
		byName[info.Name] = denial{d.whole || more.whole, slices.Concat(d.subs, more.subs)}
	}
	byID := make([]denial, t.Len())
	for _, info := range t.All() {
		byID[info.ID] = byName[container(info).Name]
	}
	return byID
}

// container is the command that a subcommand belongs to, or the command itself.
func container(info *command.Info) *command.Info {
	if info.Parent != nil {
		return info.Parent
	}
	return info
}

// denies tells whether the configuration denies the command just framed.
func (f *front) denies(info *command.Info, c *frame.Commands) bool {
	if f.denied == nil || c.Arguments() == 0 {
		return false
	}
	var d denial
	if info != nil {
		d = f.denied[info.ID]
	} else {
		d = f.denials[string(bytes.ToLower(c.Arg(0)))]
	}
	return d.whole || len(d.subs) > 0 && c.Arguments() > 1 && slices.Contains(d.subs, string(bytes.ToLower(c.Arg(1))))
}

// deny refuses the command just framed. Within a transaction that is an error which EXEC aborts for.
func (s *session) deny(info *command.Info, large bool) bool {
	name := strings.ToUpper(string(s.commands.Arg(0))) // of those that the configuration names
	if info != nil {
		name = displayName(info)
	}
	s.discardLarge(large)
	err := relay.Error("NOPERM " + name + " is denied by the configuration of the sidecar, Readthrough (deny)")
	if t := s.transaction; t != nil && t.multi {
		return t.refuse(info, err, large)
	}
	s.front.take(s, info).fail(err)
	return true
}

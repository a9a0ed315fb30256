package command

import (
	"errors"
	"slices"
	"strings"
)

// ErrAskKeys says that only the server can tell the keys of a command
// (Info.AskKeys): ask it with COMMAND GETKEYS.
var ErrAskKeys = errors.New("the keys of this command are known to COMMAND GETKEYS only")

// FirstKey returns the index among the arguments (0 is the command's name) of
// the first key where that is the same for all arguments, else 0. There may be
// fewer arguments than that where ArityOK is false.
func (i *Info) FirstKey() int { return i.firstKey }

// Keyed reports whether the command may have keys, or channels of Info.Channels.
func (i *Info) Keyed() bool { return i.AskKeys || i.finder != 0 || len(i.specs) > 0 }

// AppendKeys appends to dst the indices among args of every key, or channel of
// Info.Channels, in the order in which the server finds them. args is the whole
// command, the names of command and subcommand included. It allocates only where
// dst has too little room.
//
// Arguments that the server will refuse (a bad number of keys) yield no keys, as
// they do in the server: it then reports the error itself, whichever node it is.
// The one error is ErrAskKeys.
func (i *Info) AppendKeys(dst []int, args [][]byte) ([]int, error) {
	if i.AskKeys {
		return dst, ErrAskKeys
	}
	dst, _ = i.appendKeys(dst, args, len(args))
	return dst, nil
}

// AppendLeadingKeys is AppendKeys for a command of n arguments of which only the first have come, which are args: it appends the indices of
// those keys that are among them. all reports whether there are no others.
func (i *Info) AppendLeadingKeys(dst []int, args [][]byte, n int) (_ []int, all bool) {
	if i.AskKeys {
		return dst, false
	}
	return i.appendKeys(dst, args, n)
}

func (i *Info) appendKeys(dst []int, args [][]byte, n int) (_ []int, all bool) {
	whole := len(args) == n
	switch i.finder {
	case firstArgument:
		return appendRange(dst, 1, 1, 1, len(args)), whole || len(args) > 1
	case sortKeys:
		return appendSortKeys(dst, args), whole
	case migrateKeys:
		return appendMigrateKeys(dst, args), whole
	}
	before := len(dst)
	all = true
	for k := range i.specs {
		spec := &i.specs[k]
		first, last, ok := spec.bounds(args, n)
		if !ok {
			return dst[:before], true
		}
		dst = appendRange(dst, first, last, spec.step, len(args))
		if !whole {
			all = all && spec.keyword == "" && (first > last || last-(last-first)%spec.step < len(args))
		}
	}
	return dst, all
}

// keySpec is a KeySpec made ready.
type keySpec struct {
	keyword string // lower case; "": the keys start at from
	from    int    // index; or where the search for keyword starts, negative: from the end, backwards
	step    int    // at least 1
	counted bool   // keynum, else range
	last    int    // range
	limit   int    // range
	number  int    // keynum: the number of keys, from the start
	first   int    // keynum: the first key, from the start
}

// describeKeys sets how the keys of a command are found.
func describeKeys(i *Info, e Entry) {
	if x := exceptionFor(i); x != nil && x.finder != 0 {
		i.finder = x.finder
		return
	}
	specs := e.KeySpecs
	if len(specs) == 0 && e.FirstKey > 0 {
		specs = []KeySpec{legacySpec(e)}
	}
	channels := len(specs) > 0
	movable := false
	for _, s := range specs {
		spec, ok := newKeySpec(s)
		if !ok || hasFlag(s, "incomplete") {
			i.AskKeys = true
		}
		channels = channels && hasFlag(s, "not_key")
		movable = movable || spec.keyword != "" || spec.counted
		i.specs = append(i.specs, spec)
	}
	// Keys that move although no spec says how: a module finds them by itself.
	if i.Flags.Has(FlagMovableKeys) && !movable {
		i.AskKeys = true
	}
	if i.AskKeys {
		i.specs = nil
		return
	}
	i.Channels = channels
	if len(i.specs) == 0 || i.specs[0].keyword != "" || i.specs[0].counted {
		return
	}
	first := i.specs[0]
	i.firstKey = first.from
	i.SingleKey = len(i.specs) == 1 && first.last == 0
	if first.last == -1 && first.limit <= 1 {
		i.KeyStep = first.step
	}
}

func hasFlag(s KeySpec, flag string) bool {
	for _, f := range s.Flags {
		if strings.EqualFold(f, flag) {
			return true
		}
	}
	return false
}

// legacySpec says as a KeySpec what a server older than key specs says of an entry's keys.
func legacySpec(e Entry) KeySpec {
	last := e.LastKey
	if last > 0 {
		last -= e.FirstKey
	}
	return KeySpec{
		Begin: BeginSearch{Type: "index", Index: e.FirstKey},
		Find:  FindKeys{Type: "range", LastKey: last, KeyStep: e.KeyStep},
	}
}

// maxPosition bounds the numbers of a KeySpec, so that sums with them cannot
// overflow. A command has at most 1024*1024 arguments.
const maxPosition = 1 << 20

// newKeySpec reports false where the spec does not say where the keys are.
func newKeySpec(s KeySpec) (k keySpec, ok bool) {
	switch s.Begin.Type {
	case "index":
		k.from = s.Begin.Index
		ok = k.from > 0
	case "keyword":
		k.keyword, k.from = strings.ToLower(s.Begin.Keyword), s.Begin.StartFrom
		ok = k.keyword != "" && k.from != 0
	}
	k.step = max(s.Find.KeyStep, 1)
	switch s.Find.Type {
	case "range":
		k.last, k.limit = s.Find.LastKey, s.Find.Limit
	case "keynum":
		k.counted, k.number, k.first = true, s.Find.KeyNumIdx, s.Find.FirstKey
		ok = ok && k.number >= 0 && k.first >= 0
	default:
		ok = false
	}
	for _, n := range []int{k.from, k.step, k.last, k.limit, k.number, k.first} {
		ok = ok && -maxPosition <= n && n <= maxPosition
	}
	return k, ok
}

// bounds returns the indices between which there is a key at each step, both included, in a command of n arguments, of which args are the
// first. The second one is less where there are none; where only the arguments to come can tell, any of them may be one. It reports false
// where the arguments cannot be right and no key counts.
func (k *keySpec) bounds(args [][]byte, n int) (first, last int, ok bool) {
	start := k.from
	if k.keyword != "" {
		start = k.search(args, n)
	}
	// An option that is not there, or at the very end; a list that may be empty.
	if start == 0 || start >= n {
		return 0, -1, true
	}
	switch {
	case k.counted:
		at := start + k.number
		if at >= n {
			return 0, 0, false
		}
		if at >= len(args) {
			return len(args), n - 1, true
		}
		first = start + k.first
		count := leadingInt(args[at])
		if count < 1 || first >= n || count-1 > (n-1-first)/k.step {
			return 0, 0, false
		}
		return first, first + (count-1)*k.step, true
	case k.last >= 0:
		return start, start + k.last, start+k.last < n
	case k.limit > 1:
		return start, start + (n-start)/k.limit + k.last, true
	default:
		return start, n + k.last, true
	}
}

// search returns the index after the keyword, or 0.
func (k *keySpec) search(args [][]byte, n int) int {
	if k.from < 0 {
		for at := min(n+k.from, len(args)-1); at > 0; at-- {
			if equalFold(args[at], k.keyword) {
				return at + 1
			}
		}
		return 0
	}
	for at := k.from; at < len(args); at++ {
		if equalFold(args[at], k.keyword) {
			return at + 1
		}
	}
	return 0
}

// appendRange appends first, first+step … up to last, as far as there are arguments.
func appendRange(dst []int, first, last, step, nargs int) []int {
	last = min(last, nargs-1)
	if last-first > 64 {
		dst = slices.Grow(dst, (last-first)/step+1)
	}
	for n := first; n <= last; n += step {
		dst = append(dst, n)
	}
	return dst
}

// leadingInt returns the number that text begins with, as C's atoi does, since a
// server that cannot read a number of keys takes that one to find its node, and
// only then refuses the command. It is cut to 32 bits, as in the server.
func leadingInt(text []byte) int {
	for len(text) > 0 && (text[0] == ' ' || '\t' <= text[0] && text[0] <= '\r') {
		text = text[1:]
	}
	negative := false
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		negative, text = text[0] == '-', text[1:]
	}
	const most = 1<<63 - 1
	n := int64(0)
	for ; len(text) > 0 && '0' <= text[0] && text[0] <= '9'; text = text[1:] {
		digit := int64(text[0] - '0')
		if n > (most-digit)/10 {
			return -1 // C's strtol returns its largest value, whose lower 32 bits are -1
		}
		n = n*10 + digit
	}
	if negative {
		n = -n
	}
	return int(int32(n))
}

// keyFinder finds the keys of a command that has them where no spec can say.
type keyFinder uint8

const (
	firstArgument keyFinder = iota + 1
	sortKeys
	migrateKeys
)

// appendSortKeys finds the keys of SORT key [options] [STORE destination], the
// last STORE counting.
func appendSortKeys(dst []int, args [][]byte) []int {
	dst = appendRange(dst, 1, 1, 1, len(args))
	store := 0
	for n := 2; n < len(args); n++ {
		switch arg := args[n]; {
		case equalFold(arg, "limit"):
			n += 2
		case equalFold(arg, "get"), equalFold(arg, "by"):
			n++
		case equalFold(arg, "store") && n+1 < len(args):
			store = n + 1
		}
	}
	if store > 0 {
		dst = append(dst, store)
	}
	return dst
}

// appendMigrateKeys finds the keys of MIGRATE host port key db timeout [options],
// where an empty key means that they follow the option KEYS.
func appendMigrateKeys(dst []int, args [][]byte) []int {
	for n := 6; n < len(args); n++ {
		switch arg := args[n]; {
		case equalFold(arg, "keys") && n+1 < len(args):
			if len(args[3]) > 0 {
				return dst // a key and KEYS: the server refuses this
			}
			return appendRange(dst, n+1, len(args)-1, 1, len(args))
		case equalFold(arg, "auth"):
			n++
		case equalFold(arg, "auth2"):
			n += 2
		}
	}
	return appendRange(dst, 3, 3, 1, len(args))
}

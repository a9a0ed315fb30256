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
	switch i.finder {
	case firstArgument:
		return appendRange(dst, 1, 1, 1, len(args)), nil
	case sortKeys:
		return appendSortKeys(dst, args), nil
	case migrateKeys:
		return appendMigrateKeys(dst, args), nil
	}
	before := len(dst)
	for n := range i.specs {
		var ok bool
		if dst, ok = i.specs[n].appendKeys(dst, args); !ok {
			return dst[:before], nil
		}
	}
	return dst, nil
}

// KeysWithin reports whether all keys of a command stand among the first n of its arguments, which are all that args need hold, up to its
// length: what a command is like whose end has not come yet.
func (i *Info) KeysWithin(args [][]byte, n int) bool {
	if n == len(args) {
		return true
	}
	if i.AskKeys || i.finder != 0 && i.finder != firstArgument {
		return false
	}
	if i.finder == 0 {
		for _, k := range i.specs {
			if k.keyword != "" || k.counted && k.from+k.number >= n {
				return false
			}
		}
	}
	keys, _ := i.AppendKeys(nil, args)
	return !slices.ContainsFunc(keys, func(at int) bool { return at >= n })
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

// appendKeys reports false where the arguments cannot be right and no key counts.
func (k *keySpec) appendKeys(dst []int, args [][]byte) ([]int, bool) {
	start := k.from
	if k.keyword != "" {
		start = k.search(args)
	}
	// An option that is not there, or at the very end; a list that may be empty.
	if start == 0 || start >= len(args) {
		return dst, true
	}
	switch {
	case k.counted:
		if start+k.number >= len(args) {
			return dst, false
		}
		first := start + k.first
		count := leadingInt(args[start+k.number])
		if count < 1 || first >= len(args) || count-1 > (len(args)-1-first)/k.step {
			return dst, false
		}
		return appendRange(dst, first, first+(count-1)*k.step, k.step, len(args)), true
	case k.last >= 0:
		if start+k.last >= len(args) {
			return dst, false
		}
		return appendRange(dst, start, start+k.last, k.step, len(args)), true
	case k.limit > 1:
		return appendRange(dst, start, start+(len(args)-start)/k.limit+k.last, k.step, len(args)), true
	default:
		return appendRange(dst, start, len(args)+k.last, k.step, len(args)), true
	}
}

// search returns the index after the keyword, or 0.
func (k *keySpec) search(args [][]byte) int {
	if k.from < 0 {
		for n := len(args) + k.from; n > 0; n-- {
			if equalFold(args[n], k.keyword) {
				return n + 1
			}
		}
		return 0
	}
	for n := k.from; n < len(args); n++ {
		if equalFold(args[n], k.keyword) {
			return n + 1
		}
	}
	return 0
}

// appendRange appends first, first+step … up to last, as far as there are arguments.
func appendRange(dst []int, first, last, step, nargs int) []int {
	for n := first; n <= last && n < nargs; n += step {
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

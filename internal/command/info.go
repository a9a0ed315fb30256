package command

import "strings"

// Info is what a proxy knows of one command or subcommand. It is immutable.
type Info struct {
	ID    int    // dense, from 0 to Table.Len()-1, for counters; good within one Table only
	Name  string // lower case: "get", "config|set"
	Arity int    // as in Entry
	Flags Flags

	// Write: it may change a key, and what was read before may have become wrong.
	// ReadOnly: the server promises that it changes nothing, so that it may be
	// sent again. Commands on no data (PING, CONFIG GET) are neither.
	Write, ReadOnly bool
	// Repeatable: running it twice is as good as once, so that it may be sent again when nobody knows whether it ran.
	Repeatable bool
	// ReadsThrough: an origin may answer what is null in its reply, where it is intercepted.
	ReadsThrough bool

	Handling Handling
	Action   Action   // of Local
	Reason   Reason   // of Private
	Response Response // of Split, AllShards and AllNodes
	Request  Request
	Why      string // for the documents: why Handling is not what the server's description suggests, or ""

	SingleKey bool // there is exactly one key, and it stands at FirstKey
	Channels  bool // the "keys" are names of sharded channels: they decide the slot and nothing else
	AskKeys   bool // only the server's COMMAND GETKEYS can tell the keys
	KeyStep   int  // of Split: the number of arguments from one key to the next

	Parent *Info // of a subcommand

	firstKey int
	specs    []keySpec
	finder   keyFinder
	option   bool
	subs     index
}

// newInfo makes the Info of an entry and of its subcommands.
func newInfo(e Entry, parent *Info) *Info {
	i := &Info{Name: strings.ToLower(e.Name), Arity: e.Arity, Flags: parseFlags(e.Flags), Parent: parent}
	i.Request, i.Response = parseTips(e.Tips)
	describeKeys(i, e)
	describeEffect(i, e)
	classify(i, len(e.Subcommands) > 0)
	if i.Handling != Split {
		i.KeyStep = 0
	}

	if parent != nil { // no server nests deeper
		return i
	}
	subs := make(map[string]*Info)
	for _, sub := range e.Subcommands {
		s := newInfo(sub, i)
		if name, ok := strings.CutPrefix(s.Name, i.Name+"|"); ok && subs[name] == nil {
			subs[name] = s
		}
	}
	i.subs = newIndex(subs)
	return i
}

// Sub returns the subcommand that arg, the argument after the name, calls in any
// case, or nil.
func (i *Info) Sub(arg []byte) *Info { return i.subs.find(arg) }

// IsContainer reports whether the command is one of subcommands, such as CONFIG.
func (i *Info) IsContainer() bool { return !i.subs.empty() }

// ArityOK reports whether a command of nargs arguments, names included, has as
// many as it must. If not, every server answers it with the same error.
func (i *Info) ArityOK(nargs int) bool {
	return nargs == i.Arity || i.Arity < 0 && nargs >= -i.Arity
}

// Blocks reports whether the command may keep its connection waiting. One that
// is Private for ReasonBlocking and does not block is handled as ByKey.
func (i *Info) Blocks(args [][]byte) bool {
	if !i.option {
		return i.Reason == ReasonBlocking || i.Reason == ReasonWait
	}
	for n := 1; n < len(args); n++ {
		switch arg := args[n]; {
		case equalFold(arg, "block"):
			return true
		case equalFold(arg, "streams"):
			return false
		case equalFold(arg, "count"):
			n++
		case equalFold(arg, "group"):
			n += 2
		}
	}
	return false
}

// Flags is the set of a command's flags.
type Flags uint32

const (
	FlagWrite Flags = 1 << iota
	FlagReadonly
	FlagDenyOOM
	FlagModule
	FlagAdmin
	FlagPubsub
	FlagNoScript
	FlagBlocking
	FlagLoading
	FlagStale
	FlagSkipMonitor
	FlagSkipSlowlog
	FlagAsking
	FlagFast
	FlagNoAuth
	FlagNoMandatoryKeys
	FlagNoAsyncLoading
	FlagNoMulti
	FlagMovableKeys
	FlagAllowBusy
)

var flagNames = [...]string{
	"write", "readonly", "denyoom", "module", "admin", "pubsub", "noscript", "blocking", "loading", "stale",
	"skip_monitor", "skip_slowlog", "asking", "fast", "no_auth", "no_mandatory_keys", "no_async_loading", "no_multi", "movablekeys",
	"allow_busy",
}

// Has reports whether all of flags are set.
func (f Flags) Has(flags Flags) bool { return f&flags == flags }

// String lists the flags in the server's words, separated by spaces.
func (f Flags) String() string {
	var names []string
	for bit, name := range flagNames {
		if f.Has(1 << bit) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// parseFlags leaves out the flags it does not know: none of them decides anything here.
func parseFlags(names []string) (f Flags) {
	for bit, name := range flagNames {
		for _, n := range names {
			if strings.EqualFold(n, name) {
				f |= 1 << bit
			}
		}
	}
	return f
}

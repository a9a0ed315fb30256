package command

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
)

var update = flag.Bool("update", false, "rewrite testdata/handling.golden")

// TestHandlingGolden shows, command by command, what a change does.
func TestHandlingGolden(t *testing.T) {
	const path = "testdata/handling.golden"
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, i := range Snapshot().All() {
		checkConsistent(t, i)
		handling := i.Handling.String()
		switch i.Handling {
		case Local:
			handling += ": " + i.Action.String()
		case Private:
			handling += ": " + i.Reason.String()
		case Split, AllShards, AllNodes:
			handling += strings.TrimSuffix(": "+i.Response.String(), ": ")
		}
		effect := "-"
		switch {
		case i.Write:
			effect = "write"
		case i.ReadOnly:
			effect = "read"
		case i.Repeatable:
			effect = "none"
		}
		keys := "-"
		switch {
		case i.AskKeys:
			keys = "ask"
		case i.Channels:
			keys = fmt.Sprintf("channels from %d", i.FirstKey())
		case i.SingleKey:
			keys = fmt.Sprintf("one at %d", i.FirstKey())
		case i.FirstKey() > 0:
			keys = fmt.Sprintf("from %d", i.FirstKey())
		case len(i.specs) > 0 || i.finder != 0:
			keys = "move"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.Name, handling, effect, keys)
	}
	_ = w.Flush() // into memory
	if *update {
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Split(text.String(), "\n"), strings.Split(string(golden), "\n")
	for n := range max(len(got), len(want)) {
		g, w := at(got, n), at(want, n)
		if g != w {
			t.Fatalf("line %d is\n%s\nwant\n%s\n(go test -update rewrites %s)", n+1, g, w, path)
		}
	}
}

func at(lines []string, n int) string {
	if n < len(lines) {
		return lines[n]
	}
	return "(nothing)"
}

func TestExceptionsNameEachCommandOnce(t *testing.T) {
	seen := make(map[string]bool)
	for _, x := range exceptions {
		for _, name := range x.names {
			if seen[name] {
				t.Errorf("%s has two exceptions", name)
			}
			seen[name] = true
			if name != strings.ToLower(name) {
				t.Errorf("%s is not in lower case, and would never be found", name)
			}
		}
		if x.why == "" {
			t.Errorf("%v: no reason is given", x.names)
		}
	}
}

// TestRepeatable holds that what may run twice is no write, whoever lists it, and is found under the name it is listed by.
func TestRepeatable(t *testing.T) {
	for name := range repeatable {
		if name != strings.ToLower(name) {
			t.Errorf("%s is not in lower case, and would never be found", name)
		}
		if i := Snapshot().Named(name); i != nil && (i.Write || !i.Repeatable) {
			t.Errorf("%s: write %v, repeatable %v", name, i.Write, i.Repeatable)
		}
	}
	for _, i := range Snapshot().All() {
		if i.Repeatable && (i.Write || i.Flags.Has(FlagWrite)) || i.ReadOnly && !i.Repeatable {
			t.Errorf("%s: write %v, read only %v, repeatable %v", i.Name, i.Write, i.ReadOnly, i.Repeatable)
		}
	}
	for _, name := range []string{"set", "publish", "spublish", "eval", "acl|log", "config|set", "slowlog|reset", "flushall", "client|pause", "wait"} {
		if Snapshot().Named(name).Repeatable {
			t.Errorf("%s would run twice", name)
		}
	}
}

func TestLookup(t *testing.T) {
	table := Snapshot()
	for _, info := range table.All() {
		if info.Parent != nil {
			sub := strings.TrimPrefix(info.Name, info.Parent.Name+"|")
			for _, form := range []string{sub, strings.ToUpper(sub)} {
				if got := info.Parent.Sub([]byte(form)); got != info {
					t.Errorf("%s.Sub(%q) = %v", info.Parent.Name, form, got)
				}
				if got := table.Find(bytesOf([]string{info.Parent.Name, form, "x"})); got != info {
					t.Errorf("Find(%s %s) = %v", info.Parent.Name, form, got)
				}
			}
			continue
		}
		mixed := []byte(info.Name)
		for n := 0; n < len(mixed); n += 2 {
			mixed[n] = strings.ToUpper(string(mixed[n]))[0]
		}
		for _, form := range [][]byte{[]byte(info.Name), []byte(strings.ToUpper(info.Name)), mixed} {
			if got := table.Lookup(form); got != info {
				t.Errorf("Lookup(%q) = %v", form, got)
			}
		}
		// Nothing that differs in one byte is taken for it, be it by bit 5 alone.
		for n := range mixed {
			for bit := range 8 {
				near := []byte(info.Name)
				near[n] ^= 1 << bit
				if got := table.Lookup(near); got != nil && got.Name != strings.ToLower(string(near)) {
					t.Errorf("Lookup(%q) = %s", near, got.Name)
				}
			}
		}
		if got := table.Lookup([]byte(info.Name + "\x00")); got != nil {
			t.Errorf("Lookup(%q) = %s", info.Name+"\x00", got.Name)
		}
	}
	for _, name := range []string{"", "nonesuch", "config|set", "ge", "georadiusbymemberxro", "\xc7\xc5\xd4"} {
		if got := table.Lookup([]byte(name)); got != nil {
			t.Errorf("Lookup(%q) = %s", name, got.Name)
		}
	}
	if got := table.Lookup([]byte("get")).Sub([]byte("set")); got != nil {
		t.Errorf("GET has a subcommand %s", got.Name)
	}
	if got := table.Find(nil); got != nil {
		t.Errorf("Find() = %s", got.Name)
	}
}

func TestWithAliases(t *testing.T) {
	plain := New([]Entry{{Name: "get", Arity: 2}, {Name: "set", Arity: 3}, {Name: "config", Arity: -2, Subcommands: []Entry{{Name: "config|set", Arity: -4}}}})
	table := plain.WithAliases(map[string]string{"fetch": "get", "set": "get", "setup": "config", "other": "nonesuch"})
	for called, name := range map[string]string{"Fetch": "get", "get": "get", "SET": "set", "setup": "config"} {
		if got := table.Lookup([]byte(called)); got != plain.Named(name) {
			t.Errorf("%s calls %v", called, got)
		}
	}
	if got := table.Find(bytesOf([]string{"Setup", "set", "x", "1"})); got != plain.Named("config|set") {
		t.Errorf("SETUP SET calls %v", got)
	}
	if table.Lookup([]byte("other")) != nil || plain.Lookup([]byte("fetch")) != nil {
		t.Error("an alias of nothing, or a change of the table that it was made from")
	}
	if len(table.Aliases()) != 2 || table.Aliases()["setup"] != plain.Named("config") || len(table.All()) != len(plain.All()) {
		t.Errorf("aliases %v", table.Aliases())
	}
	if plain.WithAliases(nil) != plain {
		t.Error("another table without aliases")
	}
}

func TestWithSnapshot(t *testing.T) {
	get := Entry{Name: "GET", Arity: 2, Flags: []string{"write"}}
	if WithSnapshot([]Entry{get}) != Snapshot() {
		t.Error("nothing is new, but the table is")
	}
	table := WithSnapshot([]Entry{get, {Name: "json.get", Arity: -2, Flags: []string{"readonly", "module"}, FirstKey: 1, LastKey: 1, KeyStep: 1}})
	if i := table.Named("json.get"); i == nil || !i.SingleKey || i.FirstKey() != 1 || i.Handling != ByKey {
		t.Errorf("the module's command: %+v", i)
	}
	if i := table.Named("get"); i == nil || !i.ReadOnly || table.Len() != Snapshot().Len()+1 {
		t.Errorf("GET: %+v, of %d commands", i, table.Len())
	}
}

func TestLookupLongNames(t *testing.T) {
	// Names that differ in the middle only share the bytes that the index packs.
	table := New([]Entry{{Name: "abcdefgh-one-ijklmnop"}, {Name: "abcdefgh-two-ijklmnop"}})
	for _, name := range []string{"ABCDEFGH-one-ijklmnop", "abcdefgh-TWO-ijklmnop"} {
		if got := table.Lookup([]byte(name)); got == nil || got.Name != strings.ToLower(name) {
			t.Errorf("Lookup(%q) = %v", name, got)
		}
	}
	if got := table.Lookup([]byte("abcdefgh-six-ijklmnop")); got != nil {
		t.Errorf("Lookup of an unknown name found %s", got.Name)
	}
}

func TestAllHasIDs(t *testing.T) {
	table := Snapshot()
	if table.Len() != len(table.All()) || table.Len() < 300 {
		t.Fatalf("Len() = %d, All() has %d", table.Len(), len(table.All()))
	}
	for id, info := range table.All() {
		if info.ID != id {
			t.Errorf("%s has the ID %d at %d", info.Name, info.ID, id)
		}
		if table.Named(strings.ToUpper(info.Name)) != info {
			t.Errorf("Named(%q) is another", strings.ToUpper(info.Name))
		}
	}
}

func TestArity(t *testing.T) {
	for _, tc := range []struct {
		name  string
		nargs int
		want  bool
	}{
		{"get", 1, false},
		{"get", 2, true},
		{"get", 3, false},
		{"mset", 2, false},
		{"mset", 3, true},
		{"mset", 1000, true},
		{"config|get", 2, false},
		{"config|get", 3, true},
	} {
		if got := Snapshot().Named(tc.name).ArityOK(tc.nargs); got != tc.want {
			t.Errorf("%s with %d arguments: %v", tc.name, tc.nargs, got)
		}
	}
}

func TestBlocks(t *testing.T) {
	for line, want := range map[string]bool{
		"get k":                         false,
		"blpop k 0":                     true,
		"wait 1 0":                      true,
		"subscribe c":                   false,
		"xread streams s 0":             false,
		"XREAD BLOCK 0 STREAMS s $":     true,
		"xread count block streams s $": false,
		"xread streams block 0":         false,
		"xreadgroup group g":            false,

		"xread count 1 block 0 streams s $":                      true,
		"xreadgroup group block block streams s >":               false,
		"xreadgroup group streams c block 5 streams s >":         true,
		"xreadgroup group g c count 1 noack block 5 streams s >": true,
	} {
		args := bytesOf(strings.Fields(line))
		if got := Snapshot().Find(args).Blocks(args); got != want {
			t.Errorf("Blocks(%s) = %v", line, got)
		}
	}
}

// TestLaterServers gives the classification what no 7.0 server has.
func TestLaterServers(t *testing.T) {
	index := func(at, last, step int, flags ...string) KeySpec {
		return KeySpec{Flags: flags, Begin: BeginSearch{Type: "index", Index: at}, Find: FindKeys{Type: "range", LastKey: last, KeyStep: step}}
	}
	unknown := KeySpec{Begin: BeginSearch{Type: "unknown"}, Find: FindKeys{Type: "unknown"}}
	for _, tc := range []struct {
		what  string
		entry Entry
		want  Info
	}{
		{
			"a later read",
			Entry{Name: "hgetx", Flags: []string{"readonly"}, KeySpecs: []KeySpec{index(1, 0, 1, "RO")}},
			Info{Handling: ByKey, ReadOnly: true, SingleKey: true, firstKey: 1},
		},
		{
			"a module's read, for which the server makes up a spec",
			Entry{Name: "json.get", Flags: []string{"readonly", "module"}, KeySpecs: []KeySpec{index(1, 0, 1, "RW", "access", "update")}},
			Info{Handling: ByKey, ReadOnly: true, SingleKey: true, firstKey: 1},
		},
		{
			"a module's write",
			Entry{Name: "json.set", Flags: []string{"write", "module"}, KeySpecs: []KeySpec{index(1, 0, 1, "RW")}},
			Info{Handling: ByKey, Write: true, SingleKey: true, firstKey: 1},
		},
		{
			"a read that may change its key",
			Entry{Name: "pfx", Flags: []string{"readonly"}, KeySpecs: []KeySpec{index(1, 0, 1, "RW")}},
			Info{Handling: ByKey, Write: true, SingleKey: true, firstKey: 1},
		},
		{
			"a module that finds its keys itself",
			Entry{Name: "tfcall", Flags: []string{"module", "movablekeys"}, KeySpecs: []KeySpec{index(1, 0, 1, "RW")}},
			Info{Handling: ByKey, Write: true, AskKeys: true},
		},
		{
			"moving keys without specs",
			Entry{Name: "m.read", Flags: []string{"movablekeys", "readonly"}},
			Info{Handling: ByKey, ReadOnly: true, AskKeys: true},
		},
		{
			"an incomplete spec",
			Entry{Name: "m.part", Flags: []string{"readonly"}, KeySpecs: []KeySpec{index(1, 0, 1, "RO", "incomplete")}},
			Info{Handling: ByKey, ReadOnly: true, AskKeys: true},
		},
		{
			"a spec of an unknown kind",
			Entry{Name: "m.odd", Flags: []string{"readonly"}, KeySpecs: []KeySpec{index(1, 0, 1, "RO"), unknown}},
			Info{Handling: ByKey, ReadOnly: true, AskKeys: true},
		},
		{
			"positions of old",
			Entry{Name: "m.old", Flags: []string{"readonly"}, FirstKey: 2, LastKey: 2, KeyStep: 1},
			Info{Handling: ByKey, ReadOnly: true, SingleKey: true, firstKey: 2},
		},
		{
			"MSETEX, which counts its keys",
			Entry{
				Name: "msetex", Flags: []string{"write"},
				Tips: []string{"request_policy:multi_shard", "response_policy:all_succeeded"},
				KeySpecs: []KeySpec{{
					Flags: []string{"OW"}, Begin: BeginSearch{Type: "index", Index: 1},
					Find: FindKeys{Type: "keynum", FirstKey: 1, KeyStep: 2},
				}},
			},
			Info{Handling: ByKey, Write: true, Request: RequestMultiShard, Response: ResponseAllSucceeded},
		},
		{
			"keys and then a path",
			Entry{
				Name: "m.mget", Flags: []string{"readonly"}, Tips: []string{"request_policy:multi_shard"},
				KeySpecs: []KeySpec{index(1, -2, 1, "RO")},
			},
			Info{Handling: ByKey, ReadOnly: true, Request: RequestMultiShard, firstKey: 1},
		},
		{
			"a later DEL",
			Entry{
				Name: "delex", Flags: []string{"write"}, Tips: []string{"REQUEST_POLICY:MULTI_SHARD", "RESPONSE_POLICY:AGG_SUM"},
				KeySpecs: []KeySpec{index(1, -1, 1, "RM")},
			},
			Info{Handling: Split, Write: true, Request: RequestMultiShard, Response: ResponseAggSum, firstKey: 1, KeyStep: 1},
		},
		{
			"replies that only its own client understands",
			Entry{Name: "m.stat", Tips: []string{"request_policy:all_shards", "response_policy:special"}},
			Info{Handling: FixedNode, Request: RequestAllShards, Response: ResponseSpecial},
		},
		{
			"a response policy of the future",
			Entry{Name: "m.stat", Tips: []string{"request_policy:all_nodes", "response_policy:agg_median"}},
			Info{Handling: FixedNode, Request: RequestAllNodes, Response: ResponseSpecial},
		},
		{
			"a request policy of the future",
			Entry{Name: "m.x", Tips: []string{"request_policy:all_replicas"}},
			Info{Handling: FixedNode, Request: RequestSpecial},
		},
		{
			"blocking",
			Entry{Name: "bxpop", Flags: []string{"write", "blocking"}, KeySpecs: []KeySpec{index(1, -2, 1, "RW")}},
			Info{Handling: Private, Reason: ReasonBlocking, Write: true, firstKey: 1},
		},
		{"subscribing", Entry{Name: "xsubscribe", Flags: []string{"pubsub", "noscript"}}, Info{Handling: Private, Reason: ReasonSubscribe}},
		{"publishing", Entry{Name: "xpublish", Flags: []string{"pubsub"}}, Info{Handling: FixedNode}},
		{"nothing known", Entry{Name: "m.any", Flags: []string{"flag of the future"}}, Info{Handling: FixedNode}},
	} {
		got := *New([]Entry{tc.entry}).Lookup([]byte(tc.entry.Name))
		if got.Repeatable != got.ReadOnly {
			t.Errorf("%s: Repeatable is %v, but who knows", tc.what, got.Repeatable)
		}
		got.ID, got.Name, got.Arity, got.Flags, got.specs, got.Repeatable = 0, "", 0, 0, nil, false
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", tc.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.what, got, tc.want)
		}
	}
}

func TestLaterSubcommandOfClientIsPrivate(t *testing.T) {
	table := New([]Entry{{Name: "client", Arity: -2, Subcommands: []Entry{{Name: "client|capa", Arity: -3}, {Name: "client|help", Arity: 2}}}})
	if got := table.Named("client|capa"); got.Handling != Private || got.Reason != ReasonState {
		t.Errorf("CLIENT CAPA: %v, %v", got.Handling, got.Reason)
	}
	if got := table.Named("client|help"); got.Handling != FixedNode {
		t.Errorf("CLIENT HELP: %v", got.Handling)
	}
}

func TestAppendKeysAsks(t *testing.T) {
	args := bytesOf([]string{"tfcall", "a"})
	info := New([]Entry{{Name: "tfcall", Flags: []string{"movablekeys"}}}).Find(args)
	if keys, err := info.AppendKeys(nil, args); !errors.Is(err, ErrAskKeys) || len(keys) > 0 {
		t.Errorf("AppendKeys = %v, %v", keys, err)
	}
}

// TestAppendKeysBeyondGetkeys has the keys that COMMAND GETKEYS does not show,
// and the specs that Redis 7.0 has no command for.
func TestAppendKeysBeyondGetkeys(t *testing.T) {
	keynum := KeySpec{Begin: BeginSearch{Type: "index", Index: 1}, Find: FindKeys{Type: "keynum", FirstKey: 1, KeyStep: 2}}
	fromEnd := KeySpec{Begin: BeginSearch{Type: "keyword", Keyword: "KEYS", StartFrom: -2}, Find: FindKeys{Type: "range", LastKey: -1, KeyStep: 1}}
	table := New(append([]Entry{{Name: "msetex", KeySpecs: []KeySpec{keynum}}, {Name: "m.last", KeySpecs: []KeySpec{fromEnd}}}, readSnapshot().Commands...))
	for line, want := range map[string]string{
		"spublish c m":           "[1]",
		"ssubscribe a b":         "[1 2]",
		"sunsubscribe":           "[]",
		"pfmerge dest":           "[1]",
		"msetex 2 a 1 b 2 ex 10": "[2 4]",
		"msetex 3 a 1 b 2":       "[]",
		"m.last keys x keys a b": "[4 5]",
		"m.last a keys":          "[]",
		"m.last":                 "[]",
		"get":                    "[]",
		"eval":                   "[]",
		"eval s":                 "[]",
		"sort":                   "[]",
		"migrate h":              "[]",
	} {
		args := bytesOf(strings.Fields(line))
		keys, err := table.Find(args).AppendKeys(nil, args)
		if got := fmt.Sprint(keys); err != nil || got != want {
			t.Errorf("%s: keys at %s, %v, want %s", line, got, err, want)
		}
	}
}

// Of a command whose end has not come yet, the keys that have come are found, and whether there will be others, at no cost that its length
// decides.
func TestAppendLeadingKeys(t *testing.T) {
	const million = 1 << 20
	for _, tc := range []struct {
		line string // what has come
		n    int    // arguments in all
		keys string
		all  bool
	}{
		{"get", 2, "[]", false},
		{"set k", 3, "[1]", true},
		{"del a b", million, "[1 2]", false},
		{"del", 2, "[]", false},
		{"del a b", 4, "[1 2]", false},
		{"del a b", 3, "[1 2]", true},
		{"mset a", 3, "[1]", true},
		{"mset a", million, "[1]", false},
		{"blpop a b", 4, "[1 2]", true},
		{"eval s", million, "[]", false},
		{"eval s 1", million, "[]", false},
		{"eval s 1 k", million, "[3]", true},
		{"eval s 2 k", million, "[3]", false},
		{"eval s 0", million, "[]", true},
		{"eval s 7", 5, "[]", true}, // Redis refuses it
		{"zunionstore d 2 a", 6, "[1 3]", false},
		{"zunionstore d", 6, "[1]", false},
		{"rename a b", 3, "[1 2]", true},
		{"rename a", 3, "[1]", false},
		{"sort k", million, "[1]", false},
		{"xread streams a", 4, "[2]", false},
		{"ping", million, "[]", true},
	} {
		args := bytesOf(strings.Fields(tc.line))
		info := Snapshot().Find(args)
		var room [8]int
		if n := testing.AllocsPerRun(10, func() { info.AppendLeadingKeys(room[:0], args, tc.n) }); n != 0 {
			t.Errorf("%s of %d: %v allocations", tc.line, tc.n, n)
		}
		if keys, all := info.AppendLeadingKeys(nil, args, tc.n); fmt.Sprint(keys) != tc.keys || all != tc.all {
			t.Errorf("%s of %d: %v, %v, want %s, %v", tc.line, tc.n, keys, all, tc.keys, tc.all)
		}
	}
}

func TestEntriesOfOlderServers(t *testing.T) {
	six := []any{[]any{"get", int64(2), []any{"readonly"}, int64(1), int64(1), int64(1)}, nil}
	entries, err := Entries(six)
	if err != nil || len(entries) != 1 || entries[0].FirstKey != 1 {
		t.Errorf("Entries = %+v, %v", entries, err)
	}
	for _, bad := range []any{
		"OK",
		[]any{"get"},
		[]any{[]any{"get"}},
		[]any{[]any{"get", "two", []any{}, 1, 1, 1}},
		[]any{[]any{2, 2, []any{}, 1, 1, 1}},
		[]any{[]any{"get", 2, []any{}, 1, 1, 1, nil, nil, []any{[]any{"flags"}}}},
	} {
		if entries, err := Entries(bad); err == nil {
			t.Errorf("Entries(%v) = %v, want an error", bad, entries)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	table := Snapshot()
	for _, line := range []string{
		"GET k", "mset a 1 b 2", "config set a b", "georadiusbymember k m 1 m store d", "eval s 2 a b",
		"xread block 0 streams a b 0 0", "sort k store d", "migrate h 1 k 0 0", "nonesuch x",
	} {
		args := bytesOf(strings.Fields(line))
		if n := testing.AllocsPerRun(100, func() {
			var room [8]int
			if info := table.Find(args); info != nil {
				_, _ = info.AppendKeys(room[:0], args)
				info.Blocks(args)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", line, n)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	table := Snapshot()
	for _, name := range []string{"GET", "HINCRBYFLOAT", "georadiusbymember_ro", "nonesuch"} {
		b.Run(name, func(b *testing.B) {
			n := []byte(name)
			for b.Loop() {
				table.Lookup(n)
			}
		})
	}
}

func BenchmarkAppendKeys(b *testing.B) {
	for _, line := range []string{"get k", "mget a b c d e f g h", "zunionstore d 2 a b weights 1 2", "xread count 1 streams a b 0 0"} {
		b.Run(line, func(b *testing.B) {
			args := bytesOf(strings.Fields(line))
			info := Snapshot().Find(args)
			room := make([]int, 0, 16)
			for b.Loop() {
				_, _ = info.AppendKeys(room, args)
			}
		})
	}
}

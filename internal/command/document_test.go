package command

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"
)

// way is one of the answers to the question what becomes of a command, as docs/commands.md explains it.
type way struct {
	Name, Text string
	is         func(i *Info) bool
}

func handled(h Handling) func(i *Info) bool {
	return func(i *Info) bool { return i.Handling == h }
}

func privately(reasons ...Reason) func(i *Info) bool {
	return func(i *Info) bool { return i.Handling == Private && slices.Contains(reasons, i.Reason) }
}

// ways are in the order in which they are shown; the first that fits a command is its way.
var ways = []way{
	{
		"refused", "an error: it would make the connection something that a session is not",
		func(i *Info) bool {
			return i.Handling == Private && i.Action == ActionNone && (i.Reason == ReasonState || i.Reason == ReasonReplication)
		},
	},
	{"by key", "relayed to the master that serves the slot of its keys; keys of several slots are Redis's `CROSSSLOT`", handled(ByKey)},
	{"by slot", "relayed to the master that serves the slot which it names", handled(BySlot)},
	{"split", "where its keys are of several slots, one command for each, side by side, and one reply made of theirs", handled(Split)},
	{"all masters", "sent to every master; one reply made of theirs, or the first error", handled(AllShards)},
	{"all nodes", "sent to every master and replica; one reply made of theirs, or the first error", handled(AllNodes)},
	{"one master after the other", "the cursor says which", handled(Scan)},
	{"any master", "asked one after the other, from a random one on, until one has a key", handled(RandomKey)},
	{"fixed node", "relayed to one node that is the same for all: nothing says that others should get it", handled(FixedNode)},
	{"sidecar", "answered by the sidecar, since it is about the client's connection, which ends there", handled(Local)},
	{"transaction", "from `WATCH` or `MULTI` until `EXEC`, a connection to one master that no other client uses", privately(ReasonTransaction)},
	{
		"blocking", "a connection that no other client uses while it waits; when the client leaves, it takes no element with it",
		privately(ReasonBlocking),
	},
	{
		"subscription", "connections of the client's own to the fixed node, and for sharded channels to the masters of their slots",
		privately(ReasonSubscribe),
	},
	{"replicas", "asked of each master that the client wrote to, over connections that no other client uses", privately(ReasonWait)},
	{"monitor", "a connection of the client's own to each master", privately(ReasonMonitor)},
	{
		"own connections", "from then on, all of the client's commands go over connections that no other client uses and that are in that state",
		privately(ReasonTracking, ReasonState),
	},
	{"replies", "Redis goes on answering, and the sidecar throws the replies away", privately(ReasonReply)},
}

var mergings = map[Response]string{
	ResponseDefault: "joined", ResponseOneSucceeded: "the first success", ResponseAllSucceeded: "one for all",
	ResponseAggLogicalAnd: "and", ResponseAggLogicalOr: "or", ResponseAggMin: "least", ResponseAggMax: "most", ResponseAggSum: "sum",
	ResponseUnion: "joined, each once", ResponseSumPairs: "sums by name",
}

func wayOf(t *testing.T, i *Info) way {
	t.Helper()
	for _, w := range ways {
		if w.is(i) {
			return w
		}
	}
	t.Fatalf("nothing is said of how %s is handled: %v, %v, %v", i.Name, i.Handling, i.Action, i.Reason)
	return way{}
}

// TestDocument holds that docs/commands.md says what the table does.
func TestDocument(t *testing.T) {
	const path = "../../docs/commands.md"
	type row struct{ Name, How, Again, Why string }
	data := struct {
		Version  string
		Ways     []way
		Commands []row
	}{Version: readSnapshot().Version, Ways: ways}
	used := make(map[string]bool)
	for _, i := range Snapshot().All() {
		w := wayOf(t, i)
		used[w.Name] = true
		r := row{Name: strings.ToUpper(strings.ReplaceAll(i.Name, "|", " ")), How: w.Name, Why: strings.ReplaceAll(i.Why, "|", `\|`)}
		switch i.Handling {
		case Split, AllShards, AllNodes:
			r.How += ": " + mergings[i.Response]
			fallthrough
		case ByKey, BySlot, FixedNode, Scan, RandomKey:
			if r.Again = "no"; i.Repeatable {
				r.Again = "yes"
			}
		}
		if i.ReadsThrough {
			r.How += "; may read through"
		}
		data.Commands = append(data.Commands, r)
	}
	for _, w := range ways {
		if !used[w.Name] {
			t.Errorf("%q is explained, but no command is handled so", w.Name)
		}
	}
	var text bytes.Buffer
	page := template.Must(template.ParseFiles("testdata/commands.md.tmpl"))
	if err := page.Execute(&text, data); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, text.Bytes()) {
		t.Errorf("%s is not what the table says: go test ./internal/command -update", path)
	}
}

package parity

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"readthrough/internal/command"
	"readthrough/test/harness"
)

// difference is how the replies of two identical servers to the same command may differ.
type difference int

const (
	none     difference = iota
	inOrder             // the same scalars in another order
	inTime              // integers of the same sign, apart by the time between the two
	inValue             // the same types and numbers of elements
	notAsked            // the command is not sent at all
)

// unequal are the commands whose replies cannot be equal byte for byte, each with the reason.
var unequal = map[string]struct {
	by  difference
	why string
}{
	"smembers":    {inOrder, hashOrder},
	"sdiff":       {inOrder, hashOrder},
	"sinter":      {inOrder, hashOrder},
	"sunion":      {inOrder, hashOrder},
	"spop":        {inOrder, hashOrder},
	"srandmember": {inOrder, hashOrder},
	"sscan":       {inOrder, hashOrder},
	"keys":        {inOrder, hashOrder},
	"scan":        {inOrder, hashOrder},
	"acl|cat":     {inOrder, hashOrder},
	"command":     {inOrder, hashOrder},

	"config|get":    {inOrder, hashOrder},
	"function|list": {inOrder, hashOrder},
	"dump":          {inValue, hashOrder},

	"command|docs": {inOrder, hashOrder},
	"command|info": {inOrder, hashOrder},
	"command|list": {inOrder, hashOrder},

	"ttl":             {inTime, clock},
	"pttl":            {inTime, clock},
	"expiretime":      {inTime, clock},
	"pexpiretime":     {inTime, clock},
	"object|idletime": {inTime, clock},
	"lastsave":        {inTime, clock},

	"time":              {inValue, clock},
	"xpending":          {inValue, "tells for how many milliseconds entries have been idle"},
	"xinfo|consumers":   {inValue, "tells for how many milliseconds consumers have been idle"},
	"xinfo|stream":      {inValue, "tells when entries were delivered and consumers seen"},
	"acl|genpass":       {inValue, "makes a password up"},
	"acl|log":           {inValue, "tells the age of its entries and the clients they are about"},
	"client|id":         {inValue, "ids are those of the sidecar's sessions"},
	"hello":             {inValue, "tells the client's id"},
	"randomkey":         {inValue, "chooses at random"},
	"lolwut":            {inValue, "draws at random"},
	"info":              {inValue, "describes one server: ports, clients, memory, times"},
	"memory|stats":      {inValue, memory},
	"memory|usage":      {inValue, memory},
	"memory|doctor":     {inValue, memory},
	"slowlog|len":       {inValue, "which commands were slow is up to the machine"},
	"cluster|bumpepoch": {inValue, "a node's epoch goes up with every call, those before this test included"},

	"pfselftest":          {notAsked, "computes for half a second and says OK"},
	"memory|malloc-stats": {notAsked, memory},
	"latency|histogram":   {notAsked, "which latencies there were is up to the machine"},
	"slowlog|get":         {notAsked, "which commands were slow is up to the machine"},
	"save":                {notAsked, saving},
	"bgsave":              {notAsked, saving},
	"bgrewriteaof":        {notAsked, saving},
	"shutdown":            {notAsked, "ends the server"},
	"cluster|flushslots":  {notAsked, "an empty node would lose its slots"},
	"cluster|reset":       {notAsked, "an empty node would lose its slots"},
	"quit":                {notAsked, "ends the connection: see test/clients"},
	"host:":               {notAsked, "ends the connection without a reply"},
	"post":                {notAsked, "ends the connection without a reply"},
}

const (
	hashOrder = "the order is that of a hash table, whose seed each server draws"
	clock     = "tells or counts the time, and the two are asked one after the other"
	memory    = "depends on what the allocator did before"
	saving    = "depends on whether another save still runs"
)

// same compares the replies of the two servers to one command.
func same(table *command.Table, args []string, want, got []byte) bool {
	if bytes.Equal(want, got) {
		return true
	}
	info := table.Find(bytesOf(args))
	if info == nil {
		return false
	}
	by := unequal[info.Name].by
	if by == none {
		return false
	}
	w, err := harness.Decode(want)
	if err != nil {
		return false
	}
	g, err := harness.Decode(got)
	if err != nil {
		return false
	}
	switch by {
	case inOrder:
		return slices.Equal(scalars(w), scalars(g))
	case inTime:
		return near(w, g)
	default:
		return alike(w, g)
	}
}

func bytesOf(args []string) [][]byte {
	b := make([][]byte, len(args))
	for i, a := range args {
		b[i] = []byte(a)
	}
	return b
}

// scalars are the scalars and the sizes of the aggregates within a reply, sorted.
func scalars(v harness.Value) []string {
	var all []string
	var walk func(v harness.Value)
	walk = func(v harness.Value) {
		all = append(all, fmt.Sprintf("%c %t %d %q", v.Type, v.Null, len(v.Elems), v.Str))
		for _, e := range v.Elems {
			walk(e)
		}
	}
	walk(v)
	slices.Sort(all)
	return all
}

// near tells whether two integers differ by no more than the time between two commands: two thousand milliseconds at most,
// which is generous where they are seconds.
func near(w, g harness.Value) bool {
	a, err1 := strconv.Atoi(w.Str)
	b, err2 := strconv.Atoi(g.Str)
	return w.Type == ':' && g.Type == ':' && err1 == nil && err2 == nil && a >= 0 && b >= 0 && a-b <= 2000 && b-a <= 2000
}

// alike tells whether two replies have the same form.
func alike(w, g harness.Value) bool {
	if w.Type != g.Type || w.Null != g.Null || len(w.Elems) != len(g.Elems) || w.Type == '-' {
		return false
	}
	for i := range w.Elems {
		if !alike(w.Elems[i], g.Elems[i]) {
			return false
		}
	}
	return true
}

// TestEveryCommandIsCovered holds that each command of the server is generated, or stands in unequal as not to be asked, or is
// refused by the sidecar as one that this version does not offer.
func TestEveryCommandIsCovered(t *testing.T) {
	pair := newClusterPair(t, 1)
	generated := map[string]bool{}
	for group, parsed := range parseShapes() {
		if group == noCluster {
			continue
		}
		for _, s := range parsed {
			if info := pair.table.Find(bytesOf(s.name)); info != nil {
				generated[info.Name] = true
			}
		}
	}
	c := harness.NewConn(t, pair.sidecar)
	for _, info := range pair.table.All() {
		container := info.Parent == nil && hasSubcommands(pair.table, info)
		if generated[info.Name] || unequal[info.Name].by == notAsked || container {
			continue
		}
		if info.Handling != command.Private && info.Handling != command.Local {
			t.Errorf("%s is relayed (%s), and no sequence has it", info.Name, info.Handling)
			continue
		}
		if reply := c.MustDo(t, smallest(info)...); !refused(reply) {
			t.Errorf("%s answers %q, and no sequence has it", info.Name, reply)
		}
	}
	for name := range unequal {
		if unequal[name].why == "" {
			t.Errorf("%s stands in the list of what cannot be equal without a reason", name)
		}
		if pair.table.Named(name) == nil {
			t.Errorf("%s stands in the list of what cannot be equal, and there is no such command", name)
		}
	}
}

// refused tells whether a reply is that to a command which this version does not offer.
func refused(reply string) bool {
	return strings.HasPrefix(reply, "-ERR ") && strings.HasSuffix(reply, "which this version of Readthrough does not offer yet\r\n")
}

// TestSeveralMastersRefuse holds that what would have to be asked of every node is refused where there are several, rather than
// answered by one of them.
func TestSeveralMastersRefuse(t *testing.T) {
	pair := newClusterPair(t, 3)
	c := harness.NewConn(t, pair.sidecar)
	asked := 0
	for _, info := range pair.table.All() {
		switch info.Handling {
		case command.AllShards, command.AllNodes, command.Scan, command.RandomKey:
			asked++
			if reply := c.MustDo(t, smallest(info)...); !refused(reply) {
				t.Errorf("%s answers %q", info.Name, reply)
			}
		}
	}
	if asked == 0 {
		t.Error("no command is for all nodes")
	}
}

func hasSubcommands(table *command.Table, parent *command.Info) bool {
	return slices.ContainsFunc(table.All(), func(i *command.Info) bool { return i.Parent == parent })
}

// smallest is the command with as few arguments as it takes.
func smallest(info *command.Info) []string {
	var args []string
	for _, word := range bytes.Split([]byte(info.Name), []byte("|")) {
		args = append(args, string(word))
	}
	for len(args) < max(info.Arity, -info.Arity) {
		args = append(args, "1")
	}
	return args
}

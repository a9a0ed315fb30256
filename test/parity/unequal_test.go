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

// where is the comparisons for which a difference holds.
type where int

const (
	everywhere where = iota
	unlike           // where one side is one node and the other several
	meaning          // where one side is standalone and the other a cluster
)

// unequal are the commands, or with * all subcommands, whose replies cannot be equal byte for byte, each with the reason.
var unequal = map[string]struct {
	by    difference
	why   string
	where where
}{
	"smembers":    {by: inOrder, why: hashOrder},
	"sdiff":       {by: inOrder, why: hashOrder},
	"sinter":      {by: inOrder, why: hashOrder},
	"sunion":      {by: inOrder, why: hashOrder},
	"spop":        {by: inOrder, why: hashOrder},
	"srandmember": {by: inOrder, why: hashOrder},
	"sscan":       {by: inOrder, why: hashOrder},
	"keys":        {by: inOrder, why: hashOrder},
	"scan":        {by: inOrder, why: hashOrder},
	"acl|cat":     {by: inOrder, why: hashOrder},
	"command":     {by: inOrder, why: hashOrder},

	"config|get":    {by: inOrder, why: hashOrder},
	"function|list": {by: inOrder, why: hashOrder},
	"dump":          {by: inValue, why: hashOrder},

	"pubsub|channels":      {by: inOrder, why: hashOrder},
	"pubsub|shardchannels": {by: inOrder, why: hashOrder},

	"command|docs": {by: inOrder, why: hashOrder},
	"command|info": {by: inOrder, why: hashOrder},
	"command|list": {by: inOrder, why: hashOrder},

	"ttl":             {by: inTime, why: clock},
	"pttl":            {by: inTime, why: clock},
	"expiretime":      {by: inTime, why: clock},
	"pexpiretime":     {by: inTime, why: clock},
	"object|idletime": {by: inTime, why: clock},
	"lastsave":        {by: inTime, why: clock},

	"time":              {by: inValue, why: clock},
	"xpending":          {by: inValue, why: "tells for how many milliseconds entries have been idle"},
	"xinfo|consumers":   {by: inValue, why: "tells for how many milliseconds consumers have been idle"},
	"xinfo|stream":      {by: inValue, why: "tells when entries were delivered and consumers seen"},
	"acl|genpass":       {by: inValue, why: "makes a password up"},
	"acl|log":           {by: inValue, why: "tells the age of its entries and the clients they are about"},
	"client|id":         {by: inValue, why: "ids are those of the sidecar's sessions"},
	"hello":             {by: inValue, why: "tells the client's id"},
	"randomkey":         {by: inValue, why: "chooses at random"},
	"lolwut":            {by: inValue, why: "draws at random"},
	"info":              {by: inValue, why: "describes one server: ports, clients, memory, times"},
	"memory|stats":      {by: notAsked, why: memory},
	"memory|usage":      {by: inValue, why: memory},
	"memory|doctor":     {by: inValue, why: memory},
	"slowlog|len":       {by: inValue, why: "which commands were slow is up to the machine"},
	"cluster|bumpepoch": {by: inValue, why: "a node's epoch goes up with every call, those before this test included"},

	"cluster|info":   {by: inValue, why: itself},
	"cluster|myid":   {by: inValue, why: itself},
	"cluster|nodes":  {by: inValue, why: itself},
	"cluster|shards": {by: inValue, why: itself},
	"cluster|slots":  {by: inValue, why: itself},

	"pfselftest":          {by: notAsked, why: "computes for half a second and says OK"},
	"memory|malloc-stats": {by: notAsked, why: memory},
	"latency|histogram":   {by: notAsked, why: "which latencies there were is up to the machine"},
	"slowlog|get":         {by: notAsked, why: "which commands were slow is up to the machine"},
	"save":                {by: notAsked, why: saving},
	"bgsave":              {by: notAsked, why: saving},
	"bgrewriteaof":        {by: notAsked, why: saving},
	"shutdown":            {by: notAsked, why: "ends the server"},
	"cluster|flushslots":  {by: notAsked, why: "an empty node would lose its slots"},
	"cluster|reset":       {by: notAsked, why: "an empty node would lose its slots"},
	"sync":                {by: notAsked, why: replica},
	"psync":               {by: notAsked, why: replica},
	"replconf":            {by: notAsked, why: replica},
	"script|debug":        {by: notAsked, why: "makes the connection one to a debugger, which the sidecar does not offer"},
	"monitor":             {by: notAsked, why: "shows addresses, and what the sidecar does for itself: see TestMonitor"},
	"host:":               {by: notAsked, why: "ends the connection without a reply"},
	"post":                {by: notAsked, why: "ends the connection without a reply"},

	"cluster|*":    {by: notAsked, why: slots, where: meaning},
	"asking":       {by: notAsked, why: slots, where: meaning},
	"readonly":     {by: notAsked, why: slots, where: meaning},
	"readwrite":    {by: notAsked, why: slots, where: meaning},
	"replicaof":    {by: notAsked, why: slots, where: meaning},
	"slaveof":      {by: notAsked, why: slots, where: meaning},
	"failover":     {by: notAsked, why: slots, where: meaning},
	"script|flush": {by: notAsked, why: "EVAL then loads a script at the node that runs it, and EVALSHA finds it at no other", where: unlike},

	"sort":   {by: notAsked, why: "a cluster denies the options BY and GET", where: meaning},
	"select": {by: notAsked, why: databases, where: meaning},
	"move":   {by: notAsked, why: databases, where: meaning},
	"swapdb": {by: notAsked, why: databases, where: meaning},
}

const (
	hashOrder = "the order is that of a hash table, whose seed each server draws"
	clock     = "tells or counts the time, and the two are asked one after the other"
	memory    = "depends on what the allocator did before"
	saving    = "depends on whether another save still runs"
	itself    = "describes the sidecar as one node, with a name of its own"
	replica   = "makes the connection a replica's"
	slots     = "a standalone Redis has no slots and no nodes, and refuses it"
	databases = "a cluster has no databases"
)

// same compares the replies of the two servers to one command.
func (p *pair) same(args []string, want, got []byte) bool {
	if bytes.Equal(want, got) {
		return true
	}
	info := p.table.Find(bytesOf(args))
	if info == nil {
		return false
	}
	by := p.difference(info)
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

// difference is how the replies to a command may differ between the two sides.
func (p *pair) difference(info *command.Info) difference {
	var names []string
	if info.Parent != nil {
		names = append(names, info.Parent.Name+"|*")
	}
	names = append(names, info.Name)
	for _, name := range names {
		x := unequal[name]
		if x.where == everywhere || x.where == unlike && p.unlike || x.where == meaning && p.meaning {
			if x.by != none {
				return x.by
			}
		}
	}
	return none
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

// TestEveryCommandIsCovered holds that each command of the server is generated, or stands in unequal as not to be asked.
func TestEveryCommandIsCovered(t *testing.T) {
	pair := newClusterPair(t, 1)
	generated := map[string]bool{}
	for _, table := range []map[string]string{shapes, sharedShapes} {
		for _, parsed := range parseShapes(table) {
			for _, s := range parsed {
				if info := pair.table.Find(bytesOf(s.name)); info != nil {
					generated[info.Name] = true
				}
			}
		}
	}
	for _, info := range pair.table.All() {
		container := info.Parent == nil && hasSubcommands(pair.table, info)
		if !generated[info.Name] && pair.difference(info) != notAsked && !container {
			t.Errorf("no sequence has %s", info.Name)
		}
	}
	for name := range unequal {
		if unequal[name].why == "" {
			t.Errorf("%s stands in the list of what cannot be equal without a reason", name)
		}
		if pair.table.Named(strings.TrimSuffix(name, "|*")) == nil {
			t.Errorf("%s stands in the list of what cannot be equal, and there is no such command", name)
		}
	}
}

func hasSubcommands(table *command.Table, parent *command.Info) bool {
	return slices.ContainsFunc(table.All(), func(i *command.Info) bool { return i.Parent == parent })
}

// standing is what a client has said that the meaning of its later commands depends on.
type standing struct{ inside, watching, tracking, subscribed bool }

// States in which the sidecar cannot be equal to one Redis, each with the reason.
const (
	insideTransaction = "inside MULTI, what acts on the connection would act on one that ends with the transaction: it is refused"
	watchedElsewhere  = "WATCH belongs to a connection of the user, database and protocol of that time: after another one is chosen, EXEC answers null"
	trackedElsewhere  = "what CLIENT TRACKING knows belongs to connections of the user, database and protocol of that time"
	unequalInside     = "what is not equal by itself is not within EXEC's reply either"
	pushedInside      = "Redis 7.0 writes the messages of a client to itself between the elements of its EXEC's reply, and of that to a pop from a sorted set; the sidecar's clients get them before it or after"
	subscribedThere   = "the sidecar refuses to change user, protocol or database while there are subscriptions"
	nodeInside        = "inside a transaction or a script, one node answers alone what is about all of them, and PUBLISH counts its subscribers only"
)

// sortedSetPops tell of what they have done in the middle of their replies.
var sortedSetPops = []string{"zpopmin", "zpopmax", "zmpop", "bzpopmin", "bzpopmax", "bzmpop"}

var ofAllNodes = []command.Handling{command.AllShards, command.AllNodes, command.Scan, command.RandomKey}

// say notes a command. Why is the reason for which the sidecar may now differ from Redis, or empty.
func (c *standing) say(p *pair, args []string) (why string) {
	info := p.table.Find(bytesOf(args))
	if info == nil || !info.ArityOK(len(args)) {
		return ""
	}
	switches := info.Action == command.ActionHello && len(args) > 1 || info.Action == command.ActionAuth ||
		info.Action == command.ActionSelect || info.Action == command.ActionClientNoEvict ||
		info.Action == command.ActionClientTracking && !strings.EqualFold(args[2], "OFF")
	switch {
	case info.Action == command.ActionReset, info.Action == command.ActionQuit:
		*c = standing{}
		return ""
	case c.inside && (info.Handling == command.Local || info.Handling == command.Private && info.Reason != command.ReasonBlocking) &&
		info.Reason != command.ReasonTransaction:
		return insideTransaction
	case c.inside && p.difference(info) != none:
		return unequalInside
	case c.subscribed && (info.Action == command.ActionMulti || !p.unlike && slices.Contains(sortedSetPops, info.Name)):
		return pushedInside
	case c.subscribed && (info.Action == command.ActionHello && len(args) > 1 || info.Action == command.ActionSelect || info.Action == command.ActionAuth):
		return subscribedThere
	case c.watching && (switches || c.tracking && info.Action == command.ActionClientTracking):
		return watchedElsewhere
	case c.tracking && switches:
		return trackedElsewhere
	case p.unlike && (c.inside && (info.Name == "publish" || slices.Contains(ofAllNodes, info.Handling)) ||
		info.Name == "eval" && strings.Contains(args[1], "'PUBLISH'")):
		return nodeInside
	}
	switch info.Name {
	case "multi":
		c.inside = true
	case "exec", "discard":
		c.inside, c.watching = false, c.watching && !c.inside
	case "watch":
		c.watching = true
	case "unwatch":
		c.watching = c.watching && c.inside
	case "client|tracking":
		c.tracking = true
	case "subscribe", "psubscribe", "ssubscribe":
		c.subscribed = true
	}
	return ""
}

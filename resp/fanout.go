package resp

import (
	"fmt"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// fanout is a command that is carried out in parts, by several nodes or for several slots. It makes the reply of the command's
// place from theirs.
type fanout struct {
	place *place
	parts []part
	left  int // parts that were sent and are not answered

	// respond makes what can be made of the reply. It is called whenever more of a part's reply has come.
	respond func(f *fanout)
	order   []int32 // of a split command: for each key, the index of its part
	opened  int     // parts of whose reply at least the header has come
	kind    byte    // of the first of these
	uneven  bool    // the replies are not all aggregates of one kind, of as many elements as the part has keys
	next    int     // the index of the key, or of the part, whose turn it is
	cursor  cursor  // of SCAN
	many    *many   // of an intercepted command; nil else
	kept    int     // bytes of replies that were not passed on
	raw     []byte  // of a RANDOMKEY that lease keys are no answer to; nil: none is to be expected
	hides   bool    // lease keys are left out of the lists
	leads   bool    // the parts of a write are led by the voids of their mapped keys

	unused *fanout // the next one in the front's list
}

// split sends a command to the slots of its keys, side by side, unless all are of one.
func (s *session) split(info *command.Info, large bool) bool {
	first, step := info.FirstKey(), info.KeyStep
	if large && s.collect() {
		return false
	}
	if !large && s.readsThrough(info) {
		if !s.mayRelay() {
			return false
		}
		if m := s.many(info); m != nil {
			return s.readMany(info, m)
		}
	}
	if large || !s.front.splits || s.commands.Arguments() <= first || !s.front.side.Server().Cluster {
		return s.relay(info, s.slotOf(info, large), large)
	}
	args := s.args()
	at := slot.Of(args[first])
	several := false
	for i := first + step; i < len(args) && !several; i += step {
		several = slot.Of(args[i]) != at
	}
	switch {
	case !several:
		return s.relay(info, int(at), false)
	case (len(args)-first)%step != 0: // a node would mind the slots first
		return s.error(info, "ERR wrong number of arguments for '"+info.Name+"' command")
	}
	if !s.mayFanOut() {
		return false
	}
	leads, ok := s.mayWrite(s.written(info, false))
	if !ok {
		return false
	}
	f := s.fanOut(info)
	f.leads = leads
	f.respond = (*fanout).merged
	if info.Response == command.ResponseDefault {
		f.respond = (*fanout).ordered
	}
	f.divide(s.args(), first, step)
	f.send(len(s.commands.Raw))
	return true
}

// divide makes the parts of a command whose keys are args[first], args[first+step] and so on, in the order of their first keys.
func (f *fanout) divide(args [][]byte, first, step int) {
	indexes := f.place.front.partIndexes() // by slot, from 1; 0: none yet
	for i := first; i < len(args); i += step {
		at := slot.Of(args[i])
		if indexes[at] == 0 {
			f.add().Slot = int(at)
			indexes[at] = int32(len(f.parts))
		}
		f.parts[indexes[at]-1].keys++
		f.order = append(f.order, indexes[at]-1)
	}
	for i := range f.parts {
		t := &f.parts[i]
		indexes[t.Slot] = 0
		t.reply.bytes = appendHeader(t.reply.bytes, '*', first+t.keys*step)
		for _, arg := range args[:first] {
			t.reply.bytes = redcon.AppendBulk(t.reply.bytes, arg)
		}
	}
	for i, n := range f.order {
		t := &f.parts[n]
		for _, arg := range args[first+i*step:][:step] {
			t.reply.bytes = redcon.AppendBulk(t.reply.bytes, arg)
		}
	}
}

// spread sends a command to all masters, or to all nodes.
func (s *session) spread(info *command.Info, large bool) bool {
	nodes := s.front.side.Nodes()
	switch info.Handling {
	case command.AllShards:
		nodes = masters(nodes)
	case command.FixedNode:
		nodes = nodes[:min(1, len(nodes))]
	default: // all
	}
	// A node that is kept busy by a command does not read its connection: what it lets through then must not wait there. Lists may be
	// large, and wait for each other's beginning: others must not wait behind them.
	busy := info.Flags.Has(command.FlagAllowBusy)
	lists := info.Response == command.ResponseDefault
	apart := busy || lists
	hides := lists && !large && s.hidesFrom()
	switch {
	case len(nodes) == 0, len(nodes) == 1 && !busy && !hides:
		return s.relay(info, relay.AnyNode, large)
	case large && s.collect():
		return false
	case large:
		s.discardLarge(true)
		return s.error(info, string(errLarge))
	case apart && !s.quiet(), !s.mayFanOut():
		return false
	}
	f := s.fanOut(info)
	f.respond = (*fanout).merged
	if lists {
		f.respond = (*fanout).joined
		f.hides = hides
	}
	for _, node := range nodes {
		t := f.add()
		t.address(node)
		t.reply.bytes = append(t.reply.bytes, s.commands.Raw...)
		if apart {
			t.link = s.linkTo(node)
		}
	}
	if apart {
		s.paused = forQuiet // the session's later commands may not overtake this one
	}
	f.send(len(s.commands.Raw))
	return true
}

// masters are the nodes that are no replicas.
func masters(nodes []relay.Node) []relay.Node {
	for i, node := range nodes {
		if node.Slot == relay.AnyNode {
			return nodes[:i]
		}
	}
	return nodes
}

// fanOut begins a fanout at a new place. Its parts are the caller's to add, and then to send.
func (s *session) fanOut(info *command.Info) *fanout {
	front := s.front
	f := front.fanouts
	if f == nil {
		f = &fanout{}
	} else {
		front.fanouts = f.unused
		f.unused = nil
	}
	f.place = front.take(s, info)
	f.place.fanout = f
	return f
}

// add adds a part.
func (f *fanout) add() *part {
	n := len(f.parts)
	if n < cap(f.parts) {
		f.parts = f.parts[:n+1]
	} else {
		f.parts = append(f.parts, part{})
	}
	t := &f.parts[n]
	p := f.place
	*t = part{fanout: f, reply: stream{bytes: t.reply.bytes[:0]}}
	t.Owner, t.Safe = &p.session.owner, p.info.Repeatable
	return t
}

// send sends all parts of a command of size bytes.
func (f *fanout) send(size int) {
	f.place.session.send(f.place, size+len(f.parts)*partSize)
	f.left = len(f.parts)
	for i := range f.parts {
		f.parts[i].send() // the last one may complete the fanout
	}
}

// keep counts n bytes more that are kept.
func (f *fanout) keep(n int) {
	f.kept += n
	f.place.session.wait(n)
}

// proceed makes what can be made of the reply now that more of a part has come. It is false when the session wants no more from
// there for now.
func (f *fanout) proceed(t *part) (ready bool) {
	p := f.place
	if p.session != nil {
		f.respond(f)
	}
	switch {
	case f.place != p: // it is complete
		return true
	case p.session != nil && f.ahead(t):
		t.held = true
		return false
	case p.session != nil:
		return p.session.readyFor(p)
	case f.left == 0 && !f.many.asking():
		p.front.put(p)
	}
	return true
}

// drop frees what was kept for a session that has left.
func (f *fanout) drop() {
	for i := range f.parts {
		f.parts[i].reply = stream{}
	}
}

// abandoned tells whether the session has left, and then gives the place back, to which nothing more comes.
func (f *fanout) abandoned() bool {
	if f.place.session != nil {
		return false
	}
	f.place.front.put(f.place)
	return true
}

// merged answers when all parts are.
func (f *fanout) merged() {
	if f.left > 0 {
		return
	}
	p := f.place
	info := p.info
	if t := f.decisive(info.Response); t != nil {
		f.complete(t.reply.bytes, t.failed)
		return
	}
	front := p.front
	replies := front.replies[:0]
	for i := range f.parts {
		replies = append(replies, f.parts[i].reply.bytes)
	}
	front.replies = replies
	var ok bool
	front.merged, ok = merge(front.merged[:0], info.Response, replies)
	clear(replies)
	if ok {
		f.complete(front.merged, false)
	} else {
		f.disagree()
	}
	if cap(front.merged) > maxKeptReply {
		front.merged = nil
	}
}

// disagree answers where the replies of the parts do not go together.
func (f *fanout) disagree() {
	f.refuse(relay.Error(fmt.Sprintf("ERR the replies of several nodes to %s do not make one", displayName(f.place.info))))
}

// refuse answers an error of the sidecar's own.
func (f *fanout) refuse(err error) { f.complete(appendError(nil, err), true) }

// decisive returns the part whose reply is that of the whole whatever the others are: the first error, or, where one success is
// enough, the first that is none. It is nil when the replies have to be merged.
func (f *fanout) decisive(how command.Response) *part {
	one := how == command.ResponseOneSucceeded
	for i := range f.parts {
		if t := &f.parts[i]; isError(t.reply.bytes) != one {
			return t
		}
	}
	if one {
		return &f.parts[0]
	}
	return nil
}

// begin begins the reply with the header of an aggregate of n elements, or pairs of them.
func (f *fanout) begin(kind byte, n int) {
	front := f.place.front
	front.stats.replied(f.place.info, false)
	f.place.answer(appendHeader(front.scratch[:0], kind, n), false)
}

// complete ends the reply with b. failed says that it is an error of the sidecar's own.
func (f *fanout) complete(b []byte, failed bool) {
	p := f.place
	front := p.front
	switch {
	case p.begun:
	case failed:
		front.stats.failed(p.info)
	default:
		front.stats.replied(p.info, isError(b))
	}
	f.keep(-f.kept)
	f.many.free(p.session)
	f.place, p.fanout = nil, nil
	p.answer(b, true)
	front.putFanout(f)
}

// maxKeptParts is the number of parts whose memory an unused fanout may keep.
const maxKeptParts = 64

// putFanout takes back a fanout that nothing refers to any more.
func (f *front) putFanout(o *fanout) {
	if cap(o.parts) > maxKeptParts {
		o.parts, o.order = nil, nil
	}
	for i := range o.parts {
		if cap(o.parts[i].reply.bytes) > maxKeptReply {
			o.parts[i].reply.bytes = nil
		}
	}
	*o = fanout{parts: o.parts[:0], order: o.order[:0], unused: f.fanouts}
	f.fanouts = o
}

// partIndexes lends a table by slot, all zeros, which have to be there again when it is done with.
func (f *front) partIndexes() *[slot.Count]int32 {
	if f.indexes == nil {
		f.indexes = new([slot.Count]int32)
	}
	return f.indexes
}

package resp

import (
	"fmt"
	"math/rand/v2"

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
	next    int     // of parts that are answered one after the other: the index of the one whose turn it is
	cursor  cursor  // of SCAN

	unused *fanout // the next one in the front's list
}

// part is the share of one node or one slot. It is the sink of its request.
type part struct {
	relay.Request
	fanout *fanout
	link   relay.Link // that carries it; nil: the lane does
	keys   int        // of a split command
	reply  []byte     // what has come of it and was not passed on; before the part is sent, its command
	done   bool
	failed bool // the reply is an error of the sidecar's own
}

// partSize is about the memory in bytes that a part takes beside its command and reply, so that a session's commands of many parts
// count for what they are.
const partSize = 256

// split sends a command to the slots of its keys, side by side, unless all are of one.
func (s *session) split(info *command.Info, large bool) bool {
	first, step := info.FirstKey(), info.KeyStep
	if large || !s.front.splits || s.commands.Arguments() <= first || !s.front.side.Server().Cluster {
		return s.relay(info, s.slotOf(info, large), large)
	}
	args := s.args()
	at := slot.Of(args[first])
	several := false
	for i := first + step; i < len(args) && !several; i += step {
		several = slot.Of(args[i]) != at
	}
	if !several || (len(args)-first)%step != 0 {
		return s.relay(info, int(at), false) // the node refuses what is no whole number of keys
	}
	if !s.mayFanOut() {
		return false
	}
	f := s.fanOut(info)
	f.respond = (*fanout).merged
	f.divide(args, first, step)
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
		t.reply = appendHeader(t.reply, '*', first+t.keys*step)
		for _, arg := range args[:first] {
			t.reply = redcon.AppendBulk(t.reply, arg)
		}
	}
	for i, n := range f.order {
		t := &f.parts[n]
		for _, arg := range args[first+i*step:][:step] {
			t.reply = redcon.AppendBulk(t.reply, arg)
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
	// A connection whose command keeps the node busy is not read by it: what is let through then must not wait behind that command.
	busy := info.Flags.Has(command.FlagAllowBusy)
	switch {
	case len(nodes) == 0, len(nodes) == 1 && !busy:
		return s.relay(info, relay.AnyNode, large)
	case large:
		s.discardLarge(true)
		return s.error(info, string(errLarge))
	case busy && !s.quiet(), !s.mayFanOut():
		return false
	}
	f := s.fanOut(info)
	f.respond = (*fanout).merged
	if info.Response == command.ResponseDefault {
		f.respond = (*fanout).joined
	}
	for _, node := range nodes {
		t := f.add()
		t.address(node)
		t.reply = append(t.reply, s.commands.Raw...)
		if busy {
			t.link = s.lane.LinkTo(node.Addr)
		}
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

// address has a part go to a node. A master's place is taken by whoever serves its slots when it fails, a replica's by nobody.
func (t *part) address(node relay.Node) {
	t.Slot = node.Slot
	if node.Slot == relay.AnyNode {
		t.Node = node.Addr
	}
}

// randomKey asks one master after the other, from a random one on, until one has a key.
func (s *session) randomKey(info *command.Info, large bool) bool {
	nodes := masters(s.front.side.Nodes())
	if large || len(nodes) < 2 {
		return s.relay(info, relay.AnyNode, large)
	}
	if !s.mayFanOut() {
		return false
	}
	f := s.fanOut(info)
	f.respond = (*fanout).firstKey
	from := rand.IntN(len(nodes))
	for i := range nodes {
		t := f.add()
		t.address(nodes[(from+i)%len(nodes)])
		t.reply = append(t.reply, s.commands.Raw...)
	}
	s.paused = forQuiet // the later questions may not come after the session's later commands
	s.send(f.place, len(s.commands.Raw)+len(f.parts)*partSize)
	f.left = 1
	f.parts[0].send()
	return true
}

// firstKey answers with a key, or asks the next master.
func (f *fanout) firstKey() {
	t := &f.parts[f.next]
	switch {
	case !t.done:
	case !isNull(t.reply) || f.next == len(f.parts)-1:
		f.complete(t.reply, t.failed)
	default:
		f.next++
		f.left = 1
		f.place.front.loop.Post(func() { // a sink may not send
			if !f.abandoned() {
				f.parts[f.next].send()
			}
		})
	}
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
	*t = part{fanout: f, reply: t.reply[:0]}
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

func (t *part) send() {
	t.Sink = t
	raw := t.reply
	t.reply = raw[:0]
	if t.link != nil {
		t.link.Send(&t.Request, raw)
		return
	}
	t.fanout.place.session.lane.Send(&t.Request, raw)
}

// Reply implements relay.Sink.
func (t *part) Reply(_ *relay.Request, b []byte, last bool) (ready bool) {
	f := t.fanout
	if s := f.place.session; s != nil {
		t.reply = append(t.reply, b...)
		s.wait(len(b))
	}
	if last {
		t.end()
	}
	return f.proceed()
}

// Fail implements relay.Sink.
func (t *part) Fail(_ *relay.Request, err error) {
	f := t.fanout
	if s := f.place.session; s != nil && f.place.begun {
		s.kill("connection to Redis was lost in the middle of a reply")
	} else if s != nil {
		s.wait(-len(t.reply))
		t.reply = appendError(t.reply[:0], err)
		t.failed = true
		s.wait(len(t.reply))
	}
	t.end()
	f.proceed()
}

// end notes that a part is answered.
func (t *part) end() {
	t.done = true
	t.fanout.left--
	if t.link != nil {
		t.link.Release(true)
	}
}

// proceed makes what can be made of the reply. It is false when the session wants no more of it for now.
func (f *fanout) proceed() (ready bool) {
	if f.left == 0 && f.abandoned() || f.place.session == nil {
		return true
	}
	p := f.place
	f.respond(f)
	return f.place != p || p.session.readyFor(p)
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
		f.complete(t.reply, t.failed)
		return
	}
	front := p.front
	replies := front.replies[:0]
	for i := range f.parts {
		replies = append(replies, f.parts[i].reply)
	}
	front.replies = replies
	var ok bool
	if len(f.order) > 0 && info.Response == command.ResponseDefault {
		front.merged, ok = inOrder(front.merged[:0], f.order, replies)
	} else {
		front.merged, ok = merge(front.merged[:0], info.Response, replies)
	}
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
		if t := &f.parts[i]; isError(t.reply) != one {
			return t
		}
	}
	if one {
		return &f.parts[0]
	}
	return nil
}

// joined passes on the elements of one part after the other, once it is sure that all are of one kind and none is an error. What
// comes first goes to the client while the rest is still coming, since lists of all keys may be large.
func (f *fanout) joined() {
	p := f.place
	if !p.begun {
		var kind byte
		total := 0
		for i := range f.parts {
			t := &f.parts[i]
			of, n, size := header(t.reply)
			switch {
			case size == 0 && !t.done:
				return
			case n < 0, i > 0 && of != kind:
				f.merged()
				return
			}
			kind = of
			total += n
		}
		f.begin(kind, total)
		for i := range f.parts {
			_, _, size := header(f.parts[i].reply)
			f.parts[i].passed(size)
		}
	}
	for ; f.next < len(f.parts); f.next++ {
		t := &f.parts[f.next]
		p.answer(t.reply, false)
		t.passed(len(t.reply))
		if !t.done {
			return
		}
	}
	f.complete(nil, false)
}

// passed gives up the first n bytes of what is kept of a reply.
func (t *part) passed(n int) {
	t.reply = t.reply[:copy(t.reply, t.reply[n:])]
	t.fanout.place.session.wait(-n)
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
	front, s := p.front, p.session
	switch {
	case p.begun:
	case failed:
		front.stats.failed(p.info)
	default:
		front.stats.replied(p.info, isError(b))
	}
	for i := range f.parts {
		s.wait(-len(f.parts[i].reply))
	}
	f.place = nil
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
		if cap(o.parts[i].reply) > maxKeptReply {
			o.parts[i].reply = nil
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

package resp

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
)

// SCAN over several masters goes through one after the other, in passes. All of its state is in the cursor that the client gets.
//
// Redis promises of one server that a full scan returns each key that is there from its beginning to its end. So a pass misses a key
// that exists throughout only if the key changed its node during the pass: it was not yet on the node that was scanned
// first, and not any more on the other. Then its slot was moving at some time of the pass, and so at the end of the pass
// either the slot is still moving, or it has another owner than at the beginning. The first the masters themselves say (Settled). The
// second shows in the generation, if the sidecar has learnt of it, or else in the masters' words being other than what the sidecar
// knows (Settled again). Failovers show in the same way: the cursor of a node means nothing to its replica.
//
// In both cases, and when it is not known, a second pass follows. A key that changed its node in the first pass is found in the second
// unless it changes it again. So each key is returned at least once that exists throughout and whose slot does not move twice between
// the beginning and the end, or in the seconds before, for which the sidecar's knowledge may be old. There is no third pass: a
// slot that was left in the middle of a move would make the scan endless.
//
// Masters are told apart by tags that stay the same when others come and go, in whose order they are scanned. If one is gone, the scan
// goes on with the next; one that comes has keys only that have changed their node.

// cursor is the state of a scan between two commands.
type cursor struct {
	node       uint64 // the node's own cursor
	tag        uint64 // of the node
	generation uint64 // of the topology, its lowest bits, when the last page came
	pass       pass
}

// pass is what a scan is at.
type pass uint8

const (
	firstPass  pass = iota
	missedPass      // the first one, during which slots have moved
	secondPass
)

// The bits of a cursor, from the lowest. The node's own cursor stands highest, so that the whole is small as long as that one is: it
// is below 2^53, which some clients read it by, while nodes have less than 2^35 places for keys.
const (
	passBits       = 2
	generationBits = 4
	tagBits        = 12
	nodeBits       = 63 - passBits - generationBits - tagBits
)

// number is the cursor as clients see it.
func (c cursor) number() uint64 {
	return ((c.node<<tagBits|c.tag)<<generationBits|c.generation)<<passBits | uint64(c.pass)
}

// parseCursor reads what a client sends. It is false for what no SCAN has answered.
func parseCursor(b []byte) (cursor, bool) {
	n, err := strconv.ParseUint(string(b), 10, 63)
	c := cursor{
		pass:       pass(n & (1<<passBits - 1)),
		generation: n >> passBits & (1<<generationBits - 1),
		tag:        n >> (passBits + generationBits) & (1<<tagBits - 1),
		node:       n >> (passBits + generationBits + tagBits),
	}
	return c, err == nil && c.pass <= secondPass
}

// tagged is a master with its tag.
type tagged struct {
	relay.Node
	tag uint64
}

// tags gives each of the masters, of which there are at most 1<<tagBits, a tag of its own, and puts them in the order of these. A
// tag is made of the node's address. Where that gives several the same, or no room above, they move a little.
func tags(masters []relay.Node) []tagged {
	all := make([]tagged, len(masters))
	for i, n := range masters {
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(n.Addr))
		all[i] = tagged{n, uint64(hash.Sum32() >> (32 - tagBits))}
	}
	slices.SortFunc(all, func(a, b tagged) int { return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.Addr, b.Addr)) })
	for i := 1; i < len(all); i++ {
		all[i].tag = max(all[i].tag, all[i-1].tag+1)
	}
	for i, top := len(all)-1, uint64(1<<tagBits-1); i >= 0 && all[i].tag > top; i, top = i-1, top-1 {
		all[i].tag = top
	}
	return all
}

// from returns the first master at or behind a tag; false: there is none.
func from(masters []tagged, tag uint64) (tagged, bool) {
	for _, m := range masters {
		if m.tag >= tag {
			return m, true
		}
	}
	return tagged{}, false
}

// generation is the part of the topology's generation that a cursor holds.
func (f *front) generation() uint64 { return f.side.Generation() & (1<<generationBits - 1) }

// masters are the masters to scan, in their order.
func (f *front) masters() []tagged { return tags(masters(f.side.Nodes())) }

// scan sends a SCAN to the master whose turn it is.
func (s *session) scan(info *command.Info, large bool) bool {
	front := s.front
	masters := front.masters()
	switch {
	case !front.side.Server().Cluster && s.mapsApply() && !large:
		return s.scanOne(info)
	case !front.side.Server().Cluster, len(masters) == 0:
		return s.relay(info, relay.AnyNode, large)
	case large:
		s.discardLarge(true)
		return s.error(info, string(errLarge))
	case len(masters) > 1<<tagBits:
		return s.error(info, fmt.Sprintf("ERR SCAN over more than %d masters is not supported", 1<<tagBits))
	}
	args := s.args()
	c, ok := parseCursor(args[1])
	if !ok {
		return s.error(info, "ERR invalid cursor")
	}
	if !s.mayFanOut() {
		return false
	}
	if c == (cursor{}) {
		c.generation = front.generation()
	}
	node, ok := from(masters, c.tag)
	if !ok { // it was the last one, and is gone
		node, _ = from(masters, 0)
	}
	if node.tag != c.tag {
		c.node, c.tag = 0, node.tag
	}
	f := s.fanOut(info)
	f.respond = (*fanout).scanned
	f.cursor = c
	t := f.add()
	t.address(node.Node)
	t.reply.bytes = appendHeader(t.reply.bytes, '*', len(args))
	for i, arg := range args {
		if i == 1 {
			arg = strconv.AppendUint(front.scratch[:0], c.node, 10)
		}
		t.reply.bytes = redcon.AppendBulk(t.reply.bytes, arg)
	}
	f.send(len(s.commands.Raw))
	return true
}

// scanned answers with a page of keys and the cursor of the next one.
func (f *fanout) scanned() {
	t := &f.parts[0]
	if !t.done {
		return
	}
	if isError(t.reply.bytes) {
		f.complete(t.reply.bytes, t.failed)
		return
	}
	page := frame.Elements(t.reply.bytes)
	if len(page) != 2 {
		f.disagree()
		return
	}
	next, err := strconv.ParseUint(string(frame.Text(page[0])), 10, 64)
	if err != nil || next >= 1<<nodeBits {
		f.refuse(relay.Error(fmt.Sprintf("ERR a node's own cursor %.40q leaves no room in a cursor over several nodes", frame.Text(page[0]))))
		return
	}
	front := f.place.front
	c := &f.cursor
	c.node = next
	c.follow(front.generation())
	if next > 0 {
		f.answerPage(page[1])
		return
	}
	if node, more := from(front.masters(), c.tag+1); more {
		c.tag = node.tag
		f.answerPage(page[1])
		return
	}
	f.endPass(page[1])
}

// follow notes the topology's generation, which after the first pass matters no more.
func (c *cursor) follow(generation uint64) {
	switch {
	case c.pass == secondPass:
		c.generation = 0
	case c.generation != generation:
		c.generation, c.pass = generation, missedPass
	}
}

// endPass answers with the last page of a pass, when it is known whether another pass has to follow.
func (f *fanout) endPass(keys []byte) {
	again := func() {
		masters := f.place.front.masters()
		f.cursor = cursor{pass: secondPass}
		if len(masters) > 0 {
			f.cursor.tag = masters[0].tag
		}
		f.answerPage(keys)
	}
	switch f.cursor.pass {
	case secondPass:
		f.cursor = cursor{}
		f.answerPage(keys)
	case missedPass:
		again()
	default:
		f.place.front.side.Settled(func(settled bool) {
			if f.abandoned() {
				return
			}
			if f.cursor.follow(f.place.front.generation()); settled && f.cursor.pass == firstPass {
				f.cursor = cursor{}
				f.answerPage(keys)
				return
			}
			again()
		})
	}
}

// answerPage answers with the cursor and a page of keys.
func (f *fanout) answerPage(keys []byte) {
	number := strconv.AppendUint(nil, f.cursor.number(), 10)
	f.begin('*', 2)
	f.place.answer(redcon.AppendBulk(nil, number), false)
	if f.place.session.mapsApply() {
		keys = visible(keys)
	}
	f.complete(keys, false)
}

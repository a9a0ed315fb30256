package resp

import (
	"bytes"
	"math/bits"
	"slices"
	"strconv"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

var pingText = []byte("*1\r\n$4\r\nPING\r\n")

// waiting is WAIT or WAITAOF: asked of each master that serves what the session wrote, over links, so that nobody else waits. A
// connection waits for what had been written when its last command ran, so a PING goes before. The answer is the least of theirs.
type waiting struct {
	s     *session
	place *place
	links []relay.Link
	left  int
	least []int64 // of WAITAOF two, of WAIT one
	array bool
	err   []byte // a node's
	lost  error  // why a node has not answered
}

// written are the slots that a session has written to, each as the bit behind its number, since AnyNode is -1. Slots say more than
// nodes: whoever serves one when WAIT comes, has what was written.
type written [slot.Count/64 + 1]uint64

// noteWrite remembers a write to a slot, or to AnyNode, for WAIT.
func (s *session) noteWrite(at int) {
	if s.wrote == nil {
		s.wrote = new(written)
	}
	s.wrote[(at+1)/64] |= 1 << ((at + 1) % 64)
}

// writtenTo returns of each node that serves what the session has written one slot; of any node, where that is nothing.
func (s *session) writtenTo() (slots []int) {
	if s.wrote == nil {
		return []int{relay.AnyNode}
	}
	var nodes []string
	for i, word := range s.wrote {
		for ; word != 0; word &= word - 1 {
			at := i*64 + bits.TrailingZeros64(word) - 1
			if node := s.lane.Node(at); !slices.Contains(nodes, node) {
				nodes = append(nodes, node)
				slots = append(slots, at)
			}
		}
	}
	return slots
}

// waitReplicas handles WAIT and WAITAOF. Those behind it wait for its reply.
func (s *session) waitReplicas(info *command.Info) bool {
	if !s.quiet() {
		return false
	}
	slots := s.writtenTo()
	w := &waiting{s: s, place: s.front.take(s, info), left: len(slots)}
	s.awaited = w
	s.send(w.place, 0)
	s.paused = forQuiet
	raw := bytes.Clone(s.commands.Raw)
	for _, at := range slots {
		w.links = append(w.links, s.lane.Link(at))
	}
	for _, link := range slices.Clone(w.links) {
		link.Send(&relay.Request{Sink: silence{}, Owner: &s.owner}, pingText)
		link.Send(&relay.Request{Sink: w, Owner: &s.owner, Waits: true}, raw)
	}
	return true
}

// Reply implements relay.Sink, with one node's reply, which is short.
func (w *waiting) Reply(_ *relay.Request, b []byte, _ bool) bool {
	switch elements := frame.Elements(b); {
	case b[0] == '-':
		w.err = bytes.Clone(b)
	case elements != nil:
		w.array = true
		w.merge(elements)
	default:
		w.merge([][]byte{b})
	}
	w.answered()
	return true
}

// Fail implements relay.Sink.
func (w *waiting) Fail(_ *relay.Request, err error) {
	w.lost = err
	w.answered()
}

func (w *waiting) merge(numbers [][]byte) {
	for i, b := range numbers {
		n, _ := strconv.ParseInt(string(bytes.Trim(b, ":\r\n")), 10, 64)
		if i == len(w.least) {
			w.least = append(w.least, n)
		}
		w.least[i] = min(w.least[i], n)
	}
}

func (w *waiting) answered() {
	if w.left--; w.left > 0 || w.s.awaited != w {
		return
	}
	var b []byte
	switch {
	case w.err != nil:
		b = w.err
	case w.array:
		b = redcon.AppendArray(nil, len(w.least))
		fallthrough
	default:
		for _, n := range w.least {
			b = redcon.AppendInt(b, n)
		}
	}
	w.over(true)
	if w.lost != nil {
		w.place.fail(w.lost)
		return
	}
	w.place.front.stats.replied(w.place.info, b[0] == '-')
	w.place.answer(b, true)
}

// over gives up the links.
func (w *waiting) over(clean bool) {
	w.s.awaited = nil
	for _, link := range w.links {
		link.Release(clean)
	}
}

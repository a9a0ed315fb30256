package resp

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
)

var pingText = []byte("*1\r\n$4\r\nPING\r\n")

// waiting is WAIT or WAITAOF: asked of each master that the session wrote to, over links, so that nobody else waits. A connection waits
// for what had been written when its last command ran, so a PING goes before. The answer is the least of theirs.
type waiting struct {
	s     *session
	place *place
	links []relay.Link
	left  int
	least []int64 // of WAITAOF two, of WAIT one
	array bool
	err   []byte
}

// noteWrite remembers which masters the session has written to.
func (s *session) noteWrite(at int) {
	node := s.lane.Node(at)
	if !slices.Contains(s.wrote, node) {
		s.wrote = append(s.wrote, node)
	}
}

// wait handles WAIT and WAITAOF. Those behind it wait for its reply.
func (s *session) waitReplicas(info *command.Info) bool {
	if !s.quiet() {
		return false
	}
	nodes := s.wrote
	if len(nodes) == 0 {
		nodes = []string{s.lane.Node(relay.AnyNode)}
	}
	w := &waiting{s: s, place: s.front.take(s, info), left: len(nodes)}
	s.awaited = w
	s.send(w.place, 0)
	s.paused = forQuiet
	raw := bytes.Clone(s.commands.Raw)
	for _, node := range nodes {
		link := s.lane.LinkTo(node)
		w.links = append(w.links, link)
	}
	for _, link := range slices.Clone(w.links) {
		link.Send(&relay.Request{Sink: silence{}, Owner: &s.owner}, pingText)
		link.Send(&relay.Request{Sink: w, Owner: &s.owner}, raw)
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
	w.err = redcon.AppendError(nil, err.Error())
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

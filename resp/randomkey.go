package resp

import (
	"bytes"
	"math/rand/v2"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// randomKey asks one master after the other, from a random one on, until one has a key.
func (s *session) randomKey(info *command.Info, large bool) bool {
	nodes := masters(s.front.side.Nodes())
	hides := s.mapsApply()
	if large || len(nodes) == 0 || len(nodes) == 1 && !hides {
		return s.relay(info, relay.AnyNode, large)
	}
	if !s.mayFanOut() {
		return false
	}
	f := s.fanOut(info)
	f.respond = (*fanout).firstKey
	from := rand.IntN(len(nodes))
	if hides {
		f.raw = bytes.Clone(s.commands.Raw)
	}
	for i := range nodes {
		t := f.add()
		t.address(nodes[(from+i)%len(nodes)])
		t.reply.bytes = append(t.reply.bytes, s.commands.Raw...)
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
	if !t.done {
		return
	}
	lease := f.raw != nil && isLease(t.reply.bytes)
	if lease && len(f.parts) < maxAsked {
		f.askAgain(t)
	}
	switch more := f.next < len(f.parts)-1; {
	case more && (lease || isNull(t.reply.bytes)):
		f.next++
		f.left = 1
		f.place.front.loop.Post(func() { // a sink may not send
			if !f.abandoned() {
				f.parts[f.next].send()
			}
		})
	case lease:
		f.complete(f.place.session.null(), false)
	default:
		f.complete(t.reply.bytes, t.failed)
	}
}

// maxAsked is how often masters are asked for a random key before there seem to be none but lease keys, which are never more than the
// others for long.
const maxAsked = 64

// askAgain has the node of a part asked again for a random key, after the others.
func (f *fanout) askAgain(t *part) {
	slot, node := t.Slot, t.Node
	again := f.add()
	again.Slot, again.Node = slot, node
	again.reply.bytes = append(again.reply.bytes, f.raw...)
}

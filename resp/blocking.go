package resp

import (
	"bytes"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// blocked is a command that may wait: it has a link to itself, so that nobody waits with it. When the client leaves, the link is
// closed, and Redis gives what comes later to somebody else.
type blocked struct {
	s     *session
	place *place
	raw   []byte
	slot  int
	link  relay.Link
	id    int64 // of the link in Redis; 0 while it is unknown
	chase chase
}

// block sends a blocking command. Those behind it wait for its reply.
func (s *session) block(info *command.Info) bool {
	if !s.quiet() {
		return false
	}
	if !s.voidApart(s.written(info)) {
		return false
	}
	b := &blocked{s: s, raw: bytes.Clone(s.commands.Raw), slot: s.slotOf(info, false)}
	s.blocked = b
	s.keep(len(b.raw))
	b.place = s.front.take(s, info)
	b.place.inspect = b.reply
	b.place.Waits = true
	s.send(b.place, 0)
	s.paused = forQuiet
	if info.Write {
		s.noteWrite(b.slot)
	}
	b.sendTo(s.lane.Link(b.slot), false)
	return true
}

// demoted begins what a node says to its blocked clients when it becomes a replica. It then closes their connections.
var demoted = []byte("-UNBLOCKED force unblock ")

var askingText = []byte("*1\r\n$6\r\nASKING\r\n")

func (b *blocked) sendTo(link relay.Link, asking bool) {
	b.link, b.id = link, 0
	link.OnLost(func(error) { // the command has failed with it
		if b.link == link {
			b.over(false)
		}
	})
	b.learnID()
	if asking {
		link.Send(&relay.Request{Sink: silence{}, Owner: &b.s.owner}, askingText)
	}
	link.Send(&b.place.Request, b.raw)
}

// reply passes the reply on, unless it is a redirect: the slot may move while its clients are blocked.
func (b *blocked) reply(part []byte, first, last bool) (kept bool) {
	s := b.s
	if first && part[0] == '-' {
		addr, ask, is := s.lane.Redirected(part, b.link.Addr())
		if (is || bytes.HasPrefix(part, demoted)) && b.again(addr, ask) {
			return true
		}
	}
	if last {
		b.over(true)
	}
	return false
}

// again sends the command where a redirect says, unless that has gone on for too long.
func (b *blocked) again(addr string, ask bool) bool {
	s := b.s
	wait, ok := b.chase.next(s.front.loop.Now(), addr != "")
	if !ok {
		return false
	}
	b.link.Release(addr != "")
	b.link = nil
	s.later(wait, func() {
		switch {
		case s.blocked != b:
		case addr != "":
			b.sendTo(s.lane.LinkTo(addr), ask)
		default:
			b.sendTo(s.lane.Link(b.slot), false)
		}
	})
	return true
}

// over gives up the link. clean says that its command was answered.
func (b *blocked) over(clean bool) {
	b.s.blocked = nil
	b.s.keep(-len(b.raw))
	if link := b.link; link != nil {
		b.link = nil
		link.Release(clean)
	}
}

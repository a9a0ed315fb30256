package resp

import (
	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// A command over frame.LargeCommand is not collected. It is streamed to its node over a link, a connection for it
// alone, so that it neither blocks others nor fills the memory; and since its bytes are not kept, it is not sent again.

// beginLarge opens a link for the command whose first part was framed, once all replies before it have come.
func (s *session) beginLarge(info *command.Info, at int) bool {
	if !s.quiet() {
		return false
	}
	if !s.voidApart(s.written(info)) {
		return false
	}
	p := s.front.take(s, info)
	p.Slot = at
	s.send(p, 0)
	if info != nil && info.Write {
		s.noteWrite(at)
	}
	link := s.lane.Link(at)
	p.inspect = func(b []byte, first, _ bool) bool {
		if first && b[0] == '-' {
			if _, _, is := s.lane.Redirected(b, link.Addr()); is {
				p.fail(errMovedLarge)
				return true
			}
		}
		return false
	}
	s.large = link
	s.large.Begin(&p.Request, s.commands.Raw)
	return true
}

// moreLarge passes on the next bytes of a large command. Behind the last ones the session waits for the reply.
func (s *session) moreLarge(b []byte, last bool) {
	if s.large == nil {
		return // discarded
	}
	s.large.More(b, last)
	switch {
	case last:
		if s.outstanding > 0 {
			s.paused = forQuiet
		} else {
			s.endLarge()
		}
	case s.large.Buffered() > s.front.allowed.backlog:
		s.paused = forLink
		s.large.NotifyBelow(s.front.allowed.backlog/4, func() {
			if s.paused == forLink {
				s.paused = going
				s.conn.Resume()
			}
		})
	}
}

// discardLarge has the rest of a large command, if it is one, read and thrown away.
func (s *session) discardLarge(large bool) {
	if large {
		s.large = nil
	}
}

// endLarge gives the link back when its command is whole and answered.
func (s *session) endLarge() {
	if s.large != nil && !s.commands.Streaming() {
		s.large.Release(true)
		s.large = nil
	}
}

// abandonLarge closes the link of a command that will never be whole, or that nobody waits for. Its place stays open: the
// session ends.
func (s *session) abandonLarge() {
	if s.large != nil {
		s.large.Release(false)
		s.large = nil
	}
}

// errMovedLarge is the answer to a large command that reached a node which does not own its slot (any more): its bytes are gone.
const errMovedLarge = relay.Error("TRYAGAIN the slot is moving, and a command this large is not kept for sending it again: repeat it")

// breakLarge ends a large command that turns out to be none. It has no reply of its own.
func (s *session) breakLarge() {
	if s.outstanding > 0 {
		s.last.muted = true
	}
	s.abandonLarge()
}

// maxCollected is the size in bytes up to which a large command is collected all the same, when it can be handled only as a whole.
const maxCollected = 4 << 20

// collect has a large command seen again when it is whole. It is false when it is larger than that.
func (s *session) collect() bool {
	if s.commands.Limit == maxCollected {
		return false
	}
	s.commands.Limit = maxCollected
	return true
}

// errHiddenKeys is the answer to a write of which the sidecar has to know all keys, and cannot.
const errHiddenKeys = relay.Error("ERR this command is larger than 4 MiB, and has keys in or behind a large argument: put keys first, or send several commands")

// errLarge is the answer to a large command of a kind that has no use for so much.
const errLarge = relay.Error("ERR this command is larger than it can be")

package resp

import "readthrough/internal/relay"

// pushes are what Redis sent by itself, and wait until a reply has been written.
type pushes struct {
	behind *place
	b      []byte
}

// push passes on what Redis sends by itself: messages, invalidations, a monitor's lines. It stands between whole replies, and does not
// overtake those that came before it and wait for others: who is told first that a key has changed and then what it was would keep
// that. It is false when more is buffered for the client than the session likes.
func (s *session) push(b []byte) (ready bool) {
	if s.gone {
		return true
	}
	switch head := s.first; {
	case head == nil || s.buffered == 0 && !head.begun:
		s.conn.Write(b)
	case len(s.pushes) > 0 && s.pushes[len(s.pushes)-1].behind == s.last:
		latest := &s.pushes[len(s.pushes)-1]
		latest.b = append(latest.b, b...)
		s.wait(len(b))
	default:
		s.pushes = append(s.pushes, pushes{s.last, append([]byte(nil), b...)})
		s.wait(len(b))
	}
	ready = s.ready()
	s.heldPush = s.heldPush || !ready
	return ready
}

// flushPushes writes the pushes that have waited for the reply at a place.
func (s *session) flushPushes(p *place) {
	if len(s.pushes) > 0 && s.pushes[0].behind == p {
		s.conn.Write(s.pushes[0].b)
		s.wait(-len(s.pushes[0].b))
		s.pushes = s.pushes[1:]
	}
}

// feed is a link that brings pushes. What comes in parts is put together, since something else could come between them: Redis does not
// keep more for a subscriber than fits here (client-output-buffer-limit).
type feed struct {
	relay.Link
	s     *session
	parts []byte
}

// feed has f called with each push of a link.
func (s *session) feed(link relay.Link, f func(push []byte) (ready bool)) relay.Link {
	d := &feed{Link: link, s: s}
	link.OnOther(&s.owner, func(part []byte, last bool) bool {
		if last && len(d.parts) == 0 {
			return f(part)
		}
		d.parts = append(d.parts, part...)
		s.wait(len(part))
		if !last {
			return true
		}
		push := d.parts
		d.forget()
		ready := f(push)
		if ready {
			s.owner.Resume() // others may have waited for room
		}
		return ready
	})
	return d
}

func (d *feed) forget() {
	d.s.wait(-len(d.parts))
	d.parts = nil
}

// Release implements relay.Link.
func (d *feed) Release(clean bool) {
	d.forget()
	d.Link.Release(clean)
}

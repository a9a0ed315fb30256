package resp

// push passes on what Redis sends by itself: messages, invalidations, a monitor's lines. It stands between whole replies. It is
// false when more is buffered for the client than the session likes.
func (s *session) push(b []byte) (ready bool) {
	if s.gone {
		return true
	}
	if head := s.first; len(s.pushes) > 0 || head != nil && head.begun && !head.done {
		s.pushes = append(s.pushes, b...)
		s.wait(len(b))
	} else {
		s.conn.Write(b)
	}
	return s.ready()
}

// flushPushes writes the pushes that have waited for the end of a reply.
func (s *session) flushPushes() {
	if len(s.pushes) > 0 {
		s.conn.Write(s.pushes)
		s.wait(-len(s.pushes))
		s.pushes = nil
	}
}

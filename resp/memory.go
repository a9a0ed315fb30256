package resp

import (
	"unsafe"

	"readthrough/internal/frame"
)

// maxHeld bounds the bytes that the connections of all loops hold: unfinished commands, commands on their way, and replies that
// clients have not read. Bounds of one client alone are none, for there may be thousands.
const maxHeld = 32 << 20

// allowance is how much one session may hold before it has to wait, or to go another way.
type allowance struct {
	// command is how many bytes of an unfinished command are collected. Larger ones are streamed.
	command int
	// backlog is how many bytes of a large command may wait for its link before the client is not read, until they have fallen to
	// a quarter.
	backlog int
	// places and inFlight are how many commands of one session may be on their way, and how many bytes. Past them the client is not
	// read until half of it is answered. So much is kept of a transaction, too.
	places   int
	inFlight int
	// replies are the bytes buffered for one client from which neither it nor the connections that bring it replies are read,
	// until it has taken them down to a sixteenth.
	replies int
}

var (
	ample = allowance{command: frame.LargeCommand, backlog: 1 << 20, places: 1 << 10, inFlight: 4 << 20, replies: 4 << 20}
	// tight is for when half of the memory is in use.
	tight = allowance{command: 64 << 10, backlog: 64 << 10, places: 256, inFlight: 64 << 10, replies: 256 << 10}
)

// worthClosing is the least number of bytes for which a session is closed.
const worthClosing = 16 << 10

// held is the number of bytes that the loop's connections hold.
func (f *front) held() int {
	return f.loop.Stats().Buffered + f.waiting + f.places*int(unsafe.Sizeof(place{}))
}

// held is the number of bytes that closing the session sets free.
func (s *session) held() int {
	n := s.conn.Unread() + s.conn.Held() + s.buffered + s.kept + s.places*int(unsafe.Sizeof(place{}))
	if s.large != nil {
		n += s.large.Buffered()
	}
	if b := s.blocked; b != nil && b.link != nil {
		n += b.link.Buffered()
	}
	if t := s.transaction; t != nil && t.link != nil && s.large == nil {
		n += t.link.Buffered()
	}
	return n
}

// keep counts n bytes more of commands that are kept for being said again.
func (s *session) keep(n int) {
	s.kept += n
	s.front.waiting += n
}

// relieve is called every turn. It has the sessions get by with less when much is held, and closes the largest when too much is.
func (f *front) relieve() {
	held := f.held()
	f.allowed = &ample
	if held > f.limit/2 {
		f.allowed = &tight
	}
	for held > f.limit {
		var largest *session
		most := worthClosing
		for s := range f.sessions {
			if n := s.held(); n >= most {
				largest, most = s, n
			}
		}
		if largest == nil {
			return
		}
		held -= most
		largest.kill("memory ran out, and no other client held more of it")
	}
}

package resp

import (
	"errors"
	"strings"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// place is a command's place in the order of a session's replies. It is the sink of the command's request, and keeps what has
// come of the reply while those before it are not complete.
type place struct {
	relay.Request
	front   *front
	session *session      // nil once the session is gone
	info    *command.Info // nil for a command that nobody knows
	next    *place        // behind it in the session, or in the front's list of unused ones

	fanout    *fanout // that makes the reply; nil: one request does
	waiting   []byte  // of the reply, until it is this one's turn
	begun     bool    // a part of the reply has come
	done      bool
	held      bool // the session has refused a part of the reply for now
	relayed   bool // counted in session.outstanding, and size in session.inFlight
	muted     bool // nobody is told: CLIENT REPLY
	intercept bool // a null reply is a miss
	// loaded is what was, where the command is sent again for Redis's word on it.
	loaded  *Answer
	caching bool // CLIENT CACHING went before it
	// unresolved says that it is counted in session.unresolved.
	unresolved bool
	// inspect sees each part of the reply before the client, and keeps it from it where it says so. Nil: nobody does.
	inspect func(b []byte, first, last bool) (kept bool)
	size    int // bytes of the command
}

// Reply implements relay.Sink.
func (p *place) Reply(r *relay.Request, b []byte, last bool) (ready bool) {
	s := p.session
	if s == nil {
		if last {
			p.front.put(p)
		}
		return true
	}
	if p.inspect != nil && p.inspect(b, !p.begun, last) {
		return true
	}
	if p.intercept && !p.begun && s.missed(p, r.Raw, b) {
		return true
	}
	if r.Refused != nil && !p.begun && p.session != nil && p.unvoided(r.Refused, b, last) {
		return true
	}
	if p.session == nil { // it has ended meanwhile
		if last {
			p.front.put(p)
		}
		return true
	}
	if !p.begun {
		p.front.stats.replied(p.info, b[0] == '-')
	}
	return p.answer(b, last)
}

// Fail implements relay.Sink.
func (p *place) Fail(r *relay.Request, err error) {
	switch {
	case p.session == nil:
		p.front.put(p)
	case p.begun:
		p.session.kill("connection to Redis was lost in the middle of a reply")
		p.front.put(p)
	case p.loaded != nil && p.failsOpen(err.Error()):
		p.load(nil)
	case p.intercept && p.failsOpen(err.Error()):
		p.session.failOpen(p, r.Raw, err)
	default:
		p.fail(err)
	}
}

// answer gives the next bytes of the reply, and all of it when they are the last. It is false when more is buffered for the
// client than the session likes.
func (p *place) answer(b []byte, last bool) (ready bool) {
	s := p.session
	p.begun = true
	switch {
	case p.muted:
	case s.first == p:
		s.conn.Write(b)
	default:
		p.waiting = append(p.waiting, b...)
		s.wait(len(b))
	}
	ready = s.readyFor(p)
	if last {
		p.complete() // may take the place back
	}
	return ready || s.gone
}

// fail answers an error of the sidecar's own.
func (p *place) fail(err error) {
	p.front.stats.failed(p.info)
	p.answer(appendError(p.front.scratch[:0], err), true)
}

// appendError appends an error of the sidecar's own as a reply.
func appendError(b []byte, err error) []byte {
	text, ok := errors.AsType[relay.Error](err)
	if !ok {
		text = relay.Error("ERR " + err.Error())
	}
	return redcon.AppendError(b, string(text))
}

// complete ends the reply. Those behind it that have waited for it leave with it.
func (p *place) complete() {
	s := p.session
	p.done = true
	if p.relayed {
		s.outstanding--
		s.inFlight -= p.size
		if p.writes() {
			s.writing--
		}
	}
	s.answered(p)
	if s.first == p {
		s.advance()
	}
	s.settled()
}

const (
	// maxUnused is the number of places that a front keeps for use, and maxKeptReply the size in bytes of the buffer that each of
	// them may keep.
	maxUnused    = 4 << 10
	maxKeptReply = 1 << 10
)

// take returns a place at the end of the session's queue.
func (f *front) take(s *session, info *command.Info) *place {
	p := f.unused
	if p == nil {
		p = &place{front: f}
		p.Sink = p
	} else {
		f.unused = p.next
		f.unusedCount--
		p.next = nil
	}
	p.session, p.info, p.Owner = s, info, &s.owner
	p.muted, s.skips = s.silenced || s.skips, false
	p.caching = s.tracking != nil && (info == nil || !strings.HasPrefix(info.Name, "client|")) && s.takeCaching()
	if s.last == nil {
		s.first = p
	} else {
		s.last.next = p
	}
	s.last = p
	s.places++
	f.places++
	return p
}

// put takes back a place that nothing refers to any more.
func (f *front) put(p *place) {
	if f.unusedCount == maxUnused {
		return
	}
	f.unusedCount++
	kept := p.waiting[:0]
	if cap(kept) > maxKeptReply {
		kept = nil
	}
	*p = place{front: f, waiting: kept, next: f.unused}
	p.Sink = p
	f.unused = p
}

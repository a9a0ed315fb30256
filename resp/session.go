package resp

import (
	"time"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/loop"
	"readthrough/internal/relay"
)

// lingering is how long a client may take to read its last replies.
const lingering = 5 * time.Second

// pause is why a session does not go on to its next command.
type pause uint8

const (
	going    pause = iota
	forRoom        // too much is on its way
	forQuiet       // until every reply that is outstanding has come
	forWork        // until a goroutine comes back
	forLink        // until the large command's connection has taken what it was given
	forever        // the session ends when its replies are written
)

// session is one client's connection. It implements loop.Handler.
type session struct {
	front *front
	conn  *loop.Conn
	id    int64
	owner relay.Owner

	identity relay.Identity
	lane     relay.Lane
	epoch    uint64 // of the lane, as of the replies that are outstanding
	name     string // by CLIENT SETNAME

	libName, libVersion string // by CLIENT SETINFO

	began, active time.Time // of the first and the latest input
	latest        *command.Info
	// unauthenticated is since when the session has the configured user's identity: it matters where clients must authenticate.
	unauthenticated time.Time

	commands frame.Commands
	located  *int // the slot of the command being read, where only Redis can tell; nil while it has not, or need not
	// unlocated is why Redis has not told what the keys are of the command being read, which therefore cannot be sent.
	unlocated error
	voided    voids    // of the command being read
	verdict   *verdict // of Redis on the command being read; nil while it was not asked
	paused    pause
	reading   bool // within Data
	ended     bool // the client has closed its direction
	gone      bool

	first, last *place // the replies due, in order
	places      int
	outstanding int // of them, those on their way on the lane or a link, or being resolved
	inFlight    int // bytes of their commands
	writing     int // of those outstanding, the ones that may write
	buffered    int // bytes of replies that wait for those before them
	kept        int // bytes of commands that are kept for being said again

	unresolved      int // intercepted commands that are not answered
	unresolvedSlots slotSet

	transaction *transaction // nil while there is none
	blocked     *blocked     // nil while there is none
	subscriber  *subscriber  // nil while there is none
	monitors    []relay.Link // of MONITOR
	awaited     *waiting     // nil while there is none
	wrote       *written     // nil while it has written nothing

	settings []setting // in force on a lane of its own; none on a shared one
	ownsLane bool
	tracking *tracking // nil while it is off
	judging  *judging  // nil while there is none
	silenced bool      // by CLIENT REPLY OFF: replies are thrown away
	skips    bool      // by CLIENT REPLY SKIP: that of the next command is
	pushes   []pushes  // that wait for replies
	heldPush bool      // a connection is not read since too much waits

	locatedKeys [][]byte // of the command being read, with located

	large relay.Link // carries the large command that is being read or answered; nil when there is none, or it is discarded
}

// Data implements loop.Handler.
func (s *session) Data(b []byte) (used int) {
	s.reading = true
	s.active = s.front.loop.Now()
	if s.commands.Limit < maxCollected {
		s.commands.Limit = s.front.allowed.command
	}
	used = s.read(b)
	s.reading = false
	s.commands.Trim()
	s.backpressure()
	s.finishIfDone()
	if s.paused == forever {
		used = len(b)
	}
	if s.paused != going && !s.gone {
		s.conn.Pause()
	}
	return used
}

// read handles the commands at the start of b, the client's unread input.
func (s *session) read(b []byte) (used int) {
	for used < len(b) && s.paused == going {
		unread := b[used:]
		if s.commands.Streaming() {
			n, status, err := s.commands.Stream(unread)
			used += n
			if err != nil {
				s.breakLarge()
				s.refuse(err)
				break
			}
			s.moreLarge(unread[:n], status == frame.Complete)
			if status == frame.Incomplete && n == 0 {
				break
			}
			continue
		}
		s.commands.Unauthenticated = s.mustAuthenticate()
		n, status, err := s.commands.Next(unread)
		if err != nil {
			s.refuse(err)
			break
		}
		if status == frame.Incomplete {
			break
		}
		if s.commands.N > 0 && !s.command(status == frame.Large) {
			s.commands.Unread()
			if s.paused == going {
				continue // it is to be collected
			}
			break
		}
		used += n
		if s.commands.Limit == maxCollected {
			s.commands.Limit = s.front.allowed.command
		}
		s.located, s.locatedKeys, s.unlocated, s.verdict, s.voided = nil, nil, nil, nil, voids{}
	}
	return used
}

// refuse answers a protocol error, after the replies due, and ends the session.
func (s *session) refuse(err error) {
	s.front.stats.ProtocolErrors++
	p := s.front.take(s, nil)
	s.paused = forever
	p.fail(relay.Error(err.Error()))
}

// mayRelay tells whether the next command may be sent. It may not while one that was sent before could be overtaken: since it is
// being sent again, or since the next one would take another way.
func (s *session) mayRelay() bool {
	if s.outstanding == 0 {
		s.epoch = s.lane.Epoch()
		return true
	}
	if s.owner.Gated == 0 && s.epoch == s.lane.Epoch() {
		return true
	}
	s.paused = forQuiet
	return false
}

// mayFanOut is mayRelay for a command of several nodes or slots.
func (s *session) mayFanOut() bool {
	return (s.unresolved == 0 || s.quiet()) && s.mayRelay()
}

// quiet tells whether no reply is outstanding, and has the session wait for that else. What changes the connections that a session
// uses needs it.
func (s *session) quiet() bool {
	if s.outstanding > 0 {
		s.paused = forQuiet
		return false
	}
	return true
}

// ready tells whether the session takes more of what is for its client.
func (s *session) ready() bool {
	if s.gone || s.conn.Buffered()+s.buffered < s.allowedReplies() { // of one that is gone nobody would say when it takes more
		return true
	}
	s.awaitReading()
	return false
}

// readyFor tells whether the session takes more of a reply. Only the client holds back the one that is due: if that one had to wait
// for what is kept for the time after it, both would wait for ever.
func (s *session) readyFor(p *place) bool {
	if s.first != p {
		ready := s.ready()
		p.held = p.held || !ready
		return ready
	}
	return s.takes()
}

// takes tells whether the session writes more to its client.
func (s *session) takes() bool {
	if s.gone || s.conn.Buffered() < s.allowedReplies() {
		return true
	}
	s.awaitReading()
	return false
}

// awaitReading has Drained called when the client has read most of what it was sent. Where it has already, what else is buffered
// waits for a reply before it, which will see to it.
func (s *session) awaitReading() {
	if low := s.allowedReplies() / 16; s.conn.Buffered() > low {
		s.conn.NotifyBelow(low)
	}
}

// backpressure stops reading commands when too much of what came before is unfinished.
func (s *session) backpressure() {
	if s.paused == going && (s.places >= s.front.allowed.places || s.inFlight >= s.front.allowed.inFlight || !s.ready()) {
		s.paused = forRoom
	}
}

// advance writes the replies that have become due: all that are complete, and what there is of the one after them.
func (s *session) advance() {
	held := s.heldPush
	s.heldPush = false
	for s.first != nil && s.first.done {
		p := s.first
		s.first = p.next
		if s.first == nil {
			s.last = nil
		}
		s.places--
		s.front.places--
		s.front.put(p)
		s.flushPushes(p)
		if p = s.first; p != nil {
			held = held || p.held
			if len(p.waiting) > 0 {
				s.conn.Write(p.waiting)
				s.wait(-len(p.waiting))
				p.waiting = p.waiting[:0]
			}
		}
	}
	if held || s.ready() {
		s.owner.Resume()
	}
}

// wait counts n bytes more of replies that wait for those before them.
func (s *session) wait(n int) {
	s.buffered += n
	s.front.waiting += n
}

// settled lets the session go on when what it has waited for has come.
func (s *session) settled() {
	switch s.paused {
	case forQuiet:
		if s.outstanding == 0 {
			s.proceed()
		}
	case forRoom:
		most := s.front.allowed
		switch {
		case s.places > most.places/2 || s.inFlight > most.inFlight/2: // the next reply sees to it
		case s.conn.Buffered()+s.buffered > most.replies/2:
			s.awaitReading()
		default:
			s.proceed()
		}
	default:
		s.finishIfDone()
	}
}

// proceed goes on reading commands, later in this turn.
func (s *session) proceed() {
	s.endLarge()
	s.paused = going
	if s.front.ending {
		s.end()
		return
	}
	s.conn.Resume()
	if s.conn.Unread() == 0 {
		s.finishIfDone()
	}
}

// awaitInterval is how often a waiting session looks whether Redis has been found.
const awaitInterval = 5 * time.Millisecond

// await holds the session while Redis is being looked for, since what it is decides many an answer: at the start, and for no
// longer than it takes until commands fail.
func (s *session) await() {
	switch {
	case s.gone:
	case s.front.side.Server().Awaited:
		s.paused = forWork
		s.conn.Pause()
		s.front.loop.After(awaitInterval, s.await)
	case s.paused == forWork:
		s.proceed()
	}
}

// finishIfDone ends a session that has nothing to answer and nothing to come.
func (s *session) finishIfDone() {
	if s.first == nil && !s.gone && !s.reading && (s.paused == forever || s.paused == going && s.ended) {
		s.finish()
	}
}

// EOF implements loop.Handler. What the client has sent whole is still answered.
func (s *session) EOF() {
	s.ended = true
	if s.commands.Streaming() { // the rest of a large command will not come, nor then its reply
		s.conn.Close()
		s.leave()
		return
	}
	s.settled()
}

// Hangup implements loop.Handler: a client that has left does not wait any longer.
func (s *session) Hangup() {
	if s.blocked != nil || s.awaited != nil {
		s.finish() // it may be reading earlier replies yet
	}
}

// Drained implements loop.Handler.
func (s *session) Drained() {
	s.owner.Resume()
	s.settled()
}

// Closed implements loop.Handler.
func (s *session) Closed(error) { s.leave() }

// kill ends the session at once.
func (s *session) kill(reason string) {
	if s.gone {
		return
	}
	s.front.killed(s, reason)
	s.conn.Close()
	s.leave()
}

// finish ends the session when the client has read its replies, or after a while.
func (s *session) finish() {
	f := s.front
	f.parting++
	s.conn.Finish(lingering, func() {
		f.parting--
		f.over()
	})
	s.leave()
}

// leave frees what the session holds. Replies that are still due have nobody to go to.
func (s *session) leave() {
	if s.gone {
		return
	}
	s.gone = true
	s.paused = forever
	for p := s.first; p != nil; {
		next := p.next
		p.session, p.next, p.waiting = nil, nil, nil
		if p.fanout != nil {
			p.fanout.drop()
		}
		if p.done || !p.relayed {
			s.front.put(p)
		}
		p = next
	}
	s.first, s.last = nil, nil
	s.front.places -= s.places
	s.abandonLarge()
	if s.transaction != nil {
		s.transaction.over(false)
	}
	if s.blocked != nil {
		s.blocked.over(false)
	}
	if s.subscriber != nil {
		s.subscriber.over()
	}
	if s.awaited != nil {
		s.awaited.over(false)
	}
	s.endMonitor()
	s.tracking.end()
	s.judging.end()
	s.wait(-s.buffered)
	s.keep(-s.kept)
	s.owner.Resume()
	if s.lane != nil {
		s.lane.Release()
	}
	s.front.left(s)
}

// end has the session answer what it has been sent whole, and leave. What may wait for as long as it likes is given up.
func (s *session) end() {
	if s.blocked != nil || s.awaited != nil {
		s.finish()
		return
	}
	if s.paused == forWork || s.paused == forLink {
		return // proceed sees to it
	}
	s.paused = forever
	s.conn.Pause()
	s.finishIfDone()
}

package resp

import (
	"bytes"
	"time"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
)

// Resolver answers misses from the origin.
type Resolver interface {
	// Mapped tells whether a map matches the key. It is called on the loops and must be quick.
	Mapped(key []byte) bool
	// Resolve answers keys that Redis does not have, and calls done once, on any goroutine, with an answer for each, in their order. It
	// must not block, and keeps nothing of keys.
	Resolve(keys [][]byte, how How, done func([]Answer))
	// Refreshes tells whether any map wants to know of Hit.
	Refreshes() bool
	// Hit says that Redis has the value of a mapped key; it is told of a sample. It must not block, and not keep key.
	Hit(key []byte)
	// Forget says that a mapped key is about to be written: the loads under way for it take nobody in any more. It must not block, and
	// not keep key.
	Forget(key []byte)
}

// How is what may be done for a key that is missing.
type How int

const (
	WithLease   How = iota // lease, load, fill
	WithoutFill            // a fill would be a change of what is watched: load, without lease and fill
	FailOpen               // Redis does not answer: load, without lease and fill, within the bound for that
)

// Answer is what has become of a missing key.
type Answer struct {
	Value []byte // not to be changed
	Found bool   // false: the origin has no value
	Err   error  // its text becomes a RESP error
}

var (
	nullBulk = []byte("$-1\r\n") // RESP2
	null     = []byte("_\r\n")   // RESP3
)

func isNull(b []byte) bool { return bytes.Equal(b, nullBulk) || bytes.Equal(b, null) }

// intercepts tells whether the command just framed is a GET that a map may have to answer.
func (s *session) intercepts(info *command.Info) bool {
	f := s.front
	return info != nil && info == f.get && s.identity.Database == f.database && !s.silenced && !s.skips && f.resolver.Mapped(s.commands.Arg(1))
}

// slotSet is a set of slots that may also have those that share their place in it.
type slotSet [4]uint64

func (m *slotSet) add(at int)      { m[at>>6&3] |= 1 << (at & 63) }
func (m *slotSet) has(at int) bool { return m[at>>6&3]&(1<<(at&63)) != 0 }

// intercepted counts a GET until it is answered: whether it will be a miss is not known before Redis has replied, nor whether it may be
// overtaken.
func (s *session) intercepted(p *place) {
	p.intercept, p.unresolved = true, true
	s.unresolved++
	s.unresolvedSlots.add(p.Slot)
}

// answered is the opposite of intercepted.
func (s *session) answered(p *place) {
	if !p.unresolved {
		return
	}
	if s.unresolved--; s.unresolved == 0 {
		s.unresolvedSlots = slotSet{}
	}
}

// overtakes tells whether a command could run between the miss of a GET before it and the fill: a write would be undone by it, and a
// read not see what the GET has answered. Commands that may do neither are those of one key in another slot.
func (s *session) overtakes(info *command.Info, at int) bool {
	return s.unresolved > 0 && (info == nil || !info.SingleKey || at < 0 || s.unresolvedSlots.has(at))
}

// missed looks at the beginning of the reply to an intercepted GET, and takes the place over when it is a miss: Redis has no value, but
// the origin may have one. The replies behind it wait.
func (s *session) missed(p *place, raw, reply []byte) bool {
	f := s.front
	switch {
	case reply[0] == '-':
		return false
	case !isNull(reply):
		f.stats.Hits++
		return false
	}
	f.stats.Misses++
	how := WithLease
	if t := s.transaction; t != nil && t.watching {
		how = WithoutFill
	}
	f.args = frame.Args(f.args[:0], raw)
	var again []byte
	if s.tracking != nil {
		again = bytes.Clone(raw)
	}
	f.resolver.Resolve(f.args[1:2], how, func(answers []Answer) {
		f.loop.Post(func() { p.resolved(again, answers[0]) })
	})
	return true
}

// resolved answers a miss. again is the GET where it has to be sent again before.
func (p *place) resolved(again []byte, a Answer) {
	s := p.session
	switch {
	case s == nil:
		p.front.put(p)
	case a.Err != nil:
		p.fail(a.Err)
	case a.Found && again != nil:
		s.track(p, again, a.Value)
	case a.Found:
		p.load(a.Value, nil)
	default:
		p.front.stats.replied(p.info, false)
		p.answer(s.null(), true)
	}
}

// load answers a loaded value. What comes behind it is for the client, too.
func (p *place) load(value, behind []byte) {
	p.front.stats.replied(p.info, false)
	reply := redcon.AppendBulk(make([]byte, 0, len(value)+len(behind)+16), value)
	p.answer(append(reply, behind...), true)
}

// track sends the GET of a client that tracks its keys again when its miss is resolved. Redis tells of one change after each GET, and the
// fill was that change. What Redis says now is the answer. Where that is null still, nobody would tell the client of a change: it
// is told at once, behind the value, not to keep it.
func (s *session) track(p *place, again, value []byte) {
	p.intercept = false
	p.inspect = func(b []byte, first, _ bool) bool {
		if !first || !isNull(b) {
			return false
		}
		p.load(value, s.invalidation(frame.Args(nil, again)[1]))
		return true
	}
	if p.caching {
		s.lane.Send(&relay.Request{Sink: silence{}, Owner: &s.owner, Slot: p.Slot}, s.tracking.cachingText())
	}
	p.Attempts, p.Deadline = 0, time.Time{}
	s.lane.Send(&p.Request, again)
}

// invalidation is what tells a client not to keep a key. Over RESP2 there is nothing that could, and where somebody else is told in the
// client's place, it goes there.
func (s *session) invalidation(key []byte) []byte {
	if r := s.tracking.redirection; r != nil {
		r.pass(r.invalidation(key))
		return nil
	}
	if s.identity.Protocol != 3 {
		return nil
	}
	return redcon.AppendBulk([]byte(">2\r\n$10\r\ninvalidate\r\n*1\r\n"), key)
}

// null is the null reply in the session's protocol.
func (s *session) null() []byte {
	if s.identity.Protocol == 3 {
		return null
	}
	return nullBulk
}

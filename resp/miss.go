package resp

import (
	"bytes"
	"math/rand/v2"
	"slices"
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

// mapsApply tells whether the maps are about the keys that the session finds: those of the database that reads through.
func (s *session) mapsApply() bool {
	return s.front.resolver != nil && s.identity.Database == s.front.database
}

// intercepts tells whether the command just framed is one of one key, that a map may have to answer.
func (s *session) intercepts(info *command.Info) bool {
	return s.readsThrough(info) && info.SingleKey && info.ArityOK(s.commands.N) && s.front.resolver.Mapped(s.commands.Arg(info.FirstKey()))
}

// readsThrough tells whether a command is intercepted when the session sends it.
func (s *session) readsThrough(info *command.Info) bool {
	f := s.front
	return info != nil && info.ReadsThrough && slices.Contains(f.intercepted, info) && s.identity.Database == f.database && !s.silenced && !s.skips
}

// slotSet is a set of slots that may also have those that share their place in it.
type slotSet [4]uint64

func (m *slotSet) add(at int)      { m[at>>6&3] |= 1 << (at & 63) }
func (m *slotSet) has(at int) bool { return m[at>>6&3]&(1<<(at&63)) != 0 }

// intercepted counts a command until it is answered: whether it will be a miss is not known before Redis has replied, nor whether it
// may be overtaken.
func (s *session) intercepted(p *place) {
	p.intercept = true
	s.unresolvedAt(p, p.Slot)
	p.Patience = s.failOpenPatience()
}

// unresolvedAt has a place count as unresolved in a slot.
func (s *session) unresolvedAt(p *place, at int) {
	if !p.unresolved {
		p.unresolved = true
		s.unresolved++
	}
	s.unresolvedSlots.add(at)
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

// overtakes tells whether a command could run between the miss of one before it and the fill: a write would be undone by it, and a
// read not see what the other has answered. Commands that may do neither are those of one key in another slot.
func (s *session) overtakes(info *command.Info, at int) bool {
	return s.unresolved > 0 && (info == nil || !info.SingleKey || at < 0 || s.unresolvedSlots.has(at))
}

// missed looks at the beginning of the reply to an intercepted command of one key, and takes the place over when the origin has to
// answer: Redis has no value, or cannot tell. The replies behind it wait.
func (s *session) missed(p *place, raw, reply []byte) bool {
	f := s.front
	switch {
	case reply[0] == '-':
		if text := reply[1:]; p.failsOpen(string(text)) {
			s.failOpen(p, raw, relay.Error(bytes.TrimRight(text, "\r\n")))
			return true
		}
		return false
	case !isNull(reply):
		if s.hit() {
			f.args = frame.Args(f.args[:0], raw)
			f.resolver.Hit(f.args[p.info.FirstKey()])
		}
		return false
	}
	f.stats.Misses++
	f.args = frame.Args(f.args[:0], raw)
	first := p.info.FirstKey()
	var again []byte
	if s.tracking != nil || p.info.Write && len(f.args) > first+1 { // GETEX without options changes nothing
		again = bytes.Clone(raw)
	}
	f.resolver.Resolve(f.args[first:first+1], s.how(), func(answers []Answer) {
		f.loop.Post(func() { p.resolved(again, answers[0]) })
	})
	return true
}

// how says what may be done about a miss of the session's now.
func (s *session) how() How {
	if t := s.transaction; t != nil && t.watching {
		return WithoutFill
	}
	return WithLease
}

// sampling is the share of hits that the resolver hears of: one in so many, drawn at random, since clients ask in turns of their own.
const sampling = 16

// hit counts a hit, and tells whether the resolver is to hear of it: a renewal is a fill.
func (s *session) hit() bool {
	f := s.front
	f.stats.Hits++
	return f.refreshes && rand.Uint32()%sampling == 0 && s.how() == WithLease
}

// resolved answers a miss. again is the command where it has to be sent again before.
func (p *place) resolved(again []byte, a Answer) {
	p.loaded = &a
	switch {
	case p.session == nil:
		p.front.put(p)
	case a.Err != nil:
		p.fail(a.Err)
	case a.Found && again != nil:
		p.again(again)
	default:
		p.load(nil)
	}
}

// load answers what was loaded. What comes behind it is for the client, too.
func (p *place) load(behind []byte) {
	p.front.stats.replied(p.info, false)
	if !p.loaded.Found {
		p.answer(p.session.null(), true)
		return
	}
	value := p.loaded.Value
	reply := redcon.AppendBulk(make([]byte, 0, len(value)+len(behind)+16), value)
	p.answer(append(reply, behind...), true)
}

// again sends a command again when its miss is resolved, and what Redis says now is the answer. It is what a client needs that sets an
// expiry with it; and one that tracks its keys, for Redis tells of one change after each read, and the fill was that change. Where
// Redis says null still, the value is the answer, and nobody would tell the client of a change: it is told at once, behind the value,
// not to keep it.
func (p *place) again(raw []byte) {
	s := p.session
	p.intercept = false
	p.inspect = func(b []byte, first, _ bool) bool {
		switch {
		case !first:
			return false
		case isNull(b) && s.tracking != nil:
			p.load(s.invalidation(frame.Args(nil, raw)[p.info.FirstKey()]))
		case isNull(b), b[0] == '-' && p.failsOpen(string(b[1:])):
			p.load(nil)
		default:
			return false
		}
		return true
	}
	if p.caching {
		s.lane.Send(s.cachingTo(p.Slot), s.tracking.cachingText())
	}
	p.Attempts, p.Deadline = 0, time.Time{}
	s.lane.Send(&p.Request, raw)
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

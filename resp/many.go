package resp

import (
	"bytes"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// many is what a fanout has beside its parts where a command of several keys (MGET) is intercepted. The reply is kept until all of it
// has come; then the origin is asked at once for all keys that it has to answer. A large reply is not kept: it leaves as it comes, in
// the order of the keys, and the origin is asked for those that have come so far.
type many struct {
	raw    []byte // the command
	first  int    // argument that is a key; the rest are
	mapped []bool // of its keys

	until   int    // the index of the first key whose element was not looked at
	missing []miss // of those looked at and not passed on, in the order of the keys
	answers map[string]Answer
	asked   int      // times that the origin has not answered yet
	told    [][]byte // keys of which a client that tracks its keys is told behind the reply not to keep them
}

// miss is a key that the origin has to answer.
type miss struct {
	key   []byte
	cause error // why Redis did not; nil: it has no value
}

// keys are the command's, until the front's args are used again.
func (m *many) keys(f *front) [][]byte {
	f.args = frame.Args(f.args[:0], m.raw)
	return f.args[m.first:]
}

// many makes what there is to know of the command just framed, if any of its keys is mapped.
func (s *session) many(info *command.Info) *many {
	if info.KeyStep != 1 {
		return nil
	}
	keys := s.args()[info.FirstKey():]
	var m *many
	for i, key := range keys {
		if !s.front.resolver.Mapped(key) {
			continue
		}
		if m == nil {
			m = &many{raw: bytes.Clone(s.commands.Raw), first: info.FirstKey(), mapped: make([]bool, len(keys))}
		}
		m.mapped[i] = true
	}
	return m
}

// size is the memory in bytes that it takes.
func (m *many) size() int { return len(m.raw) + len(m.mapped) }

// asking tells whether the origin owes an answer.
func (m *many) asking() bool { return m != nil && m.asked > 0 }

// free counts what is not kept any more.
func (m *many) free(s *session) {
	if m != nil {
		s.wait(-m.size())
	}
}

// readMany sends a command of several keys, to the slots of its keys where such are split.
func (s *session) readMany(info *command.Info, m *many) bool {
	args := s.args()
	f := s.fanOut(info)
	f.many, f.respond = m, (*fanout).readThrough
	if s.front.splits && s.front.side.Server().Cluster {
		f.divide(args, m.first, 1)
	} else {
		t := f.add()
		t.Slot, t.keys = int(slot.Of(args[m.first])), len(m.mapped)
		t.reply.bytes = append(t.reply.bytes, s.commands.Raw...)
		for range m.mapped {
			f.order = append(f.order, 0)
		}
	}
	patience := s.failOpenPatience()
	for i := range f.parts {
		s.unresolvedAt(f.place, f.parts[i].Slot)
		f.parts[i].Patience = patience
	}
	for i, n := range f.order {
		if !m.mapped[i] { // nobody but Redis can answer it
			f.parts[n].Patience = 0
		}
	}
	s.wait(m.size())
	f.send(len(s.commands.Raw))
	return true
}

// failOpen looks at the beginning of a part's reply, and has the origin answer all its keys where that is an error which says that Redis
// cannot: they count as missing.
func (t *part) failOpen(reply []byte) bool {
	if t.Patience == 0 || t.reply.within || reply[0] != '-' || !unavailable(string(reply[1:])) {
		return false
	}
	f := t.fanout
	if t.reply.header > 0 {
		f.opened--
	}
	f.keep(-len(t.reply.rest()))
	t.reply = stream{}
	t.cause = relay.Error(bytes.TrimRight(reply[1:], "\r\n"))
	nulls := appendHeader(nil, '*', t.keys)
	for range t.keys {
		nulls = append(nulls, f.place.session.null()...)
	}
	t.add(nulls)
	return true
}

// readThrough answers with an array of the elements for each key, those that are null from the origin.
func (f *fanout) readThrough() {
	p := f.place
	s, m := p.session, f.many
	switch {
	case m.asking():
		return
	case p.begun && f.uneven:
		s.kill(lostWithin)
		return
	case f.left > 0 && !p.begun && (f.uneven || f.kept < s.front.allowed.replies):
		return
	case f.uneven:
		f.merged()
		return
	case f.left > 0 && !p.begun:
		f.begin('*', len(f.order))
	}
	for f.next < len(f.order) {
		if f.next == m.until && !f.look() {
			f.passPart()
			return
		}
		if m.asking() {
			return
		}
		f.pour()
	}
	var behind []byte
	for _, key := range m.told {
		behind = append(behind, s.invalidation(key)...)
	}
	f.complete(behind, false)
}

// look goes through the elements that have come whole, and asks the origin for what they lack. It is false when there are none.
func (f *fanout) look() bool {
	front, m := f.place.front, f.many
	streams := front.streams[:0] // to take from, so that the parts keep what they have
	for i := range f.parts {
		streams = append(streams, f.parts[i].reply)
	}
	keys := m.keys(front)
	m.missing, m.answers = nil, nil
	from := m.until
	for ; m.until < len(f.order); m.until++ {
		n := f.order[m.until]
		_, null, whole := streams[n].element()
		if !whole {
			break
		}
		switch key := keys[m.until]; {
		case !m.mapped[m.until]:
		case null:
			m.missing = append(m.missing, miss{key, f.parts[n].cause})
		default:
			if front.hit() {
				front.resolver.Hit(key)
			}
		}
	}
	clear(streams)
	if front.streams = streams; cap(streams) > maxKeptParts {
		front.streams = nil
	}
	if len(m.missing) > 0 {
		f.ask()
	}
	return m.until > from
}

// ask asks the origin for the missing keys, for each once.
func (f *fanout) ask() {
	front, m := f.place.front, f.many
	m.answers = make(map[string]Answer, len(m.missing))
	var absent, unavailable [][]byte
	for _, x := range m.missing {
		if x.cause != nil {
			front.stats.FailOpen++
		} else {
			front.stats.Misses++
		}
		if _, asked := m.answers[string(x.key)]; asked {
			continue
		}
		m.answers[string(x.key)] = Answer{}
		if x.cause != nil {
			unavailable = append(unavailable, x.key)
		} else {
			absent = append(absent, x.key)
		}
	}
	f.resolve(absent, f.place.session.how())
	f.resolve(unavailable, FailOpen)
}

// resolve asks the origin for keys.
func (f *fanout) resolve(keys [][]byte, how How) {
	if len(keys) == 0 {
		return
	}
	p := f.place
	f.many.asked++
	p.front.resolver.Resolve(keys, how, func(answers []Answer) {
		p.front.loop.Post(func() { f.answered(keys, answers) })
	})
}

// answered takes in what the origin has answered.
func (f *fanout) answered(keys [][]byte, answers []Answer) {
	p, m := f.place, f.many
	m.asked--
	s := p.session
	if s == nil {
		if f.left == 0 && !m.asking() {
			p.front.put(p)
		}
		return
	}
	for i, key := range keys {
		m.answers[string(key)] = answers[i]
	}
	if m.asking() {
		return
	}
	held := false // since the origin was asked
	for i := range f.parts {
		held = held || f.parts[i].held
		f.parts[i].held = false
	}
	switch err := m.failed(); {
	case err == nil:
		f.readThrough()
	case p.begun:
		s.kill(lostWithin)
	default: // all parts have come
		f.refuse(err)
	}
	if held {
		s.owner.Resume()
	}
}

// failed is the error that the first missing key was answered with which was.
func (m *many) failed() error {
	for _, x := range m.missing {
		err := m.answers[string(x.key)].Err
		if x.cause != nil {
			err = rather(err, x.cause)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pour passes on the elements that were looked at.
func (f *fanout) pour() {
	p, m := f.place, f.many
	front := p.front
	if !p.begun {
		f.begin('*', len(f.order))
	}
	held := false // a part whose turn has come
	for ; f.next < m.until; f.next++ {
		t := &f.parts[f.order[f.next]]
		held = held || t.held
		t.held = false
		element, null, _ := t.reply.element()
		if !null || !m.mapped[f.next] {
			f.pass(element)
			continue
		}
		key := m.missing[0].key
		m.missing = m.missing[1:]
		answer := m.answers[string(key)]
		if !answer.Found {
			f.pass(element)
			continue
		}
		f.keep(-len(element))
		front.merged = redcon.AppendBulk(front.merged[:0], answer.Value)
		p.answer(front.merged, false)
		if p.session.tracking != nil { // the fill was the one change that Redis tells of
			m.told = append(m.told, key)
		}
	}
	if cap(front.merged) > maxKeptReply {
		front.merged = nil
	}
	if held {
		p.session.owner.Resume()
	}
}

// passPart passes on what has come of the next element where that is large.
func (f *fanout) passPart() {
	t := &f.parts[f.order[f.next]]
	f.pass(t.reply.some())
	if t.held {
		t.held = false
		f.place.session.owner.Resume()
	}
}

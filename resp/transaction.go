package resp

import (
	"bytes"
	"slices"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// transaction is WATCH and MULTI: a state of the session that lives on a link to one node, from the first WATCH or MULTI until
// EXEC, DISCARD or UNWATCH.
//
// The first key says which node; keys that live elsewhere are refused with CROSSSLOT, as a single node refuses those of other
// slots. The text is kept: when a command is redirected before EXEC has run, all of it is said again to the new owner of the
// slot. What was WATCHed then counts as changed, since the new node cannot tell. A command that is too large to be collected is
// streamed over the link and not kept, as is a text that gets too long: from then on a redirect aborts the transaction.
type transaction struct {
	s        *session
	link     relay.Link     // nil until a command has to be sent
	as       relay.Identity // the link's
	bound    bool           // a key has chosen the node
	watching bool
	watched  []int // slots, for as long as the transaction lasts
	changed  bool  // EXEC answers null: nobody can tell whether what was watched is as it was
	starting bool  // MULTI is on its way
	multi    bool  // between MULTI and EXEC
	refused  bool  // a command was refused here, so that EXEC has to abort
	aborts   bool  // Redis has refused one, and aborts by itself
	unkept   bool  // the text is not kept any more, so that it cannot be said again
	caching  bool  // CLIENT CACHING went before MULTI, and holds until EXEC
	ending   bool  // EXEC, DISCARD or UNWATCH is on its way

	text     []entry  // since MULTI, that the link has been sent
	written  [][]byte // mapped keys that it changes
	size     int      // bytes of both
	due      int      // replies that the link owes for commands of the client
	clean    bool     // what ended it was answered without an error
	moved    bool     // one was redirected: what the others are answered counts for nothing
	to       string   // where; empty: to whoever owns the slot in a moment
	retrying bool     // it is said again in a moment; there is no link until then
	chase    chase
}

var (
	multiText   = []byte("*1\r\n$5\r\nMULTI\r\n")
	discardText = []byte("*1\r\n$7\r\nDISCARD\r\n")
	noArray     = []byte("*-1\r\n") // RESP2's null for EXEC
)

const (
	errCrossSlot = relay.Error("CROSSSLOT Keys in request don't hash to the same slot")
	errExecAbort = relay.Error("EXECABORT Transaction discarded because of previous errors.")
	errNotInside = relay.Error("ERR Command not allowed inside a transaction")
	errNotKept   = relay.Error("TRYAGAIN the transaction belongs to another node, and is too large to be kept for saying it again: repeat it")
	errUnsettled = relay.Error("TRYAGAIN the transaction's slot is moving: repeat it")
)

// transact handles WATCH, MULTI and what ends them, where the session has no transaction yet.
func (s *session) transact(info *command.Info) bool {
	if info.Action != command.ActionWatch && info.Action != command.ActionMulti {
		return s.relay(info, relay.AnyNode, false) // EXEC without MULTI and the like: Redis says so
	}
	if !s.quiet() {
		return false
	}
	s.transaction = &transaction{s: s}
	return s.transaction.before(info)
}

// command handles a command while there is a transaction. It is handled only if it is the transaction's business.
func (t *transaction) command(info *command.Info, large bool) (ok, handled bool) {
	s := t.s
	if (t.ending || t.moved || t.retrying || !t.multi && t.due > 0) && !s.quiet() {
		return false, true
	}
	switch {
	case t.multi:
		return t.inside(info, large), true
	case info != nil && info.Reason == command.ReasonTransaction && !large && info.ArityOK(s.commands.N):
		if !s.quiet() {
			return false, true
		}
		return t.before(info), true
	}
	return false, false
}

// before handles a command of the family outside MULTI, when all before it is answered.
func (t *transaction) before(info *command.Info) bool {
	s := t.s
	switch info.Action {
	case command.ActionWatch:
		at := s.slotOf(info, false)
		if t.bound && s.lane.Node(at) != t.link.Addr() {
			if !slices.Contains(t.watched, at) {
				s.front.take(s, info).fail(errCrossSlot)
				return true
			}
			t.unbind() // the slot has moved since
		}
		if !slices.Contains(t.watched, at) {
			t.watched = append(t.watched, at)
		}
		if t.link == nil {
			t.open(s.lane.Link(at))
		}
		t.bound, t.watching = true, true
		t.send(info, at, false)
	case command.ActionMulti:
		t.caching = s.takeCaching()
		switch {
		case t.link != nil:
			t.multi = true
		case s.identity.Own: // who may not use MULTI is told at once, by Redis
			t.starting = true
		default:
			t.multi = true
			return s.ok(info)
		}
		t.sayCaching()
		t.say(info)
	case command.ActionUnwatch:
		t.ending = true
		t.say(info)
	default: // EXEC or DISCARD without MULTI: Redis says so
		t.say(info)
	}
	return true
}

// inside handles a command between MULTI and EXEC.
func (t *transaction) inside(info *command.Info, large bool) bool {
	s := t.s
	at, keyed := relay.AnyNode, false
	if info != nil && info.Action == command.ActionExec && !info.ArityOK(s.commands.N) { // Redis ends the transaction
		t.ending, t.multi = true, false
	}
	if info != nil && info.ArityOK(s.commands.N) {
		switch info.Action {
		case command.ActionExec:
			return t.exec(info)
		case command.ActionDiscard:
			t.ending, t.multi = true, false
			if t.link == nil {
				s.ok(info)
				t.over(true)
				return true
			}
			t.send(info, at, true)
			return true
		case command.ActionQuit:
			s.discardLarge(large)
			return s.quit(info, nil)
		case command.ActionReset:
			return s.local(info, false)
		case command.ActionMulti, command.ActionWatch, command.ActionUnwatch:
		default:
			if info.Handling == command.Local || info.Handling == command.Private && info.Reason != command.ReasonBlocking {
				return t.refuse(info, errNotInside, large)
			}
			if info.Handling != command.FixedNode {
				at = s.slotOf(info, large)
				keyed = at != relay.AnyNode
			}
			if large && s.hidesKeys(info) {
				if s.collect() {
					return false
				}
				return t.refuse(info, errHiddenKeys, true)
			}
			if large && !keyed && (info.Keyed() || !t.bound) && s.collect() { // its node is not known yet
				return false
			}
		}
	}
	if keyed && t.link != nil && at != t.slot() && s.lane.Node(at) != t.link.Addr() {
		moved := t.slot() == relay.AnyNode && slices.Contains(t.watched, at) // since it was watched
		switch {
		case t.bound && !moved:
			return t.refuse(info, errCrossSlot, large)
		case t.unkept:
			return t.refuse(info, errNotKept, large)
		case !s.quiet(): // what was said to any node is said again to the right one
			return false
		}
		t.reopen(s.lane.Link(at))
	}
	if t.link == nil {
		t.open(s.lane.Link(at))
		t.sayMulti()
	}
	t.bound = t.bound || keyed
	if large {
		t.stream(info, at)
	} else {
		t.send(info, at, true)
	}
	return true
}

// exec handles EXEC.
func (t *transaction) exec(info *command.Info) bool {
	s := t.s
	switch {
	case t.link == nil && !t.refused && !t.changed:
		s.reply(info, []byte("*0\r\n"))
		t.over(true)
		return true
	case !t.refused && !t.changed && s.voided.err == nil:
		if !s.voidApart(t.written) {
			return false
		}
		t.ending, t.multi = true, false
		t.send(info, relay.AnyNode, true)
		return true
	case !s.quiet():
		return false
	}
	t.cancel()
	switch {
	case t.refused, t.aborts:
		s.front.take(s, info).fail(errExecAbort)
	case s.voided.err != nil:
		s.front.take(s, info).fail(errUnvoided(s.voided.err))
	default:
		s.reply(info, t.nothing())
	}
	t.over(false)
	return true
}

// nothing is EXEC's reply when what was watched has changed.
func (t *transaction) nothing() []byte {
	if t.s.identity.Protocol == 3 {
		return null
	}
	return noArray
}

// refuse answers a command with an error that aborts the transaction.
func (t *transaction) refuse(info *command.Info, err error, large bool) bool {
	t.s.discardLarge(large)
	t.refused = true
	t.s.front.take(t.s, info).fail(err)
	return true
}

// open takes a link into use.
func (t *transaction) open(link relay.Link) {
	t.link, t.as = link, t.s.identity
	link.OnLost(func(err error) { t.lost(link, err) })
}

// lost is called when the link has broken and the commands whose replies it owed were answered so. Those that were redirected are not
// among them.
func (t *transaction) lost(link relay.Link, err error) {
	if t.link != link {
		return
	}
	t.link, t.due, t.moved = nil, 0, false
	t.changed = t.changed || t.watching
	t.refused = t.refused || t.multi
	t.bound, t.watching = false, false
	t.fail(err)
	if t.ending || t.starting {
		t.over(false)
	}
}

// sayMulti begins the transaction at a node. Where MULTI is refused, what follows is carried out as it comes, and EXEC has to fail.
func (t *transaction) sayMulti() {
	t.sayCaching()
	t.link.Send(&relay.Request{Owner: &t.s.owner, Sink: reply(func(b []byte, err error) {
		t.refused = t.refused || err == nil && b[0] == '-'
	})}, multiText)
}

// sayCaching sends a CLIENT CACHING that goes before MULTI.
func (t *transaction) sayCaching() {
	if t.caching {
		t.anyLink().Send(t.silent(), t.s.tracking.cachingText())
	}
}

// anyLink is the link, to any node if there is none yet.
func (t *transaction) anyLink() relay.Link {
	if t.link == nil {
		t.open(t.s.lane.Link(relay.AnyNode))
	}
	return t.link
}

// say sends the command just framed, which no redirect concerns.
func (t *transaction) say(info *command.Info) {
	t.anyLink()
	t.send(info, relay.AnyNode, false)
}

// send sends the command just framed over the link. inText says that it belongs to the text.
func (t *transaction) send(info *command.Info, at int, inText bool) {
	raw := t.s.commands.Raw
	var p *place
	if inText {
		t.writes(info)
		p = t.take(info, at, raw)
	} else {
		p = t.place(info, at, -1)
	}
	t.s.send(p, len(raw))
	t.link.Send(&p.Request, raw)
}

// stream sends what has come of a large command over the link, and has the rest of it sent there.
func (t *transaction) stream(info *command.Info, at int) {
	t.letGo()
	t.writes(info)
	p := t.take(info, at, nil)
	t.s.send(p, 0)
	t.s.large = lent{t.link}
	t.link.Begin(&p.Request, t.s.commands.Raw)
}

// lent is a transaction's link in the hands of a large command, which does not give it up.
type lent struct{ relay.Link }

// Release implements relay.Link.
func (lent) Release(bool) {}

// take takes a place for a command of the text, which is kept as long as there is room for it.
func (t *transaction) take(info *command.Info, at int, raw []byte) *place {
	if !t.unkept && t.size+len(raw) > t.s.front.allowed.inFlight {
		t.letGo()
	}
	if t.unkept {
		raw = nil
	}
	p := t.place(info, at, len(t.text))
	e := entry{raw: bytes.Clone(raw), slot: at, place: p, due: true, queues: true}
	if info != nil && info.ArityOK(t.s.commands.N) {
		e.exec = info.Action == command.ActionExec
		e.queues = info.Flags.Has(command.FlagNoMulti) || info.Action != command.ActionMulti && info.Action != command.ActionWatch
	}
	t.text = append(t.text, e)
	t.hold(len(raw) + entrySize)
	return p
}

// place takes a place for a command that the link is to be sent. index is that in the text; negative: it is none of it.
func (t *transaction) place(info *command.Info, at, index int) *place {
	s := t.s
	p := s.front.take(s, info)
	if info != nil && info.Write {
		s.noteWrite(at)
	}
	p.inspect = func(b []byte, first, last bool) bool { return t.reply(p, index, b, first, last) }
	t.due++
	return p
}

// reply looks at the reply to a command, and keeps it from the client when the command will be sent again.
func (t *transaction) reply(p *place, index int, b []byte, first, last bool) (kept bool) {
	if t.link == nil {
		return false
	}
	if last {
		t.due--
	}
	if first {
		t.clean = b[0] != '-'
	}
	if t.starting {
		t.starting, t.multi = false, t.clean
		if !t.multi {
			t.over(false)
		}
		return false
	}
	if first && b[0] == '-' && !t.moved {
		if addr, ask, is := t.s.lane.Redirected(b, t.link.Addr()); is {
			if index < 0 {
				t.unwatchable(p)
				return true
			}
			t.moved, t.to = true, addr
			if ask { // a transaction cannot follow it: the keys are on their way
				t.to = ""
			}
		}
	}
	switch {
	case t.moved:
		if index >= 0 {
			t.text[index].due = false
		}
		if t.due == 0 {
			t.retry()
		}
		return true
	case index >= 0:
		e := &t.text[index]
		e.place = nil
		if t.changed && e.exec { // DISCARD went in its place
			if t.over(t.clean); t.aborts {
				p.fail(errExecAbort)
			} else {
				p.answer(t.nothing(), true)
			}
			return true
		}
		t.aborts = t.aborts || first && !t.clean && e.queues
	}
	if last && t.ending && t.due == 0 {
		t.over(t.clean)
	}
	return false
}

// unwatchable answers a WATCH that was redirected. Its keys count as changed, so that EXEC answers null and the client begins
// again, by when it is known who owns the slot.
func (t *transaction) unwatchable(p *place) {
	t.unbind()
	p.answer([]byte("+OK\r\n"), true)
}

// cancel has the node forget what it has queued.
func (t *transaction) cancel() {
	if t.link != nil {
		t.link.Send(t.silent(), discardText)
	}
}

// silent is a request whose reply nobody wants.
func (t *transaction) silent() *relay.Request {
	return &relay.Request{Sink: silence{}, Owner: &t.s.owner}
}

type silence struct{}

// Reply implements relay.Sink.
func (silence) Reply(*relay.Request, []byte, bool) bool { return true }

// Fail implements relay.Sink.
func (silence) Fail(*relay.Request, error) {}

// unbind leaves the node. Another one cannot tell what has become of what was watched: it counts as changed.
func (t *transaction) unbind() {
	t.changed = t.changed || t.watching
	t.drop()
}

// drop gives up the link in the middle of the transaction.
func (t *transaction) drop() {
	if link := t.link; link != nil {
		t.link, t.bound, t.watching, t.due, t.moved = nil, false, false, 0, false
		link.Release(false)
		t.s.forgetTracked()
	}
}

// over ends the transaction. clean says that the link is as if there had been none.
func (t *transaction) over(clean bool) {
	t.s.transaction = nil
	t.forget()
	if link := t.link; link != nil {
		t.link = nil
		link.Release(clean)
	}
}

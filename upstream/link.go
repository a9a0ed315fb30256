package upstream

import (
	"io"
	"slices"
	"time"

	"readthrough/internal/loop"
	"readthrough/internal/relay"
)

const (
	// maxLinks and linkIdle bound the free links that a lane keeps open.
	maxLinks = 4
	linkIdle = 5 * time.Second
)

// link is a connection for one session's use: for a command too large to be kept, or for a state that a shared connection cannot
// have. It implements relay.Link and loop.Handler.
type link struct {
	lane    *lane
	slot    int        // whose node it is to, while it is being dialled; noSlot: the address is what counts
	addr    string     // empty while no node is known
	conn    *loop.Conn // nil while dialling
	queued  queue
	parts   parts
	broken  error          // why there is no connection
	free    bool           // for another session
	strange bool           // its identity is not the lane's
	lasts   bool           // for as long as a client likes, and takes AUTH meanwhile
	stale   []byte         // AUTH, since it has authenticated with what does not hold any more; nil: it has not
	auth    *relay.Request // of AUTH, until it is answered
	aside   bool           // the current reply is for other

	since    time.Time   // dialling
	attempts int         // to connect
	again    *loop.Timer // for the next one

	head, tail *relay.Request // sent and not answered
	owner      *relay.Owner   // of other
	other      func(b []byte, last bool) (ready bool)
	lost       func(err error)

	below  int // for notify
	notify func()

	// A node is watched while it owes something, unless the command is one that waits.
	owes     bool      // a reply that comes to other
	large    bool      // a command sent in parts is not answered
	whole    bool      // it has been given to the connection
	sent     int       // bytes given to the connection
	taken    int       // of them, those that were written when last looked
	progress time.Time // of the last byte either way, or when the link became free
}

// noSlot is the slot of a link to an address.
const noSlot = -2

// Link implements relay.Lane.
func (l *lane) Link(slot int) relay.Link { return l.link(slot, l.Node(slot)) }

// Node implements relay.Lane.
func (l *lane) Node(slot int) string {
	if n := l.side.view.node(slot); n >= 0 {
		return l.side.view.nodes[n]
	}
	return ""
}

// LinkTo implements relay.Lane.
func (l *lane) LinkTo(addr string) relay.Link { return l.link(noSlot, addr) }

func (l *lane) link(slot int, addr string) relay.Link {
	for _, k := range l.links {
		if k.addr == addr && k.free {
			k.free = false
			return k
		}
	}
	k := &link{lane: l, slot: slot, addr: addr, since: l.side.loop.Now(), queued: queue{loop: l.side.loop}}
	l.links = append(l.links, k)
	l.side.loop.Post(k.dial) // it may fail at once, but not before the session has it
	return k
}

// dial connects to the node, or to the one that serves the slot by now. A node that cannot be reached is waited for as a wire's
// is: nothing was sent to it.
func (k *link) dial() {
	l := k.lane
	if k.broken != nil {
		return
	}
	if k.slot != noSlot {
		if addr := l.Node(k.slot); addr != "" {
			k.addr = addr
		}
	}
	if k.addr == "" {
		if cause, waits := l.side.unknown(); waits {
			k.dialLater(cause)
		} else {
			k.fail(cause)
		}
		return
	}
	addr := k.addr
	if cause := l.givenUp(addr, patience); cause != nil {
		k.fail(errDown(addr, cause))
		return
	}
	l.dial(addr, func(fd int, err error) {
		if err != nil {
			k.dialLater(errDown(addr, err))
		} else if conn, ok := l.side.take(fd, k, k.broken != nil); ok {
			k.dialled(conn)
		}
	})
}

// dialLater dials again in a moment, unless that has gone on for too long.
func (k *link) dialLater(cause relay.Error) {
	k.attempts++
	switch {
	case k.broken != nil:
	case k.lane.side.loop.Now().Sub(k.since) > patience:
		k.fail(cause)
	default:
		k.again = k.lane.side.loop.After(backoff(k.attempts), k.dial)
	}
}

// dialled gives the link its connection, and that what waits: first of all what brings it into the session's state.
func (k *link) dialled(conn *loop.Conn) {
	k.conn = conn
	if own := k.lane.own; own != nil && own.Setup != nil && !own.Everywhere { // else the wires tell of what happens anywhere
		setup := own.Setup(k.addr)
		for _, raw := range setup {
			k.write(raw)
		}
		for range setup {
			k.head = &relay.Request{Sink: discard{}, Next: k.head}
			if k.tail == nil {
				k.tail = k.head
			}
		}
	}
	k.write(k.queued.b)
	k.queued.free()
	k.authenticate()
	if k.notify != nil {
		conn.NotifyBelow(k.below)
	}
}

// Redirected implements relay.Lane.
func (l *lane) Redirected(reply []byte, from string) (addr string, ask, is bool) {
	to, is := l.side.redirection(reply, from)
	if is && to.addr != "" && !to.ask {
		l.side.moved(to.slot, to.addr)
	}
	return to.addr, to.ask, is
}

// Addr implements relay.Link.
func (k *link) Addr() string { return k.addr }

// Send implements relay.Link.
func (k *link) Send(r *relay.Request, raw []byte) {
	if r != nil {
		r.Next = nil
		if k.tail == nil {
			k.head = r
		} else {
			k.tail.Next = r
		}
		k.tail = r
	}
	if k.broken != nil {
		k.fail(k.broken)
		return
	}
	k.give(raw)
}

// Owes implements relay.Link.
func (k *link) Owes(due bool) {
	k.owes = due
	k.authenticate()
}

// Begin implements relay.Link.
func (k *link) Begin(r *relay.Request, raw []byte) {
	k.large, k.whole = true, false
	k.Send(r, raw)
}

// More implements relay.Link.
func (k *link) More(raw []byte, last bool) {
	k.whole = last
	if k.broken == nil {
		k.give(raw)
	}
}

func (k *link) give(raw []byte) {
	if k.conn == nil {
		k.queued.add(raw)
		return
	}
	k.write(raw)
}

func (k *link) write(raw []byte) {
	if k.conn.Buffered() == 0 {
		k.progress = k.lane.side.loop.Now()
	}
	k.sent += len(raw)
	k.conn.Write(raw)
}

// Buffered implements relay.Link.
func (k *link) Buffered() int {
	if k.broken != nil {
		return 0
	}
	if k.conn == nil {
		return len(k.queued.b)
	}
	return k.conn.Buffered()
}

// NotifyBelow implements relay.Link.
func (k *link) NotifyBelow(n int, f func()) {
	k.below, k.notify = n, f
	if k.conn != nil && k.broken == nil {
		k.conn.NotifyBelow(n)
	}
}

// OnOther implements relay.Link.
func (k *link) OnOther(owner *relay.Owner, f func(b []byte, last bool) (ready bool)) {
	k.owner, k.other, k.parts.cutsPushes = owner, f, true
}

// OnLost implements relay.Link.
func (k *link) OnLost(f func(err error)) { k.lost = f }

// Lasts implements relay.Link.
func (k *link) Lasts() { k.lasts = true }

// reauthenticate has the connection authenticate again, with raw, as soon as that is possible. It is not where Redis takes no AUTH, or
// not as one: while a client over RESP2 has subscriptions, within MULTI, while a command blocks. Such a connection keeps what it
// has, and is closed when it is given up.
func (k *link) reauthenticate(raw []byte) {
	if k.free && !k.lane.tells() {
		k.close()
		return
	}
	k.stale = raw
	k.authenticate()
}

func (k *link) authenticate() {
	if k.stale == nil || !k.lasts && !k.free || k.conn == nil || k.broken != nil || k.owes || k.head != nil {
		return
	}
	raw := k.stale
	k.stale, k.auth = nil, &relay.Request{Sink: reauthentication{k.lane.side, k.addr}}
	k.Send(k.auth, raw)
}

// Estrange implements relay.Link.
func (k *link) Estrange() { k.strange = true }

// Release implements relay.Link.
func (k *link) Release(clean bool) {
	k.notify, k.owner, k.other, k.lost = nil, nil, nil, nil
	k.parts.cutsPushes = false
	if clean && !k.strange && k.stale == nil && !k.lane.over() && k.broken == nil && k.conn != nil && k.head == nil && (k.whole || !k.large) &&
		(k.lane.tells() || k.lane.freeLinks() < maxLinks) {
		k.free, k.large = true, false
		k.progress = k.lane.side.loop.Now()
		return
	}
	k.close()
}

// tells says that what is read over any of the lane's connections is told when it changes, so that they have to stay.
func (l *lane) tells() bool {
	return l.own != nil && l.own.Push != nil && !l.own.Everywhere && !l.over()
}

func (l *lane) freeLinks() (n int) {
	for _, k := range l.links {
		if k.free {
			n++
		}
	}
	return n
}

func (k *link) close() { k.fail(io.ErrClosedPipe) }

// fail ends the link, and the commands that it owes replies with an error.
func (k *link) fail(err error) {
	if k.broken == nil {
		k.broken = err
		k.lane.links = slices.DeleteFunc(k.lane.links, func(other *link) bool { return other == k })
		k.lane.forget()
	}
	k.queued.free()
	k.again.Stop()
	if k.conn != nil {
		k.conn.Close()
	}
	r := k.head
	k.head, k.tail = nil, nil
	for r != nil {
		next := r.Next
		r.Next = nil
		k.lane.fail(r, nil, err)
		r = next
	}
	k.notified()
	if f := k.lost; f != nil {
		k.lost = nil
		f(err)
	}
}

func (k *link) notified() {
	if f := k.notify; f != nil {
		k.notify = nil
		f()
	}
}

// Data implements loop.Handler.
func (k *link) Data(b []byte) (used int) {
	k.progress = k.lane.side.loop.Now()
	for used < len(b) && k.broken == nil && !k.conn.Paused() {
		n, first, last, err := k.parts.next(b[used:])
		if err != nil {
			k.lose(err)
			break
		}
		if n == 0 {
			break
		}
		part := b[used : used+n]
		used += n
		if first {
			k.aside = k.head == nil || k.parts.kind == '>' || k.head == k.auth && isLine(part)
		}
		if !k.pass(part, last) {
			k.conn.Pause()
		}
	}
	return used
}

// pass hands a reply, or its next part, to whom it is for. It is false when that one wants no more for now.
func (k *link) pass(b []byte, last bool) (ready bool) {
	r := k.head
	if k.aside {
		other, owner := k.other, k.owner
		if other == nil && k.lane.tells() {
			other, owner = k.lane.own.Push, k.lane.own.Owner
		}
		if other == nil || other(b, last) || r != nil { // one that is due may have to come before it
			return true
		}
		k.resumeWith(owner)
		return false
	}
	if last {
		k.head = r.Next
		r.Next = nil
		if k.head == nil {
			k.tail = nil
		}
	}
	owner := r.Owner
	r.Raw = nil
	ready = r.Sink.Reply(r, b, last)
	if last {
		k.authenticate()
	}
	if !ready {
		k.resumeWith(owner)
	}
	return ready
}

// isLine tells a line of MONITOR from the answer to AUTH.
func isLine(b []byte) bool { return b[0] == '+' && string(b) != "+OK\r\n" }

func (k *link) resumeWith(owner *relay.Owner) {
	owner.OnResume(func() {
		if k.broken == nil {
			k.progress = k.lane.side.loop.Now()
			k.conn.Resume()
		}
	})
}

// EOF implements loop.Handler.
func (k *link) EOF() { k.Closed(io.EOF) }

// Closed implements loop.Handler.
func (k *link) Closed(err error) { k.lose(err) }

// lose ends a link that broke.
func (k *link) lose(err error) {
	k.fail(errLost(k.addr, err))
	if k.lane.tells() && k.lane.own.Lost != nil {
		k.lane.own.Lost(err)
	}
}

// Hangup implements loop.Handler: what is unread comes first.
func (k *link) Hangup() {}

// Drained implements loop.Handler.
func (k *link) Drained() { k.notified() }

// tend closes a link that nobody has used for a while, or whose node owes it too much: the taking of what was sent, or the
// reply.
func (k *link) tend(now time.Time) {
	if k.conn == nil || k.broken != nil {
		return
	}
	if taken := k.sent - k.conn.Buffered(); taken != k.taken {
		k.taken, k.progress = taken, now
	}
	quiet, limit := now.Sub(k.progress), k.lane.side.up.opts.silence()
	owes := k.owes || k.head != nil && !k.head.Waits
	begun := !k.large || k.whole || k.conn.Buffered() > 0 // else the client is to go on
	switch {
	case k.free && quiet > linkIdle && !k.lane.tells():
		k.close()
	case owes && begun && !k.conn.Paused() && quiet > limit:
		k.lose(errSilent(limit))
	}
}

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
	maxLinks = 2
	linkIdle = 5 * time.Second
)

// errMovedLarge is the answer to a large command that reached a node which does not own its slot (any more): its bytes are gone.
const errMovedLarge = relay.Error("TRYAGAIN the slot is moving, and a command this large is not kept for sending it again: repeat it")

// link is a connection for one session's use, one command at a time, over which a command too large to be kept is streamed. It
// implements relay.Link and loop.Handler.
type link struct {
	lane   *lane
	addr   string
	conn   *loop.Conn // nil while dialling
	queued []byte
	r      *relay.Request // nil between commands
	parts  parts
	broken error // why there is no connection
	free   bool  // for the next command

	whole    bool      // the command is
	sent     int       // bytes given to the connection
	taken    int       // of them, those that were written when last looked
	progress time.Time // of the last byte either way, or when the link became free

	below  int // for notify
	notify func()
}

// Link implements relay.Lane.
func (l *lane) Link(slot int) relay.Link {
	n := l.side.view.node(slot)
	if n < 0 {
		cause, _ := l.side.unknown()
		return &link{lane: l, broken: cause}
	}
	addr := l.side.view.nodes[n]
	for _, k := range l.links {
		if k.addr == addr && k.free {
			k.free = false
			return k
		}
	}
	k := &link{lane: l, addr: addr}
	l.links = append(l.links, k)
	l.dial(addr, func(fd int, err error) {
		if err != nil {
			k.fail(errDown(addr, err))
			return
		}
		if conn, ok := l.side.take(fd, k, k.broken != nil); ok {
			k.conn = conn
			k.write(k.queued)
			k.queued = nil
			if k.notify != nil {
				conn.NotifyBelow(k.below)
			}
		}
	})
	return k
}

// Send implements relay.Link.
func (k *link) Send(r *relay.Request, raw []byte) {
	k.r, k.whole = r, false
	if k.broken != nil {
		k.fail(k.broken)
		return
	}
	k.More(raw, false)
}

// More implements relay.Link.
func (k *link) More(raw []byte, last bool) {
	k.whole = last
	switch {
	case k.broken != nil:
	case k.conn == nil:
		k.queued = append(k.queued, raw...)
	default:
		k.write(raw)
	}
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
		return len(k.queued)
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

// Release implements relay.Link.
func (k *link) Release() {
	k.notify = nil
	if k.broken == nil && k.conn != nil && k.r == nil && k.whole && k.lane.freeLinks() < maxLinks {
		k.free = true
		k.progress = k.lane.side.loop.Now()
		return
	}
	k.close()
}

func (l *lane) freeLinks() (n int) {
	for _, k := range l.links {
		if k.free {
			n++
		}
	}
	return n
}

func (k *link) close() {
	k.r, k.notify = nil, nil
	k.fail(io.ErrClosedPipe)
}

// fail ends the link, and its command with an error.
func (k *link) fail(err error) {
	if k.broken == nil {
		k.broken = err
		k.lane.links = slices.DeleteFunc(k.lane.links, func(other *link) bool { return other == k })
	}
	k.queued = nil
	if k.conn != nil {
		k.conn.Close()
	}
	if r := k.r; r != nil {
		k.r = nil
		k.lane.fail(r, err)
	}
	k.notified()
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
			k.fail(errLost(k.addr, err))
			break
		}
		if n == 0 {
			break
		}
		part := b[used : used+n]
		used += n
		if k.parts.kind == '>' {
			continue
		}
		if k.r == nil {
			k.fail(errUnexpected)
			break
		}
		k.reply(part, first, last)
	}
	return used
}

func (k *link) reply(b []byte, first, last bool) {
	r := k.r
	owner := r.Owner
	if last {
		k.r = nil
	}
	if first && b[0] == '-' {
		if to, ok := k.lane.side.redirection(b, k.addr); ok {
			if to.addr != "" && !to.ask {
				k.lane.side.moved(to.slot, to.addr)
			}
			k.lane.fail(r, errMovedLarge)
			return
		}
	}
	r.Raw = nil
	if !r.Sink.Reply(r, b, last) && !last {
		k.conn.Pause()
		owner.OnResume(func() {
			if k.broken == nil {
				k.progress = k.lane.side.loop.Now()
				k.conn.Resume()
			}
		})
	}
}

// EOF implements loop.Handler.
func (k *link) EOF() { k.Closed(io.EOF) }

// Closed implements loop.Handler.
func (k *link) Closed(err error) {
	k.fail(errLost(k.addr, err))
}

// Drained implements loop.Handler.
func (k *link) Drained() { k.notified() }

// tend closes a link that nobody has used for a while, or whose node owes it too much: the taking of what was sent, or the
// reply.
func (k *link) tend(now time.Time) {
	if k.conn == nil {
		return
	}
	if taken := k.sent - k.conn.Buffered(); taken != k.taken {
		k.taken, k.progress = taken, now
	}
	quiet, limit := now.Sub(k.progress), k.lane.side.up.opts.silence()
	switch {
	case k.free && quiet > linkIdle:
		k.close()
	case k.r != nil && !k.conn.Paused() && (k.whole || k.conn.Buffered() > 0) && quiet > limit:
		k.fail(errLost(k.addr, errSilent(limit)))
	}
}

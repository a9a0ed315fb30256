package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"readthrough/internal/loop"
	"readthrough/internal/relay"
)

var errUnexpected = errors.New("a reply that no command asked for")

// errSilent is why a connection is given up whose node has sent nothing for so long.
func errSilent(d time.Duration) error { return fmt.Errorf("no byte for %v while it owed one", d) }

// wire is one connection to one node, shared by the sessions of its lane. Its requests are answered in the order in which they
// were sent: the fifo. What was sent is kept until it is answered, once, in the connection's output buffer, so that it can be
// sent again. It implements loop.Handler.
type wire struct {
	lane *lane
	addr string
	conn *loop.Conn // nil while dialling

	queued queue     // commands that wait for the connection
	stale  []byte    // AUTH, to follow them; nil: it need not
	began  time.Time // to dial

	head, tail *relay.Request
	count      int

	parts    parts
	hurry    *loop.Timer // of impatient, while dialling
	closed   bool
	replaced bool      // the node was a master and is none now
	retired  bool      // takes no more requests and is closed when it has answered its own
	progress time.Time // of the last byte, or of the request that began the wait for one
	stall    *loop.Timer
}

// push sends a command, after all those before it.
func (w *wire) push(r *relay.Request, raw []byte) {
	r.Size = len(raw)
	r.Next = nil
	if r.Lead > 0 {
		r.Leads, r.Refused = 1, nil
	}
	if w.tail == nil {
		w.head = r
		w.progress = w.lane.side.loop.Now()
	} else {
		w.tail.Next = r
	}
	w.tail = r
	w.count++
	if w.conn == nil {
		w.queued.add(raw)
		w.hasten(r)
		return
	}
	w.conn.Write(raw)
}

// pop takes the answered head off the fifo.
func (w *wire) pop() {
	r := w.head
	w.head = r.Next
	r.Next = nil
	if w.head == nil {
		w.tail = nil
	}
	w.count--
}

// raw returns the n bytes that start skip bytes into what is kept.
func (w *wire) raw(skip, n int) []byte {
	if w.conn == nil {
		return w.queued.b[skip : skip+n]
	}
	return w.conn.Retained(skip, n)
}

// take returns a copy of a request that starts skip bytes into what is kept, as it was sent first.
func (w *wire) take(r *relay.Request, skip int) []byte {
	raw := bytes.Clone(w.raw(skip, r.Size))
	if r.Asked {
		r.Asked = false
		r.Lead -= len(asking)
		raw = slices.Delete(raw, r.Lead, r.Lead+len(asking))
	}
	return raw
}

// dialled gives the wire its connection, and that what waits.
func (w *wire) dialled(conn *loop.Conn) {
	w.conn = conn
	w.calm()
	conn.Retain()
	conn.Write(w.queued.b)
	w.queued.free()
	w.progress = w.lane.side.loop.Now()
	if w.stale != nil {
		w.reauthenticate(w.stale)
		w.stale = nil
	}
	w.closeIfDone()
}

// reauthenticate has the connection authenticate again, with raw. One that is being made does so then: it may have begun with what was
// withdrawn meanwhile.
func (w *wire) reauthenticate(raw []byte) {
	if w.conn == nil {
		w.stale = raw
		return
	}
	w.push(&relay.Request{Sink: reauthentication{w.lane.side, w.addr}}, raw)
}

// Data implements loop.Handler.
func (w *wire) Data(b []byte) (used int) {
	w.progress = w.lane.side.loop.Now()
	for used < len(b) && !w.closed && !w.conn.Paused() {
		n, first, last, err := w.parts.next(b[used:])
		if err != nil {
			w.lost(err)
			return used
		}
		if n == 0 {
			break
		}
		part := b[used : used+n]
		used += n
		if w.parts.kind == '>' {
			w.pushed(part, last)
			continue
		}
		w.reply(part, first, last)
	}
	w.closeIfDone()
	return used
}

// pushed passes on a push of RESP3. On a shared connection it belongs to nobody.
func (w *wire) pushed(b []byte, last bool) {
	own := w.lane.own
	if own == nil || own.Push == nil {
		if last {
			w.lane.side.stats.PushesDropped++
		}
		return
	}
	if !own.Push(b, last) && w.head == nil { // else what it is to stand behind may be a reply that comes over this very connection
		w.hold(own.Owner)
	}
}

// reply hands a reply, or its next part, to the head of the fifo.
func (w *wire) reply(b []byte, first, last bool) {
	r := w.head
	if r == nil {
		w.lost(errUnexpected)
		return
	}
	if r.Leads > 0 {
		led(r, b)
		return
	}
	size, owner := r.Size, r.Owner
	if first && b[0] == '-' && owner != nil {
		if to, ok := w.lane.side.redirection(b, w.addr); ok {
			raw := w.take(r, 0) // it may go back to this very wire
			w.pop()
			w.conn.Ack(size)
			w.lane.redirect(r, raw, to, b)
			return
		}
	}
	if first && r.Refused != nil && passes(r.Refused) {
		if alike(r.Refused, b) {
			r.Refused = nil
		} else {
			r = w.settle(r)
		}
	}
	r.Raw = w.raw(0, size)[r.Lead:]
	if last {
		w.pop()
		w.lane.ungate(r)
	}
	ready := r.Sink.Reply(r, b, last) // the last part gives r back: it may be in use again
	if last {
		w.conn.Ack(size)
	}
	if !ready {
		w.hold(owner)
	}
}

// hold stops reading until a slow session has taken what is for it. The connection is then as good as its own: new requests of
// others get a fresh one, and what others wait for behind it is looked after when the stall lasts. On a lane of one session there are
// no others, and Redis remembers what the connection was told.
func (w *wire) hold(owner *relay.Owner) {
	if w.closed || w.conn.Paused() {
		return
	}
	w.conn.Pause()
	if w.lane.own == nil {
		w.lane.retire(w)
	}
	owner.OnResume(func() {
		w.stall.Stop()
		if !w.closed {
			w.progress = w.lane.side.loop.Now()
			w.conn.Resume()
			w.closeIfDone()
		}
	})
	if w.count > 0 {
		w.stall = w.lane.side.loop.After(stallEvacuate, func() { w.evacuate(owner) })
	}
}

// closeIfDone closes a retired wire that owes no replies.
func (w *wire) closeIfDone() {
	if w.retired && w.head == nil && w.conn != nil {
		w.close()
	}
}

// close closes the wire, whose fifo is the caller's business.
func (w *wire) close() {
	if w.closed {
		return
	}
	w.closed = true
	if w.conn != nil {
		w.conn.Close()
	}
	w.queued.uncount()
	w.stall.Stop()
	w.hurry.Stop()
	w.lane.gone(w)
}

// tend gives the wire up when the node has owed a reply for too long.
func (w *wire) tend(now time.Time) {
	if w.head == nil || w.conn == nil || w.conn.Paused() {
		return
	}
	quiet := now.Sub(w.progress)
	if limit := w.lane.silence(quiet, w.replaced); quiet > limit {
		w.lost(errSilent(limit))
	}
}

// EOF implements loop.Handler.
func (w *wire) EOF() { w.lost(io.EOF) }

// Closed implements loop.Handler.
func (w *wire) Closed(err error) { w.lost(err) }

// Hangup implements loop.Handler: what is unread comes first.
func (w *wire) Hangup() {}

// Drained implements loop.Handler.
func (w *wire) Drained() {}

// discard is the sink of what the sidecar sends for itself.
type discard struct{}

// Reply implements relay.Sink.
func (discard) Reply(*relay.Request, []byte, bool) bool { return true }

// Fail implements relay.Sink.
func (discard) Fail(*relay.Request, error) {}

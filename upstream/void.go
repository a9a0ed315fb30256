package upstream

import (
	"bytes"
	"fmt"

	"readthrough/internal/frame"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// A write to a key that may have a lease is led by the void, an UNLINK of the lease key: see relay.Request.Lead. Once the write
// is acknowledged, nobody may fill in what he loaded before it. So where the void was not carried out and the write was, the reply
// to the write is held back until the void is.

// maxUnsettled is the size in bytes up to which a reply is kept for that.
const maxUnsettled = 1 << 20

// errUnvoided is the answer to a write whose void could not be carried out.
func errUnvoided(cause any) relay.Error {
	return relay.Error(fmt.Sprintf("ERR the command ran, but a value that was loaded before it may still be read, since the lease of its key could not be removed: %v", cause))
}

// led takes a reply that comes before the command's own.
func led(r *relay.Request, b []byte) {
	r.Leads--
	if r.Asked && r.Leads == 0 {
		return // ASKING's
	}
	if b[0] != ':' {
		r.Refused = bytes.Clone(b)
	}
}

// passes tells whether the reason for which a void was not carried out passes: all redirects do, and states of a node. What does not
// is for the session to judge: a missing right, or a command that Redis does not have.
func passes(refused []byte) bool {
	return !bytes.HasPrefix(refused, []byte("-NOPERM ")) && !bytes.HasPrefix(refused, []byte("-ERR "))
}

// settlement is a write that ran although its void did not. It is the sink of the write's reply in the place of the write's own.
type settlement struct {
	wire   *wire
	write  *relay.Request // nil once it has failed
	raw    []byte         // of the write, with its void
	unsure int            // lease keys that may not be removed yet
	held   []byte         // of the reply
	whole  bool           // it is
}

// settle has the void of the head of the fifo, whose reply is about to come, carried out again, and returns what takes the reply
// meanwhile. Each lease key goes by itself, as they need not be on one node while their slot moves.
func (w *wire) settle(r *relay.Request) *relay.Request {
	l := w.lane
	l.side.stats.Settled++
	t := &settlement{wire: w, write: r, raw: w.take(r, 0)}
	stand := &relay.Request{Sink: t, Owner: r.Owner, Next: r.Next, Size: r.Size}
	w.head = stand
	if w.tail == r {
		w.tail = stand
	}
	r.Next, r.Refused = nil, nil
	for _, key := range frame.Args(nil, t.raw[:r.Lead])[1:] {
		t.unsure++
		v := &void{settlement: t, raw: appendCommand(nil, "UNLINK", string(key))}
		v.Sink, v.Owner, v.Slot, v.Safe = v, r.Owner, int(slot.Of(key)), true
		l.gate(&v.Request)
		l.Send(&v.Request, v.raw)
	}
	return stand
}

// Reply implements relay.Sink.
func (t *settlement) Reply(_ *relay.Request, b []byte, last bool) (ready bool) {
	t.whole = last
	switch {
	case t.write == nil:
		return true
	case t.unsure == 0:
		return t.pass(b)
	}
	t.held = append(t.held, b...)
	if len(t.held) > maxUnsettled {
		t.fail(errUnvoided("its reply is too large to be kept until it is"))
	}
	return true
}

// Fail implements relay.Sink.
func (t *settlement) Fail(_ *relay.Request, err error) { t.fail(err) }

func (t *settlement) fail(err error) {
	if r := t.write; r != nil {
		t.write, t.held = nil, nil
		t.wire.lane.fail(r, t.raw[r.Lead:], err)
	}
}

// pass passes on the next bytes of the reply.
func (t *settlement) pass(b []byte) (ready bool) {
	r := t.write
	if t.whole {
		t.write = nil
		t.wire.lane.ungate(r)
	}
	r.Raw = t.raw[r.Lead:]
	return r.Sink.Reply(r, b, t.whole)
}

// settled notes that one lease key more is removed.
func (t *settlement) settled() {
	if t.unsure--; t.unsure > 0 || t.write == nil || len(t.held) == 0 {
		return
	}
	owner, held := t.write.Owner, t.held
	t.held = nil
	if !t.pass(held) && !t.whole {
		t.wire.hold(owner)
	}
}

// void is the void of one lease key of a settlement, sent alone. It implements relay.Sink.
type void struct {
	relay.Request
	settlement *settlement
	raw        []byte
}

// Reply implements relay.Sink.
func (v *void) Reply(_ *relay.Request, b []byte, _ bool) (ready bool) {
	t := v.settlement
	switch {
	case b[0] == ':':
		t.settled()
	case passes(b):
		t.wire.lane.again(&v.Request, v.raw, relay.Error(bytes.TrimRight(b[1:], "\r\n")))
	default:
		if t.write != nil {
			t.write.Refused = bytes.Clone(b)
		}
		t.settled()
	}
	return true
}

// Fail implements relay.Sink.
func (v *void) Fail(_ *relay.Request, err error) { v.settlement.fail(errUnvoided(err)) }

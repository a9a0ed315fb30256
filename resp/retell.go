package resp

import (
	"bytes"
	"unsafe"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// A transaction's text is kept from MULTI on, so that all of it can be said again to another node when its slot has moved before EXEC
// has run.

// entry is a command of a transaction.
type entry struct {
	raw   []byte // nil: it is not kept
	slot  int
	place *place // nil once it is answered
	due   bool   // the link owes the reply
	exec  bool
	// queues says that Redis either queues the command, or refuses it and aborts EXEC. It does neither with one that it answers at once.
	queues bool
}

// entrySize and keySize are what a command and a key take beside their bytes.
const (
	entrySize = int(unsafe.Sizeof(entry{}))
	keySize   = int(unsafe.Sizeof([]byte(nil)))
)

// letGo keeps the text no longer.
func (t *transaction) letGo() {
	t.unkept = true
	for i := range t.text {
		t.hold(-len(t.text[i].raw))
		t.text[i].raw = nil
	}
}

// writes notes the mapped keys that the command just framed changes: before EXEC is sent, their leases are to be removed.
func (t *transaction) writes(info *command.Info) {
	for _, key := range t.s.written(info) {
		t.written = append(t.written, bytes.Clone(key))
		t.hold(len(key) + keySize)
	}
}

// retry has the text sent again where the redirect says, at once or in a while.
func (t *transaction) retry() {
	to := t.to
	wait, ok := t.chase.next(t.s.front.loop.Now(), to != "")
	if !ok || t.unkept {
		t.drop()
		t.refused = true
		if t.unkept {
			t.fail(errNotKept)
		} else {
			t.fail(errUnsettled)
		}
		if t.ending {
			t.over(false)
		}
		return
	}
	t.unbind() // nothing is to be lost with a link meanwhile
	t.retrying = true
	t.s.later(wait, func() {
		switch {
		case t.s.transaction != t:
			return
		case to != "":
			t.reopen(t.s.lane.LinkTo(to))
		default:
			t.reopen(t.s.lane.Link(t.slot()))
		}
		t.retrying = false
	})
}

// slot is that of the text's keys.
func (t *transaction) slot() int {
	for _, e := range t.text {
		if e.slot != relay.AnyNode {
			return e.slot
		}
	}
	return relay.AnyNode
}

// reopen says the text again over another link. The replies to what was answered already are not passed on.
func (t *transaction) reopen(link relay.Link) {
	t.unbind()
	t.open(link)
	t.bound = t.slot() != relay.AnyNode
	t.sayMulti()
	for i := range t.text {
		e := &t.text[i]
		if e.place == nil {
			link.Send(t.silent(), e.raw)
			continue
		}
		e.due = true
		t.due++
		raw := e.raw
		if t.changed && e.exec {
			raw = discardText
		}
		link.Send(&e.place.Request, raw)
	}
}

// fail gives up the text. What waits to be said again is answered with an error.
func (t *transaction) fail(err error) {
	text := t.text
	t.forget()
	for _, e := range text {
		if e.place != nil && !e.due && !t.s.gone {
			e.place.fail(err)
		}
	}
}

// hold counts n bytes more of the text.
func (t *transaction) hold(n int) {
	t.size += n
	t.s.keep(n)
}

// forget frees the text.
func (t *transaction) forget() {
	t.text, t.written = nil, nil
	t.hold(-t.size)
}

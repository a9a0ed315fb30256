package upstream

import (
	"bytes"
	"slices"
	"time"

	"readthrough/internal/relay"
)

// lane is the shared connections of one loop for one identity: a wire to each node that was needed so far. It implements
// relay.Lane.
type lane struct {
	side     *Side
	identity relay.Identity
	own      *relay.Own // of the one session that it belongs to; nil: it is shared
	users    int        // sessions
	idle     time.Time  // since when there are none

	byAddr  map[string]*wire // those that take requests
	byNode  []*wire          // the same, by the index of the node in the view; nil where there is none yet
	retired map[*wire]struct{}
	links   []*link // that are not broken
	epoch   uint64  // counts wires that were replaced
	down    map[string]*outage

	parked parking
}

// Send implements relay.Lane.
func (l *lane) Send(r *relay.Request, raw []byte) {
	if n := l.side.view.node(r.Slot); n >= 0 && r.Node == "" {
		if w := l.byNode[n]; w != nil {
			w.push(r, raw)
			return
		}
	}
	l.open(r, raw)
}

// open sends a command for which there is no wire yet, or that names its node.
func (l *lane) open(r *relay.Request, raw []byte) {
	addr := l.nodeOf(r)
	if addr == "" {
		if cause, waits := l.side.unknown(); waits {
			l.gate(r)
			l.park(parked{r: r, raw: bytes.Clone(raw), cause: cause}, time.Second)
		} else {
			l.fail(r, raw, cause)
		}
		return
	}
	if cause := l.givenUp(addr, patienceOf(r)); cause != nil {
		l.fail(r, raw, errDown(addr, cause))
		return
	}
	if wait := l.nextDial(addr).Sub(l.side.loop.Now()); wait > 0 {
		l.gate(r)
		l.park(parked{r: r, raw: bytes.Clone(raw), cause: errDown(addr, l.down[addr].cause)}, wait)
		return
	}
	w := l.wireTo(addr)
	if r.Node == "" {
		l.byNode[l.side.view.node(r.Slot)] = w
	}
	w.push(r, raw)
}

// nodeOf is the address of the node that a request goes to, empty where nobody serves its slot.
func (l *lane) nodeOf(r *relay.Request) string {
	if r.Node != "" {
		return r.Node
	}
	return l.Node(r.Slot)
}

// wireTo returns the wire to an address, which need not be in the view: a slot may be on its way there.
func (l *lane) wireTo(addr string) *wire {
	w := l.byAddr[addr]
	if w == nil {
		w = &wire{lane: l, addr: addr, began: l.side.loop.Now(), queued: queue{loop: l.side.loop}}
		l.byAddr[addr] = w
		if l.own != nil && l.own.Setup != nil {
			for _, raw := range l.own.Setup(addr) {
				w.push(&relay.Request{Sink: discard{}}, raw)
			}
		}
		l.dial(addr, func(fd int, err error) {
			if err != nil {
				w.undialled(err)
				return
			}
			if conn, ok := l.side.take(fd, w, w.closed); ok {
				w.dialled(conn)
			}
		})
	}
	return w
}

// undialled ends a wire to which there is no connection. Its commands wait for a better time, or for another owner of their
// slots, unless the node has been given up.
func (w *wire) undialled(cause error) {
	if w.closed {
		return
	}
	if w.lane.givenUp(w.addr, patience) == nil {
		w.lost(cause)
		return
	}
	r, raw := w.head, w.queued.b
	w.head, w.tail, w.count = nil, nil, 0
	w.close()
	for r != nil {
		next, size := r.Next, r.Size
		r.Next = nil
		if r.Owner != nil {
			w.lane.fail(r, raw[:size], errDown(w.addr, cause))
		}
		r, raw = next, raw[size:]
	}
	w.lane.side.refresh()
}

// retire keeps new requests from a wire.
func (l *lane) retire(w *wire) {
	if !w.retired {
		l.gone(w)
		w.retired = true
		l.retired[w] = struct{}{}
	}
}

// gone forgets a wire.
func (l *lane) gone(w *wire) {
	delete(l.retired, w)
	if l.byAddr[w.addr] == w {
		delete(l.byAddr, w.addr)
		l.epoch++
		for n := range l.byNode {
			if l.byNode[n] == w {
				l.byNode[n] = nil
			}
		}
	}
}

// reroute follows a change of the view.
func (l *lane) reroute() {
	clear(l.down) // the cluster has made up its mind: try again
	addrs := l.side.view.nodes
	l.byNode = make([]*wire, len(addrs))
	current := map[string]bool{}
	for n, addr := range addrs {
		l.byNode[n] = l.byAddr[addr]
		current[addr] = true
	}
	for addr, w := range l.byAddr {
		if !current[addr] && (l.own == nil || l.own.Push == nil) { // else changes of what was read over it would be missed
			l.retire(w)
			w.closeIfDone()
		}
	}
	l.reach()
	l.unpark(true)
}

// replace notes which connections lead to nodes that were masters before and are none now.
func (l *lane) replace(masters []string) {
	replaced := func(addr string, already bool) bool {
		return (already || slices.Contains(masters, addr)) && !slices.Contains(l.side.view.nodes, addr)
	}
	for _, w := range l.byAddr {
		w.replaced = replaced(w.addr, w.replaced)
	}
	for w := range l.retired {
		w.replaced = replaced(w.addr, w.replaced)
	}
	for _, k := range l.links {
		k.replaced = replaced(k.addr, k.replaced)
	}
}

// silence is how long a node may be silent that owes something. One that does not answer for a moment gives reason to look whether the
// cluster has replaced it, which it does when the node hangs; if it has, there is no slow script to wait for.
func (l *lane) silence(quiet time.Duration, replaced bool) (limit time.Duration) {
	if quiet > suspicion {
		l.side.refresh()
	}
	limit = l.side.up.opts.silence()
	if replaced {
		limit = min(limit, silenceReplaced)
	}
	return limit
}

// reach connects to every master, where that is asked for.
func (l *lane) reach() {
	if l.own == nil || !l.own.Everywhere || l.over() {
		return
	}
	for n, addr := range l.side.view.nodes {
		l.byNode[n] = l.wireTo(addr)
	}
}

// tend does what time asks for: connections that hang are given up, unused links closed.
func (l *lane) tend(now time.Time) {
	for _, w := range l.byAddr {
		w.tend(now)
	}
	for w := range l.retired {
		w.tend(now)
	}
	for _, k := range slices.Clone(l.links) {
		k.tend(now)
	}
}

// Epoch implements relay.Lane.
func (l *lane) Epoch() uint64 { return l.epoch + l.side.view.epoch }

// Release implements relay.Lane.
func (l *lane) Release() {
	l.users--
	if l.own != nil {
		l.close()
		l.forget()
		return
	}
	l.idle = l.side.loop.Now()
}

// over says that the one session of a lane has left it. Links that are in use stay until they are released.
func (l *lane) over() bool { return l.own != nil && l.users == 0 }

// forget has the side forget a lane of one session when nothing is left of it.
func (l *lane) forget() {
	if l.over() && len(l.links) == 0 {
		delete(l.side.owned, l)
	}
}

// linked tells whether sessions use links of the lane. They may, after they have gone on to another lane.
func (l *lane) linked() bool {
	return slices.ContainsFunc(l.links, func(k *link) bool { return !k.free })
}

// close closes the connections of a lane that has no sessions, but those that are the sessions' to give up.
func (l *lane) close() {
	l.parked.wake.Stop()
	for _, p := range l.parked.requests {
		l.side.loop.Hold(-len(p.raw))
	}
	l.parked.requests = nil
	for _, w := range l.byAddr {
		w.close()
	}
	for w := range l.retired {
		w.close()
	}
	for _, k := range slices.Clone(l.links) {
		if k.free {
			k.close()
		}
	}
}

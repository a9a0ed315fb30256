package upstream

import (
	"errors"
	"fmt"
	"time"

	"readthrough/internal/loop"
	"readthrough/internal/relay"
)

const (
	// stallEvacuate is how long a slow reader may hold up the replies of others before their reads are sent again elsewhere.
	stallEvacuate = 20 * time.Millisecond
	// stallKill is how long it may hold up writes of others, which cannot be sent again, before it is closed.
	stallKill = 2 * time.Second
)

var (
	errStalled = errors.New("every connection is held up by clients that do not read")
	errStops   = errors.New("the sidecar stops")
)

// errLost is the answer to a command that was sent, and perhaps ran, before its connection was lost.
func errLost(addr string, cause error) relay.Error {
	return relay.Error(fmt.Sprintf("UPSTREAMLOST connection to Redis at %s was lost (%v): the command may have run", addr, cause))
}

// errDown is the answer to a command that did not run, since there was no way to its node while patience lasted.
func errDown(addr string, cause error) relay.Error {
	return relay.Error(fmt.Sprintf("UPSTREAMDOWN Redis at %s: %v", addr, cause))
}

// lost ends a wire that broke. Commands of which Redis cannot have seen the end are sent again; so are reads, unless a command of
// the same session that is none followed them there and may have run. All others get an error that says so.
func (w *wire) lost(cause error) {
	if w.closed {
		return
	}
	requests := make([]*relay.Request, 0, w.count)
	ends := make([]int, 0, w.count) // where each one's bytes end in what is kept
	end := 0
	for r := w.head; r != nil; r = r.Next {
		end += r.Size
		requests = append(requests, r)
		ends = append(ends, end)
	}
	written := 0
	if w.conn != nil {
		written = w.conn.Written()
	}
	cut := w.parts.within && w.parts.kind != '>' // the head has had a part of its reply

	again := make([]bool, len(requests))
	ran := map[*relay.Owner]bool{}
	for i := len(requests) - 1; i >= 0; i-- {
		r := requests[i]
		switch {
		case ends[i] > written:
			again[i] = true
		case r.Safe:
			again[i] = !ran[r.Owner]
		default:
			ran[r.Owner] = true
		}
	}

	if errors.Is(cause, loop.ErrStopped) {
		cause = errStops
		clear(again)
	}
	side := w.lane.side
	if len(requests) > 0 {
		side.stats.Lost++
	}
	w.head, w.tail, w.count = nil, nil, 0
	w.close() // the connection's buffers stay until the turn ends
	for i, r := range requests {
		r.Next = nil
		raw := w.raw(ends[i]-r.Size, r.Size)
		switch {
		case r.Owner == nil: // the sidecar's own
		case i == 0 && cut:
			w.lane.fail(r, raw, errLost(w.addr, cause))
		case again[i]:
			w.lane.again(r, w.take(r, ends[i]-r.Size), errDown(w.addr, cause))
		default:
			w.lane.fail(r, raw, errLost(w.addr, cause))
		}
	}
	side.refresh()
	if own := w.lane.own; own != nil && own.Lost != nil {
		own.Lost(cause)
	}
}

// evacuate sends the reads again, on a fresh connection, that wait behind the replies of a slow session: of sessions that have
// nothing but reads here. What they are answered here later is discarded. If others remain, the slow one gets a little longer and
// is then closed.
func (w *wire) evacuate(slow *relay.Owner) {
	if w.closed || !w.conn.Paused() {
		return
	}
	pinned := map[*relay.Owner]bool{nil: true, slow: true}
	if w.parts.within && w.head != nil {
		pinned[w.head.Owner] = true
	}
	for r := w.head; r != nil; r = r.Next {
		if !r.Safe {
			pinned[r.Owner] = true
		}
	}
	waiting := false
	skip := 0
	for link := &w.head; *link != nil; link = &(*link).Next {
		r, size := *link, (*link).Size
		switch {
		case !pinned[r.Owner]:
			stand := &relay.Request{Sink: discard{}, Next: r.Next, Size: size}
			*link = stand
			if w.tail == r {
				w.tail = stand
			}
			w.lane.side.stats.Evacuated++
			w.lane.again(r, w.take(r, skip), errDown(w.addr, errStalled))
		case r.Owner != slow && r.Owner != nil:
			waiting = true
		}
		skip += size
	}
	if waiting {
		w.stall = w.lane.side.loop.After(stallKill, func() {
			if !w.closed && w.conn.Paused() {
				slow.Kill("it reads its replies too slowly, and writes of others wait behind them")
			}
		})
	}
}

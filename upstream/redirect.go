package upstream

import (
	"bytes"
	"net"
	"slices"
	"strconv"
	"time"

	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

const (
	// patience is how long a command is sent again, across redirects, lost connections and nodes that are down, before its
	// client is told.
	patience = 3 * time.Second
	// maxAttempts bounds redirects that chase each other.
	maxAttempts = 64
)

// The errors of a cluster that the sidecar handles itself. The last three pass by themselves.
var (
	moved      = []byte("-MOVED ")
	ask        = []byte("-ASK ")
	tryAgain   = []byte("-TRYAGAIN ")
	down       = []byte("-CLUSTERDOWN ")
	masterDown = []byte("-MASTERDOWN ")
	asking     = []byte("*1\r\n$6\r\nASKING\r\n")
)

// target is where a redirected command goes.
type target struct {
	addr string // empty: where the topology says, later
	slot int    // that addr owns from now on
	ask  bool   // that addr takes the command after ASKING alone
}

// redirection reads an error reply that came from a node. It is false for errors that are the client's.
func (s *Side) redirection(reply []byte, from string) (target, bool) {
	if !s.view.cluster {
		return target{}, false
	}
	switch {
	case bytes.HasPrefix(reply, moved):
		return parseRedirection(reply[len(moved):], from)
	case bytes.HasPrefix(reply, ask):
		to, ok := parseRedirection(reply[len(ask):], from)
		to.ask = true
		return to, ok
	case bytes.HasPrefix(reply, tryAgain), bytes.HasPrefix(reply, down), bytes.HasPrefix(reply, masterDown):
		return target{}, true
	}
	return target{}, false
}

// parseRedirection reads "3999 127.0.0.1:6381\r\n". An IPv6 address has no brackets, and a missing host means that of the node
// which answered.
func parseRedirection(b []byte, from string) (target, bool) {
	number, addr, ok := bytes.Cut(bytes.TrimRight(b, "\r\n"), []byte(" "))
	at, err := strconv.Atoi(string(number))
	colon := bytes.LastIndexByte(addr, ':')
	if !ok || err != nil || at < 0 || at >= slot.Count || colon < 0 {
		return target{}, false
	}
	host, port := string(bytes.Trim(addr[:colon], "[]")), string(addr[colon+1:])
	if host == "" || host == "?" {
		host, _, _ = net.SplitHostPort(from)
	}
	return target{addr: net.JoinHostPort(host, port), slot: at}, true
}

// redirect sends a command on whose answer was the error reply. Commands of one session for one slot that were under way together
// are answered in their order, so they reach the new node in it.
func (l *lane) redirect(r *relay.Request, raw []byte, to target, reply []byte) {
	l.gate(r)
	r.Attempts++
	if r.Patience > 0 && !r.Moving && bytes.HasPrefix(reply, tryAgain) { // Redis does answer, and the slot will have moved in a moment
		r.Moving = true
		r.Deadline = l.side.loop.Now().Add(patience)
	}
	late := !l.side.loop.Now().Before(r.Deadline) || r.Attempts > maxAttempts
	switch {
	case late && to.addr == "": // Redis's own word, which says it best
		l.ungate(r)
		r.Raw, r.Refused = raw[r.Lead:], nil
		r.Sink.Reply(r, reply, true)
	case late:
		l.fail(r, raw, relay.Error("UPSTREAMDOWN too many redirects: the cluster's nodes do not agree on who owns the slot"))
	case to.addr == "":
		l.side.stats.Retried++
		l.side.refresh()
		l.park(parked{r: r, raw: raw, cause: relay.Error(bytes.TrimRight(reply[1:], "\r\n")), alone: true}, backoff(r.Attempts))
	case l.overtakes(r):
		l.park(parked{r: r, raw: raw, cause: errDown(to.addr, errNoWay)}, 0)
	case to.ask:
		l.side.stats.Asked++
		l.wireTo(to.addr).ask(r, raw)
	default:
		l.side.stats.Moved++
		l.side.moved(to.slot, to.addr)
		l.wireTo(to.addr).push(r, raw)
	}
}

// ask sends a command after ASKING, and what leads it as well.
func (w *wire) ask(r *relay.Request, raw []byte) {
	w.push(&relay.Request{Sink: discard{}}, asking)
	if r.Lead == 0 {
		w.push(r, raw)
		return
	}
	w.push(r, slices.Concat(raw[:r.Lead], asking, raw[r.Lead:]))
	r.Lead += len(asking)
	r.Leads++
	r.Asked = true
}

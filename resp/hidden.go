package resp

import (
	"bytes"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/lease"
	"readthrough/internal/relay"
)

// Lease keys are the sidecars' own. Where maps exist, clients may not name them, and do not find them in lists of keys.

const errLeaseKey = relay.Error("ERR keys that begin with " + lease.Prefix + " belong to Readthrough")

// namesLease tells whether the command just framed names a lease key.
func (s *session) namesLease(info *command.Info, large bool) bool {
	for _, key := range s.named(info, large) {
		if lease.Is(key) {
			return true
		}
	}
	return false
}

// refuseKeys refuses the command just framed for its keys. Within a transaction that is an error which EXEC aborts for.
func (s *session) refuseKeys(info *command.Info, large bool, err error) bool {
	if t := s.transaction; t != nil && t.multi {
		return t.refuse(info, err, large)
	}
	s.discardLarge(large)
	s.front.take(s, info).fail(err)
	return true
}

// hidesFrom tells whether lease keys may be found by the KEYS just framed: not by a pattern that begins with something else.
func (s *session) hidesFrom() bool {
	if !s.mapsApply() || s.commands.Arguments() < 2 {
		return false
	}
	pattern := s.commands.Arg(1)
	if special := bytes.IndexAny(pattern, `*?[\`); special >= 0 {
		pattern = pattern[:special]
	}
	n := min(len(pattern), len(lease.Prefix))
	return string(pattern[:n]) == lease.Prefix[:n]
}

// isLease tells whether an element of a list of keys is a lease key.
func isLease(element []byte) bool { return lease.Is(frame.Text(element)) }

// withoutLeases appends to dst the elements that are no lease keys, and counts them.
func withoutLeases(dst []byte, elements [][]byte) (_ []byte, n int) {
	for _, element := range elements {
		if !isLease(element) {
			dst = append(dst, element...)
			n++
		}
	}
	return dst, n
}

// visible returns a list of keys, a whole reply, without lease keys.
func visible(list []byte) []byte {
	if !bytes.Contains(list, []byte(lease.Prefix)) {
		return list
	}
	elements := frame.Elements(list)
	if elements == nil {
		return list
	}
	keys, n := withoutLeases(nil, elements)
	return append(appendHeader(nil, list[0], n), keys...)
}

// visiblePage is visible for a reply to SCAN: a cursor and a list.
func visiblePage(page []byte) []byte {
	elements := frame.Elements(page)
	if len(elements) != 2 {
		return page
	}
	b := append(redcon.AppendArray(nil, 2), elements[0]...)
	return append(b, visible(elements[1])...)
}

// scanOne sends a SCAN to the one node that there is, whose cursors are good as they are.
func (s *session) scanOne(info *command.Info) bool {
	if !s.mayFanOut() {
		return false
	}
	f := s.fanOut(info)
	f.respond = (*fanout).scannedOne
	t := f.add()
	t.Slot = relay.AnyNode
	t.reply.bytes = append(t.reply.bytes, s.commands.Raw...)
	f.send(len(s.commands.Raw))
	return true
}

func (f *fanout) scannedOne() {
	if t := &f.parts[0]; t.done {
		f.complete(visiblePage(t.reply.bytes), t.failed)
	}
}

// joinVisible answers with the elements of all parts, which have come whole, that are no lease keys.
func (f *fanout) joinVisible() {
	var keys []byte
	total := 0
	for i := range f.parts {
		var n int
		keys, n = withoutLeases(keys, frame.Elements(f.parts[i].reply.bytes))
		total += n
	}
	f.begin(f.parts[0].reply.kind, total)
	f.complete(keys, false)
}

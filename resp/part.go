package resp

import "readthrough/internal/relay"

// part is the share of one node or one slot. It is the sink of its request.
type part struct {
	relay.Request
	fanout *fanout
	link   relay.Link // that carries it; nil: the lane does
	keys   int        // of a split command
	cause  error      // why the origin has to answer all of them; nil where the node has answered
	reply  stream     // before the part is sent, its command
	done   bool
	held   bool // was ahead of its turn when last heard of
	failed bool // the reply is an error of the sidecar's own
}

// partSize is about the memory in bytes that a part takes beside its command and reply, so that a session's commands of many parts
// count for what they are.
const partSize = 256

// address has a part go to a node. A master's place is taken by whoever serves its slots when it fails, a replica's by nobody.
func (t *part) address(node relay.Node) {
	t.Slot = node.Slot
	if node.Slot == relay.AnyNode {
		t.Node = node.Addr
	}
}

// linkTo is a link to a node, which likewise is to the one that takes a master's place.
func (s *session) linkTo(node relay.Node) relay.Link {
	if node.Slot == relay.AnyNode {
		return s.lane.LinkTo(node.Addr)
	}
	return s.lane.Link(node.Slot)
}

func (t *part) send() {
	t.Sink = t
	if p := t.fanout.place; p.info.Write && t.Node == "" {
		p.session.noteWrite(t.Slot)
	}
	raw := t.reply.bytes
	t.reply.bytes = raw[:0]
	if t.link != nil {
		t.link.Send(&t.Request, raw)
		return
	}
	s := t.fanout.place.session
	if t.fanout.leads {
		raw, t.Lead = s.front.leadPart(t.fanout.place.info, raw)
	}
	if t.fanout.place.caching && t.Node == "" {
		s.lane.Send(s.cachingTo(t.Slot), s.tracking.cachingText())
	}
	s.lane.Send(&t.Request, raw)
}

// Reply implements relay.Sink.
func (t *part) Reply(r *relay.Request, b []byte, last bool) (ready bool) {
	f := t.fanout
	if s := f.place.session; s != nil && !t.failOpen(b) {
		if r.Refused != nil {
			if err := s.unvoided(r.Refused, b); err != nil {
				t.failed = true
				b = appendError(s.front.scratch[:0], err)
			}
		}
		t.add(b)
	}
	if last {
		t.end()
	}
	return f.proceed(t)
}

// add takes in the next bytes of the reply.
func (t *part) add(b []byte) {
	f := t.fanout
	r := &t.reply
	opened := r.header > 0
	r.add(b)
	f.keep(len(b))
	if opened || r.header == 0 {
		return
	}
	if f.opened == 0 {
		f.kind = r.kind
	}
	f.opened++
	f.uneven = f.uneven || r.count < 0 || r.kind != f.kind || t.keys > 0 && r.count != t.keys
}

// Fail implements relay.Sink.
func (t *part) Fail(_ *relay.Request, err error) {
	f := t.fanout
	if s := f.place.session; s == nil || t.failOpen(appendError(nil, err)) {
		// nobody is to be told
	} else if f.place.begun {
		s.kill(lostWithin)
	} else {
		f.keep(-len(t.reply.bytes))
		t.reply = stream{bytes: appendError(t.reply.bytes[:0], err)}
		t.failed, f.uneven = true, true
		f.keep(len(t.reply.bytes))
	}
	t.end()
	f.proceed(t)
}

// end notes that a part is answered.
func (t *part) end() {
	t.done = true
	t.fanout.left--
	if t.link != nil {
		t.link.Release(true)
	}
}

package resp

// How the replies of the parts leave in an order, without all of them being kept.

// ordered answers with an array of the elements for each key. A small one leaves when all parts are answered, so that the first error
// in the order of the keys can take its place. A large one is not kept for that: it leaves as it comes, and an error that is met
// then ends the session.
func (f *fanout) ordered() {
	p := f.place
	s := p.session
	if !p.begun {
		switch {
		case f.left == 0 && f.uneven:
			f.merged()
			return
		case f.left > 0 && (f.uneven || f.kept < s.front.allowed.replies):
			return
		}
		f.begin('*', len(f.order))
	}
	if f.uneven {
		s.kill(lostWithin)
		return
	}
	held := false // a part whose turn has come
	f.next = inOrder(f.order, f.next, func(n int32) *stream {
		t := &f.parts[n]
		held = held || t.held
		t.held = false
		return &t.reply
	}, f.pass)
	if held {
		s.owner.Resume()
	}
	if f.next == len(f.order) {
		f.complete(nil, false)
	}
}

// ahead tells whether a part is to wait for others, so that less has to be kept: a list for the beginning of the others, the part of a
// split command for that of the keys before its first one. Those it waits for do not stand behind it on its connection, which has the
// parts in the order of their first keys - unless they are being sent again.
func (f *fanout) ahead(t *part) bool {
	p := f.place
	s := p.session
	switch {
	case f.kept < s.front.allowed.replies || f.uneven || s.first != p:
		return false
	case f.many.asking():
		return true
	case len(f.order) > 0:
		return p.begun && !t.reply.within && s.owner.Gated == 0
	}
	return !p.begun && t.link != nil
}

// joined passes on the elements of all parts as they come, once it is sure that none is an error: lists of all keys may be large, and
// their order means nothing.
func (f *fanout) joined() {
	p := f.place
	switch {
	case p.begun:
	case f.uneven:
		p.session.owner.Resume() // all have to come to their end
		f.merged()
		return
	case f.opened < len(f.parts), f.hides && f.left > 0 && f.kept < p.session.front.allowed.replies:
		return
	case f.hides && f.left == 0:
		f.joinVisible()
		return
	default:
		total := 0
		for i := range f.parts {
			total += f.parts[i].reply.count
		}
		f.begin(f.parts[0].reply.kind, total)
		p.session.owner.Resume() // those that have waited
	}
	for i := range f.parts {
		f.pass(f.parts[i].reply.elements())
	}
	if f.left == 0 {
		f.complete(nil, false)
	}
}

// lostWithin is why a session ends in the middle of a reply, the rest of which will not come.
const lostWithin = "connection to Redis was lost, or an error met, in the middle of a reply"

// pass passes on bytes that were kept.
func (f *fanout) pass(b []byte) {
	if len(b) > 0 {
		f.place.answer(b, false)
		f.keep(-len(b))
	}
}

package upstream

import "readthrough/internal/frame"

// streamFrom is the size in bytes from which an unfinished reply is passed on in parts instead of being collected.
const streamFrom = 16 << 10

// parts cuts what a node sends into whole replies, and large ones into parts that are passed on as they come.
type parts struct {
	replies frame.Replies
	within  bool // a part of the current reply was passed on
	kind    byte // type of the current reply
	// cutsPushes says that also pushes are passed on in parts. Else they are collected, since what comes over another connection
	// may not stand between the parts.
	cutsPushes bool
}

// next returns the length of the reply, or of its part, at the start of the unread input b, and whether that ends it. It is 0
// when more bytes are needed. first says that it begins a reply.
func (p *parts) next(b []byte) (n int, first, last bool, err error) {
	first = !p.within
	n, err = p.replies.Next(b)
	if err != nil || n > 0 {
		if first && n > 0 {
			p.kind = b[0]
		}
		p.within = false
		return n, first, true, err
	}
	// An error is collected, since it may be a redirect.
	if len(b) < streamFrom || first && (b[0] == '-' || b[0] == '>' && !p.cutsPushes) {
		return 0, first, false, nil
	}
	if first {
		p.kind = b[0]
	}
	p.within = true
	return p.replies.Take(), first, false, nil
}

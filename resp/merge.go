package resp

import (
	"bytes"
	"strconv"

	"readthrough/internal/command"
	"readthrough/internal/frame"
)

// merge appends to dst the one reply made of the replies of all parts, which are whole, at least one, and no errors. ok is false
// where they do not go together.
func merge(dst []byte, how command.Response, replies [][]byte) (_ []byte, ok bool) {
	switch how {
	case command.ResponseOneSucceeded, command.ResponseAllSucceeded:
		return append(dst, replies[0]...), true
	case command.ResponseAggLogicalAnd, command.ResponseAggMin: // of 0 and 1 they are the same
		return fold(dst, func(a, b int64) int64 { return min(a, b) }, replies)
	case command.ResponseAggLogicalOr, command.ResponseAggMax:
		return fold(dst, func(a, b int64) int64 { return max(a, b) }, replies)
	case command.ResponseAggSum, command.ResponseSumPairs:
		return fold(dst, func(a, b int64) int64 { return a + b }, replies)
	case command.ResponseUnion:
		return union(dst, replies)
	default: // they have to be the same
		for _, reply := range replies {
			if !bytes.Equal(reply, replies[0]) {
				return dst, false
			}
		}
		return append(dst, replies[0]...), true
	}
}

// fold merges integers by a function of two, and aggregates of one size by position. What else they hold must be the same in all.
func fold(dst []byte, of func(a, b int64) int64, replies [][]byte) (_ []byte, ok bool) {
	if replies[0][0] == ':' {
		result, ok := integer(replies[0])
		for _, reply := range replies[1:] {
			n, isInteger := integer(reply)
			result, ok = of(result, n), ok && isInteger
		}
		return append(strconv.AppendInt(append(dst, ':'), result, 10), "\r\n"...), ok
	}
	kind, n, size := header(replies[0])
	if n < 0 {
		return merge(dst, command.ResponseDefault, replies)
	}
	elements := make([][][]byte, len(replies))
	for i, reply := range replies {
		elements[i] = frame.Elements(reply)
		if !bytes.HasPrefix(reply, replies[0][:size]) || elements[i] == nil {
			return dst, false
		}
	}
	dst = appendHeader(dst, kind, n)
	at := make([][]byte, len(replies))
	for i := range elements[0] {
		for r := range elements {
			at[r] = elements[r][i]
		}
		if dst, ok = fold(dst, of, at); !ok {
			return dst, false
		}
	}
	return dst, true
}

// union joins arrays or sets and leaves out the elements that were there before.
func union(dst []byte, replies [][]byte) (_ []byte, ok bool) {
	var all []byte
	seen := map[string]bool{}
	for _, reply := range replies {
		if reply[0] != replies[0][0] || reply[0] != '*' && reply[0] != '~' {
			return dst, false
		}
		for _, element := range frame.Elements(reply) {
			if !seen[string(element)] {
				seen[string(element)] = true
				all = append(all, element...)
			}
		}
	}
	return append(appendHeader(dst, replies[0][0], len(seen)), all...), true
}

// stream is a reply as it comes, an aggregate mostly, from whose beginning elements are taken.
type stream struct {
	bytes  []byte // what is kept of it, the taken ones first
	taken  int    // of bytes
	kind   byte   // of the reply; with the number of elements, or of pairs in a map, and the size of the header, once that has come
	count  int
	header int
	within bool          // behind the header
	inner  frame.Replies // finds where the next element ends
}

// add takes in the next bytes.
func (r *stream) add(b []byte) {
	if r.taken > len(r.bytes)/2 {
		r.bytes = r.bytes[:copy(r.bytes, r.rest())]
		r.taken = 0
	}
	r.bytes = append(r.bytes, b...)
	if r.header == 0 {
		r.kind, r.count, r.header = header(r.bytes)
	}
}

// rest are the bytes that were not taken.
func (r *stream) rest() []byte { return r.bytes[r.taken:] }

// take takes n bytes. They are valid until the next add.
func (r *stream) take(n int) []byte {
	b := r.rest()[:n]
	r.taken += n
	if r.taken == len(r.bytes) {
		r.taken = 0
		if r.bytes = r.bytes[:0]; cap(r.bytes) > maxKeptReply {
			r.bytes = nil
		}
	}
	return b
}

// enter takes the header, and tells whether it has come.
func (r *stream) enter() bool {
	if !r.within && r.header > 0 {
		r.take(r.header)
		r.within = true
	}
	return r.within
}

// next takes what has come of the next element. whole tells that it ends there.
func (r *stream) next() (b []byte, whole bool) {
	if !r.enter() {
		return nil, false
	}
	n, err := r.inner.Next(r.rest()) // a whole reply was framed: there is no error
	if n == 0 || err != nil {
		return r.take(r.inner.Take()), false
	}
	return r.take(n), true
}

// element is next for an element that has come whole. null tells that it is one: the rest of a larger one may look the same.
func (r *stream) element() (b []byte, null, whole bool) {
	rest := r.inner.Within()
	b, whole = r.next()
	return b, whole && !rest && isNull(b), whole
}

// some takes what has come of the next element, of which some has not. It takes nothing of one that could become a null.
func (r *stream) some() []byte {
	if !r.enter() || !r.inner.Within() && len(r.rest()) < len(nullBulk) {
		return nil
	}
	b, _ := r.next()
	return b
}

// elements takes the elements that have come whole.
func (r *stream) elements() []byte {
	if !r.enter() {
		return nil
	}
	size := 0
	for rest := r.rest(); size < len(rest); {
		n, err := r.inner.Next(rest[size:])
		if n == 0 || err != nil {
			break
		}
		size += n
	}
	return r.take(size)
}

// inOrder passes the elements of several replies to emit, as far as they have come: order names, for each element from next on, the
// reply whose first one it is. It returns the index of the element that has not come whole.
func inOrder(order []int32, next int, reply func(n int32) *stream, emit func(b []byte)) int {
	for ; next < len(order); next++ {
		r := reply(order[next])
		b, whole := r.next()
		emit(b)
		if !whole {
			break
		}
	}
	return next
}

// header reads the header of a reply of which at least the beginning is there: its type, its number of elements, or of pairs in a
// map, and its size in bytes. n is -1 for what is no aggregate, and for a null. The size is 0 while the header is not whole.
func header(reply []byte) (kind byte, n, size int) {
	end := bytes.IndexByte(reply, '\n')
	if end < 0 {
		return 0, 0, 0
	}
	n = -1
	switch kind = reply[0]; kind {
	case '*', '~', '%':
		n, _ = strconv.Atoi(string(reply[1 : end-1])) // it was framed: it is a number
	}
	return kind, n, end + 1
}

// appendHeader appends the header of an aggregate.
func appendHeader(dst []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(dst, kind), int64(n), 10), "\r\n"...)
}

// integer reads an integer reply.
func integer(reply []byte) (int64, bool) {
	if len(reply) < 4 || reply[0] != ':' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(reply[1:len(reply)-2]), 10, 64)
	return n, err == nil
}

// isError tells whether a reply is an error, simple or, in RESP3, a bulk.
func isError(reply []byte) bool {
	return len(reply) > 0 && (reply[0] == '-' || reply[0] == '!')
}

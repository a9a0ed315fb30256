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

// inOrder appends to dst an array of the elements of all replies: order names, for each, the reply whose next one it is. ok is
// false where a reply is no array of as many elements as order names it.
func inOrder(dst []byte, order []int32, replies [][]byte) (_ []byte, ok bool) {
	elements := make([][][]byte, len(replies))
	for i, reply := range replies {
		if reply[0] != '*' {
			return dst, false
		}
		elements[i] = frame.Elements(reply)
	}
	dst = appendHeader(dst, '*', len(order))
	for _, i := range order {
		if len(elements[i]) == 0 {
			return dst, false
		}
		dst = append(dst, elements[i][0]...)
		elements[i] = elements[i][1:]
	}
	for _, left := range elements {
		if len(left) > 0 {
			return dst, false
		}
	}
	return dst, true
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

package frame

import "bytes"

// Elements cuts an aggregate reply of RESP2 or RESP3 into its elements, each whole and unchanged; of a map, names and values in
// turn. It is nil for a null and for a reply that is no aggregate. b must be one whole reply, and the elements point into it.
func Elements(b []byte) [][]byte {
	end := bytes.IndexByte(b, '\n')
	if end < 2 || !bytes.ContainsRune([]byte("*~>%"), rune(b[0])) {
		return nil
	}
	n, ok := parseInt(b[1 : end-1])
	if !ok || n < 0 {
		return nil
	}
	if b[0] == '%' {
		n *= 2
	}
	elements := make([][]byte, 0, min(n, int64(len(b)/3))) // no element is shorter than three bytes
	rest := b[end+1:]
	for range n {
		var one Replies
		size, err := one.Next(rest)
		if err != nil || size == 0 {
			return nil
		}
		elements = append(elements, rest[:size])
		rest = rest[size:]
	}
	return elements
}

// Text is what a whole string reply, simple or bulk, says; nil for a null and for any other reply.
func Text(b []byte) []byte {
	end := bytes.IndexByte(b, '\n')
	if end < 2 {
		return nil
	}
	switch b[0] {
	case '+':
		return b[1 : end-1]
	case '$':
		if n, ok := parseInt(b[1 : end-1]); ok && n >= 0 && int64(len(b)) == int64(end)+1+n+2 {
			return b[end+1 : end+1+int(n)]
		}
	}
	return nil
}

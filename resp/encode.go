package resp

import (
	"strconv"

	"github.com/tidwall/redcon"
)

// What RESP3 has types for is written in the session's protocol: RESP2 has arrays and bulk strings in their place.

// appendMap appends the head of a map with n pairs.
func (s *session) appendMap(b []byte, n int) []byte {
	if s.identity.Protocol == 3 {
		return appendHead(b, '%', n)
	}
	return redcon.AppendArray(b, 2*n)
}

// appendSet appends the head of a set of n elements.
func (s *session) appendSet(b []byte, n int) []byte {
	if s.identity.Protocol == 3 {
		return appendHead(b, '~', n)
	}
	return redcon.AppendArray(b, n)
}

// text is a reply for people: verbatim in RESP3.
func (s *session) text(text string) []byte {
	if s.identity.Protocol == 3 {
		text = "txt:" + text
		return append(append(appendHead(nil, '=', len(text)), text...), "\r\n"...)
	}
	return redcon.AppendBulkString(nil, text)
}

// appendHead appends the head of a type that redcon does not write.
func appendHead(b []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(b, kind), int64(n), 10), "\r\n"...)
}

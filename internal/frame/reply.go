package frame

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// ErrReply is wrapped by the errors of Replies: the connection they came from cannot be read any further.
var ErrReply = errors.New("malformed reply from Redis")

// Replies frames the replies of one connection to Redis, in constant memory at any depth of nesting: one counter holds how
// many values the current reply still needs (an aggregate adds its children, an attribute takes none). The zero
// value is ready.
type Replies struct {
	left    int64 // values the reply needs still; 0 between replies
	skip    int64 // bytes of a bulk, with its line end, still to come
	number  int64 // of the header line being read
	digits  int8  // of that number
	minus   bool
	kind    byte // type of the line being read, 0 between lines
	scanned int  // bytes of b that earlier calls have scanned
}

// Next looks for the end of the reply at the start of b, the connection's unread input, and returns its length, or 0 when
// more bytes are needed: call it again with the same unread input and what has come since.
func (r *Replies) Next(b []byte) (n int, err error) {
	if r.scanned == 0 && r.left == 0 {
		r.left = 1
	}
	pos, err := r.scan(b, r.scanned)
	r.scanned = pos
	if err != nil || r.left > 0 {
		return 0, err
	}
	r.scanned = 0
	return pos, nil
}

// Take gives up the bytes scanned so far of the reply that Next found incomplete, for a reply that is passed on in parts. The
// next call of Next has to start behind them and then returns the length of the rest.
func (r *Replies) Take() (n int) {
	n, r.scanned = r.scanned, 0
	return n
}

// Within tells that the bytes before the unread input belong to the same reply, after Take.
func (r *Replies) Within() bool { return r.left > 0 }

func (r *Replies) scan(b []byte, pos int) (int, error) {
	for r.left > 0 {
		if r.skip > 0 {
			rest := int64(len(b) - pos)
			if rest < r.skip {
				r.skip -= rest
				return len(b), nil
			}
			pos += int(r.skip)
			r.skip = 0
			r.left--
			continue
		}
		if pos == len(b) {
			return pos, nil
		}
		if r.kind == 0 {
			r.kind = b[pos]
			r.number, r.digits, r.minus = 0, 0, false
			pos++
		}
		var whole bool
		var err error
		if pos, whole, err = r.line(b, pos); err != nil || !whole {
			return pos, err
		}
		kind := r.kind
		r.kind = 0
		if err := r.value(kind); err != nil {
			return pos, err
		}
	}
	return pos, nil
}

// line scans the rest of a header line, and its number where the type has a length.
func (r *Replies) line(b []byte, pos int) (next int, whole bool, err error) {
	switch r.kind {
	case '$', '*', '%', '~', '>', '|', '=', '!':
		for ; pos < len(b); pos++ {
			switch c := b[pos]; {
			case c >= '0' && c <= '9' && r.digits < 18:
				r.number = r.number*10 + int64(c-'0')
				r.digits++
			case c == '-' && r.digits == 0 && !r.minus:
				r.minus = true
			case c == '\r':
			case c == '\n' && r.digits > 0:
				return pos + 1, true, nil
			default:
				return pos, false, fmt.Errorf("%w: byte %q in a length", ErrReply, c)
			}
		}
		return pos, false, nil
	case '+', '-', ':', ',', '(', '#', '_':
		if end := bytes.IndexByte(b[pos:], '\n'); end >= 0 {
			return pos + end + 1, true, nil
		}
		return len(b), false, nil
	}
	return pos, false, fmt.Errorf("%w: unknown type %q", ErrReply, r.kind)
}

// value counts a header line that is whole.
func (r *Replies) value(kind byte) error {
	var children int64
	switch kind {
	case '$', '=', '!':
		if r.minus {
			r.left-- // null
			return nil
		}
		r.skip = r.number + 2
		return nil
	case '*', '~', '>':
		if !r.minus {
			children = r.number
		}
	case '%':
		children = 2 * r.number
	case '|':
		children = 2*r.number + 1 // an attribute is no value: the one it describes follows
	}
	if r.left > math.MaxInt64-children {
		return fmt.Errorf("%w: too many values", ErrReply)
	}
	r.left += children - 1
	return nil
}

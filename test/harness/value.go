package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Value is a decoded RESP2 or RESP3 reply. This reader is simple, recursive and shares no code with the product, which tests
// compare with it.
type Value struct {
	Type  byte    // the first byte of the reply: '+', '-', ':', '$', '*', '%', …
	Str   string  // of a scalar: its text without framing; a verbatim string keeps its "txt:"
	Elems []Value // of an aggregate: its elements; a map has keys and values in turn
	Null  bool    // $-1, *-1 or _
	Attrs []Value // RESP3 attributes before the reply, names and values in turn
}

// ReplyError is an error reply of Redis, such as "ERR unknown command", without its framing.
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// Err is the error that the reply is, or nil.
func (v Value) Err() error {
	if v.Type == '-' || v.Type == '!' {
		return ReplyError(v.Str)
	}
	return nil
}

// Strings are the texts of an aggregate's elements.
func (v Value) Strings() []string {
	s := make([]string, len(v.Elems))
	for i, e := range v.Elems {
		s[i] = e.Str
	}
	return s
}

// Decode reads one whole reply from its bytes.
func Decode(raw []byte) (Value, error) {
	r := replyReader{src: bufio.NewReader(bytes.NewReader(raw))}
	v, err := r.value()
	if err == nil && len(r.raw) != len(raw) {
		err = fmt.Errorf("%d bytes after the reply", len(raw)-len(r.raw))
	}
	return v, err
}

// replyReader decodes one reply and keeps its bytes.
type replyReader struct {
	src *bufio.Reader
	raw []byte
}

func (r *replyReader) value() (Value, error) {
	line, err := r.line()
	if err != nil {
		return Value{}, err
	}
	v := Value{Type: line[0], Str: string(line[1:])}
	switch v.Type {
	case '+', '-', ':', ',', '#', '(':
		return v, nil
	case '_':
		v.Null = true
		return v, nil
	case '$', '!', '=':
		return r.bulk(v)
	case '*', '~', '>':
		return r.elements(v, 1)
	case '%':
		return r.elements(v, 2)
	case '|':
		attrs, err := r.elements(v, 2)
		if err != nil {
			return Value{}, err
		}
		v, err = r.value()
		v.Attrs = append(attrs.Elems, v.Attrs...)
		return v, err
	default:
		return Value{}, fmt.Errorf("%q begins no reply", line)
	}
}

func (r *replyReader) bulk(v Value) (Value, error) {
	n, err := length(v.Str)
	if err != nil || n < 0 {
		return Value{Type: v.Type, Null: n < 0}, err
	}
	start := len(r.raw)
	r.raw = append(r.raw, make([]byte, n+2)...)
	if _, err := io.ReadFull(r.src, r.raw[start:]); err != nil {
		return Value{}, unexpected(err)
	}
	body := r.raw[start:]
	if !bytes.HasSuffix(body, []byte("\r\n")) {
		return Value{}, fmt.Errorf("bulk string of %d bytes ends in %q", n, body[n:])
	}
	v.Str = string(body[:n])
	return v, nil
}

func (r *replyReader) elements(v Value, width int) (Value, error) {
	n, err := length(v.Str)
	v.Str = ""
	if err != nil || n < 0 {
		v.Null = n < 0
		return v, err
	}
	for range n * width {
		e, err := r.value()
		if err != nil {
			return Value{}, unexpected(err)
		}
		v.Elems = append(v.Elems, e)
	}
	return v, nil
}

// line reads up to and without CR LF; it is never empty.
func (r *replyReader) line() ([]byte, error) {
	line, err := r.src.ReadBytes('\n')
	r.raw = append(r.raw, line...)
	switch {
	case err != nil && len(line) > 0:
		return nil, unexpected(err)
	case err != nil:
		return nil, err
	case len(line) < 3 || line[len(line)-2] != '\r':
		return nil, fmt.Errorf("%q is no line of RESP", line)
	}
	return line[:len(line)-2], nil
}

// length parses a length; -1 is null.
func length(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < -1 || n > 1<<30 {
		return 0, fmt.Errorf("%q is no length", s)
	}
	return n, nil
}

// unexpected turns an end inside a reply into an error that says so.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

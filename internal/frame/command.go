package frame

import (
	"math"

	"github.com/tidwall/redcon"
)

// The limits of Redis: PROTO_INLINE_MAX_SIZE and the default of proto-max-bulk-len, in bytes.
const (
	maxLine = 64 << 10
	maxBulk = 512 << 20
)

// The limits of Redis for a client that has not authenticated and has to.
const (
	maxUnauthenticatedArgs = 10
	maxUnauthenticatedBulk = 16 << 10
)

// LargeCommand is the size in bytes above which a command is streamed instead of collected.
const LargeCommand = 1 << 20

// ProtocolError is what Redis answers to a stream that it cannot read, before it closes the connection. The text is that of
// the RESP error, without the leading "-".
type ProtocolError string

func (e ProtocolError) Error() string { return string(e) }

// Status tells what Next or Stream found.
type Status uint8

const (
	// Incomplete: nothing can be taken yet, more bytes are needed.
	Incomplete Status = iota
	// Complete: Raw and the arguments hold one whole command; N is 0 for one that Redis ignores ("*0", an empty line).
	Complete
	// Large: the command is too large to be collected. Raw holds its bytes up to and with the header of the argument that
	// makes it so; the arguments before that can be read, and the rest of the command comes through Stream.
	Large
)

// span is an argument's place in Raw.
type span struct{ start, end int }

// Leading is the number of arguments that Arg finds: enough for the name, the subcommand and the first key of almost any
// command. All of them are found by Args.
const Leading = 4

// Commands frames the commands of one client. The zero value is ready.
type Commands struct {
	// Limit takes the place of LargeCommand unless it is 0. It may change at any time: an unfinished argument of which more
	// has come makes its command large then.
	Limit int
	// Unauthenticated says that the client has not authenticated and has to: Redis takes far less of it.
	Unauthenticated bool

	// Raw is the framed command in RESP, valid until the unread input it was found in changes.
	Raw []byte
	// N is the number of its arguments, the name included.
	N int

	spans  [Leading]span
	inline []byte // an inline command written again as RESP

	// The unfinished command, in offsets from its first byte.
	pos       int   // what is scanned
	search    int   // where the search for the end of the current line goes on
	args      int64 // arguments announced; 0 when the command's first line is next
	seen      int64 // arguments whole
	bulk      int64 // length of the argument being read, or -1 when its header is next
	streaming bool
}

// Next looks for one command at the start of b, the client's unread input, and returns the bytes that it takes. After
// Incomplete, call it again with the same unread input and what has come since. The error is a ProtocolError.
func (c *Commands) Next(b []byte) (n int, status Status, err error) {
	if c.pos == 0 {
		if len(b) == 0 {
			return 0, Incomplete, nil
		}
		if b[0] != '*' {
			return c.nextInline(b)
		}
		c.args, c.seen, c.bulk = 0, 0, -1
		head, ok, err := c.header(b, 0, "too big mbulk count string")
		if !ok || err != nil {
			return 0, Incomplete, err
		}
		count, ok := parseInt(head[1:])
		if !ok || count > math.MaxInt32 {
			return 0, Incomplete, ProtocolError("ERR Protocol error: invalid multibulk length")
		}
		if c.Unauthenticated && count > maxUnauthenticatedArgs {
			return 0, Incomplete, ProtocolError("ERR Protocol error: unauthenticated multibulk length")
		}
		if count <= 0 {
			n, c.pos, c.search = c.pos, 0, 0
			c.Raw, c.N = nil, 0
			return n, Complete, nil
		}
		c.args = count
	}
	done, large, err := c.arguments(b, true)
	switch {
	case err != nil:
		return 0, Incomplete, err
	case done:
		n, c.pos, c.search = c.pos, 0, 0
		c.Raw, c.N = b[:n], int(c.args)
		return n, Complete, nil
	case large:
		n, c.pos, c.search = c.pos, 0, 0
		c.Raw, c.N = b[:n], int(c.args)
		c.streaming = true
		return n, Large, nil
	}
	return 0, Incomplete, nil
}

// Streaming tells that a Large command is not at its end, so that Stream has to be called.
func (c *Commands) Streaming() bool { return c.streaming }

// Stream takes the bytes of a Large command that follow those of Next: b[:n] belongs to it, and Complete says that it ends
// there.
func (c *Commands) Stream(b []byte) (n int, status Status, err error) {
	done, _, err := c.arguments(b, false)
	n = c.pos
	c.pos, c.search = 0, max(c.search-n, 0)
	if err != nil {
		return n, Incomplete, err
	}
	if done {
		c.streaming, c.search = false, 0
		return n, Complete, nil
	}
	return n, Incomplete, nil
}

// maxInline is the size in bytes up to which the buffer of inline commands is kept for the next one.
const maxInline = 1 << 10

// Trim frees what the command took: its buffer is the caller's, and may be as large as a command can be. Raw is not valid any more.
func (c *Commands) Trim() {
	c.Raw = nil
	if cap(c.inline) > maxInline {
		c.inline = nil
	}
}

// Unread forgets the command that Next just returned, so that it is framed again from its first byte.
func (c *Commands) Unread() { c.pos, c.search, c.streaming = 0, 0, false }

// header finds the line that starts at b[start] and moves pos behind it. It is not ok when more bytes are needed. The line may be
// empty. search must stand at start or where an earlier call left it.
func (c *Commands) header(b []byte, start int, tooBig string) (line []byte, ok bool, err error) {
	at, next := indexLine(b, c.search, '\r')
	c.search = next
	if at < 0 {
		if len(b)-start > maxLine {
			return nil, false, ProtocolError("ERR Protocol error: " + tooBig)
		}
		return nil, false, nil
	}
	if at+1 >= len(b) { // Redis takes whatever byte follows the \r for the \n, but it has to be there
		return nil, false, nil
	}
	c.pos = at + 2
	return b[start:at], true, nil
}

// arguments scans as many arguments as b holds, noting the places of the first ones when collecting. When it is not, whole
// parts of arguments count as scanned, and nothing is large.
func (c *Commands) arguments(b []byte, collecting bool) (done, large bool, err error) {
	pos := c.pos
	limit := c.Limit
	if limit == 0 {
		limit = LargeCommand
	}
	for c.seen < c.args {
		if c.bulk < 0 {
			// The common header, "$" and a few digits, read in place.
			if p, size := shortHeader(b, pos); p > 0 {
				c.bulk, pos = size, p
			} else if pos >= len(b) {
				break
			} else {
				c.pos = pos
				c.search = max(c.search, pos)
				head, ok, err := c.header(b, pos, "too big bulk count string")
				if !ok || err != nil {
					return false, false, err
				}
				if b[pos] != '$' {
					return false, false, ProtocolError("ERR Protocol error: expected '$', got '" + printable(b[pos]) + "'")
				}
				size, ok := parseInt(head[1:])
				if !ok || size < 0 || size > maxBulk {
					return false, false, ProtocolError("ERR Protocol error: invalid bulk length")
				}
				c.bulk, pos = size, c.pos
			}
			if c.Unauthenticated && c.bulk > maxUnauthenticatedBulk {
				return false, false, ProtocolError("ERR Protocol error: unauthenticated bulk length")
			}
			if collecting {
				if c.seen < Leading {
					c.spans[c.seen] = span{pos, pos + int(c.bulk)}
				}
				if pos+int(c.bulk) > limit {
					return false, c.stream(pos), nil
				}
			} else {
				c.bulk += 2
			}
		}
		if !collecting {
			if rest := int64(len(b) - pos); rest < c.bulk {
				c.bulk -= rest
				pos = len(b)
				break
			}
			pos += int(c.bulk)
		} else {
			if int64(len(b)-pos) < c.bulk+2 {
				if len(b) > limit {
					return false, c.stream(pos), nil
				}
				break
			}
			pos += int(c.bulk) + 2
		}
		c.bulk = -1
		c.seen++
	}
	c.pos = pos
	return c.seen == c.args, false, nil
}

// stream ends the collecting before the argument that starts at pos. From here on bulk counts down, the line end with it.
func (c *Commands) stream(pos int) bool {
	c.pos = pos
	c.bulk += 2
	return true
}

// shortHeader reads "$", one to five digits and a line end at b[pos:], and returns the place behind it and the number. The
// place is 0 for anything else, which takes the long way.
func shortHeader(b []byte, pos int) (next int, size int64) {
	if len(b)-pos < 4 || b[pos] != '$' {
		return 0, 0
	}
	d := b[pos+1]
	if d == '0' {
		if b[pos+2] != '\r' {
			return 0, 0
		}
		return pos + 4, 0
	}
	var n int64
	for i := pos + 1; i < pos+6 && i < len(b); i++ {
		d := b[i]
		if d == '\r' && i > pos+1 && i+1 < len(b) {
			return i + 2, n
		}
		if d < '0' || d > '9' {
			return 0, 0
		}
		n = n*10 + int64(d-'0')
	}
	return 0, 0
}

// printable is a byte as Redis's error prints it: its line ends become blanks.
func printable(b byte) string {
	if b == '\r' || b == '\n' {
		return " "
	}
	return string([]byte{b})
}

// nextInline frames a line of blank-separated, possibly quoted words, and writes it again as RESP: the upstream then sees one
// form only.
func (c *Commands) nextInline(b []byte) (int, Status, error) {
	at, next := indexLine(b, c.search, '\n')
	c.search = next
	if at < 0 {
		if len(b) > maxLine {
			return 0, Incomplete, ProtocolError("ERR Protocol error: too big inline request")
		}
		return 0, Incomplete, nil
	}
	c.search = 0
	line := b[:at]
	if at > 0 && line[at-1] == '\r' {
		line = line[:at-1]
	}
	words, ok := splitWords(line)
	if !ok {
		return 0, Incomplete, ProtocolError("ERR Protocol error: unbalanced quotes in request")
	}
	c.inline = c.inline[:0]
	c.N = len(words)
	if len(words) > 0 {
		c.inline = redcon.AppendArray(c.inline, len(words))
	}
	for i, word := range words {
		c.inline = redcon.AppendBulk(c.inline, word)
		if i < Leading {
			end := len(c.inline) - 2
			c.spans[i] = span{end - len(word), end}
		}
	}
	c.Raw = c.inline
	return at + 1, Complete, nil
}

// Arg returns argument i, below Leading and N, of the command just framed; of a Large one, only those that are whole.
// It points into Raw.
func (c *Commands) Arg(i int) []byte { return c.Raw[c.spans[i].start:c.spans[i].end] }

// Arguments tells how many arguments of the command just framed are whole: all, or those before a Large one.
func (c *Commands) Arguments() int {
	if c.streaming {
		return int(c.seen)
	}
	return c.N
}

// Args appends all arguments of raw, a command that was framed Complete, to dst. They point into raw.
func Args(dst [][]byte, raw []byte) [][]byte {
	pos := skipLine(raw, 0)
	for pos < len(raw) {
		next, size := shortHeader(raw, pos)
		if next == 0 {
			next = skipLine(raw, pos)
			size, _ = parseInt(raw[pos+1 : next-2])
		}
		dst = append(dst, raw[next:next+int(size)])
		pos = next + int(size) + 2
	}
	return dst
}

// skipLine returns the place behind the header line that starts at raw[pos].
func skipLine(raw []byte, pos int) int {
	for raw[pos] != '\r' {
		pos++
	}
	return pos + 2
}

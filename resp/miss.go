package resp

import (
	"bytes"

	"github.com/tidwall/redcon"

	"readthrough/internal/frame"
)

// Resolver answers misses from the origin.
type Resolver interface {
	// Mapped tells whether a map matches the key. It is called on the loops and must be quick.
	Mapped(key []byte) bool
	// Get loads the key's value and calls done once, on any goroutine. It must not block, and not keep key. found is false when
	// the origin has no value; the text of err becomes a RESP error.
	Get(key []byte, done func(value []byte, found bool, err error))
}

var (
	nullBulk = []byte("$-1\r\n") // RESP2
	null     = []byte("_\r\n")   // RESP3
)

func isNull(b []byte) bool { return bytes.Equal(b, nullBulk) || bytes.Equal(b, null) }

// missed looks at the beginning of the reply to an intercepted GET, and takes the place over when it is a miss: Redis has no value, and a
// map says where there may be one. The replies behind it wait.
func (s *session) missed(p *place, raw, reply []byte) bool {
	f := s.front
	if f.resolver == nil {
		return false
	}
	f.args = frame.Args(f.args[:0], raw)
	key := f.args[1]
	switch {
	case reply[0] == '-', !f.resolver.Mapped(key):
		return false
	case !isNull(reply):
		f.stats.Hits++
		return false
	}
	f.stats.Misses++
	f.resolver.Get(key, func(value []byte, found bool, err error) {
		f.loop.Post(func() { p.resolved(value, found, err) })
	})
	return true
}

// resolved answers a miss.
func (p *place) resolved(value []byte, found bool, err error) {
	s := p.session
	switch {
	case s == nil:
		p.front.put(p)
	case err != nil:
		p.fail(err)
	case found:
		p.front.stats.replied(p.info, false)
		p.answer(redcon.AppendBulk(make([]byte, 0, len(value)+16), value), true)
	default:
		p.front.stats.replied(p.info, false)
		p.answer(s.null(), true)
	}
}

// null is the null reply in the session's protocol.
func (s *session) null() []byte {
	if s.identity.Protocol == 3 {
		return null
	}
	return nullBulk
}

package resp

import (
	"bytes"
	"strings"
	"time"

	"readthrough/internal/frame"
)

// failOpenPatience is how long Redis is waited for where the origin can answer in its place: about what a lost connection takes to be
// replaced while its node is there. A failover takes seconds.
const failOpenPatience = 250 * time.Millisecond

// failOpenPatience is that of the command just framed, or 0 where the origin may not answer it: nobody but Redis can tell what a
// client's own user may read, and a write that is on its way may be one of the same key.
func (s *session) failOpenPatience() time.Duration {
	if !s.front.failOpen || s.identity.Own || s.writing > 0 {
		return 0
	}
	return failOpenPatience
}

// writes tells whether a place's command may be a write that what comes behind it has to see.
func (p *place) writes() bool { return !p.unresolved && (p.info == nil || p.info.Write) }

// failsOpen tells whether the origin answers a command in the place of an error.
func (p *place) failsOpen(text string) bool { return p.Patience > 0 && unavailable(text) }

// unavailable tells whether an error says that Redis cannot be asked, rather than what it thinks of the command.
func unavailable(text string) bool {
	for _, prefix := range []string{"UPSTREAMDOWN ", "UPSTREAMLOST ", "CLUSTERDOWN ", "LOADING ", "MASTERDOWN "} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// failOpen has the origin answer an intercepted command of one key, raw, in the place of an error.
func (s *session) failOpen(p *place, raw []byte, cause error) {
	f := s.front
	f.stats.FailOpen++
	f.args = frame.Args(f.args[:0], raw)
	first := p.info.FirstKey()
	var key []byte
	if s.tracking != nil {
		key = bytes.Clone(f.args[first])
	}
	f.resolver.Resolve(f.args[first:first+1], FailOpen, func(answers []Answer) {
		f.loop.Post(func() {
			p.loaded = &answers[0]
			switch err := rather(answers[0].Err, cause); {
			case p.session == nil:
				f.put(p)
			case err != nil:
				p.fail(err)
			case s.tracking != nil: // nobody will tell it of a change
				p.load(s.invalidation(key))
			default:
				p.load(nil)
			}
		})
	})
}

// rather is the error to answer where the origin was asked because of another one. Where it would not be asked so much, what is
// wrong is still the cause.
func rather(err, cause error) error {
	if err != nil && strings.HasPrefix(err.Error(), "ORIGINBUSY ") {
		return cause
	}
	return err
}

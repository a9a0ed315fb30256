package resp

import (
	"bytes"
	"strings"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// learns has Redis asked about a command that the table lacks, if that was not done a moment ago. The session waits and then sees
// the command again. Where Redis does not answer, the command is relayed as it is; but where it may be a write before which leases have to
// be removed, the error is its answer.
func (s *session) learns() bool {
	if s.commands.Arguments() == 0 {
		return false
	}
	asking, err := s.front.side.Learn(s.commands.Arg(0), func() {
		if !s.gone {
			s.proceed()
		}
	})
	if asking {
		s.paused = forWork
	}
	if err != nil && s.mapsApply() {
		s.unlocated = relay.Error("ERR Readthrough does not know this command, and cannot ask Redis what it is: " + err.Error())
	}
	return asking
}

// locate has Redis asked where the keys of a command are whose description does not say it: COMMAND GETKEYS, one more round trip for
// every such command. It is false when the session has to wait, and then sees the command again. Where Redis does not tell, the
// command goes to the fixed node, whose redirect says where it belongs; but not where leases may have to be removed before it. Then the
// configured user asks, since the client's own may not, and an error is the command's answer.
func (s *session) locate(info *command.Info, large bool) bool {
	f := s.front
	switch {
	case s.located != nil, s.unlocated != nil, large, s.commands.N == 1, !info.ArityOK(s.commands.N), !f.side.Server().Cluster && f.resolver == nil:
		return true
	case !s.mayRelay():
		return false
	}
	q := &whereabouts{s: s, lane: s.lane, strict: s.mayChangeMapped(info)}
	if q.strict {
		lane, err := f.side.Lane(f.identity())
		if err != nil {
			s.unlocated = err
			return true
		}
		q.lane = lane
	}
	args := s.args()
	raw := redcon.AppendArray(nil, len(args)+2)
	raw = redcon.AppendBulkString(raw, "COMMAND")
	raw = redcon.AppendBulkString(raw, "GETKEYS")
	for _, arg := range args {
		raw = redcon.AppendBulk(raw, arg)
	}
	s.paused = forWork
	owner := &s.owner
	if q.strict { // what is gated on one lane is nothing to those that wait on another
		q.owner.Kill = func(string) {}
		owner = &q.owner
	}
	q.Request = relay.Request{Sink: q, Owner: owner, Slot: relay.AnyNode, Safe: true}
	q.lane.Send(&q.Request, raw)
	return false
}

// whereabouts is the question for a command's keys.
type whereabouts struct {
	relay.Request
	s      *session
	lane   relay.Lane
	owner  relay.Owner // where strict
	strict bool        // all keys have to be known; the lane is that of the configured user
	reply  []byte
}

// Reply implements relay.Sink.
func (q *whereabouts) Reply(_ *relay.Request, b []byte, last bool) bool {
	q.reply = append(q.reply, b...)
	if !last {
		return true
	}
	if isError(q.reply) && !keyless(q.reply) {
		q.answered(relay.Error(strings.TrimRight(string(q.reply[1:]), "\r\n") + " (Readthrough asks for the keys that the command writes)"))
	} else {
		q.answered(nil)
	}
	return true
}

// keyless tells whether the error that COMMAND GETKEYS is answered is about the command in question: it has no keys, or it is wrong, which
// Redis says when it gets it.
func keyless(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("-ERR Invalid ")) || bytes.HasPrefix(reply, []byte("-ERR The command has no key arguments"))
}

// Fail implements relay.Sink.
func (q *whereabouts) Fail(_ *relay.Request, err error) { q.answered(err) }

// answered lets the session go on. Where not all has to be known, the command itself fares no better, and says so.
func (q *whereabouts) answered(err error) {
	s := q.s
	if q.strict {
		q.lane.Release()
	}
	if s.gone {
		return
	}
	if q.strict && err != nil {
		s.unlocated = err
		s.proceed()
		return
	}
	at := relay.AnyNode
	var keys [][]byte
	if err == nil {
		keys = frame.Elements(q.reply)
	}
	for i := range keys {
		keys[i] = frame.Text(keys[i])
	}
	if len(keys) > 0 {
		at = int(slot.Of(keys[0]))
	}
	s.locatedKeys = keys
	s.located = &at
	s.proceed()
}

package resp

import (
	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// learns has Redis asked about a command that the table lacks, if that was not done a moment ago. The session waits and then sees
// the command again.
func (s *session) learns() bool {
	if s.commands.Arguments() == 0 {
		return false
	}
	asking := s.front.side.Learn(s.commands.Arg(0), func() {
		if !s.gone {
			s.proceed()
		}
	})
	if asking {
		s.paused = forWork
	}
	return asking
}

// locate has Redis asked where the keys of a command are whose description does not say it: COMMAND GETKEYS, one more round trip for
// every such command. It is false when the session has to wait, and then sees the command again. Where Redis does not tell, the
// command goes to the fixed node, whose redirect says where it belongs.
func (s *session) locate(info *command.Info, large bool) bool {
	if s.located != nil || large || !info.ArityOK(s.commands.N) || !s.front.side.Server().Cluster && s.front.resolver == nil {
		return true
	}
	if !s.mayRelay() {
		return false
	}
	args := s.args()
	raw := redcon.AppendArray(nil, len(args)+2)
	raw = redcon.AppendBulkString(raw, "COMMAND")
	raw = redcon.AppendBulkString(raw, "GETKEYS")
	for _, arg := range args {
		raw = redcon.AppendBulk(raw, arg)
	}
	s.paused = forWork
	q := &whereabouts{s: s}
	q.Request = relay.Request{Sink: q, Owner: &s.owner, Slot: relay.AnyNode, Safe: true}
	s.lane.Send(&q.Request, raw)
	return false
}

// whereabouts is the question for a command's keys.
type whereabouts struct {
	relay.Request
	s     *session
	reply []byte
}

// Reply implements relay.Sink.
func (q *whereabouts) Reply(_ *relay.Request, b []byte, last bool) bool {
	q.reply = append(q.reply, b...)
	if last {
		q.answered()
	}
	return true
}

// Fail implements relay.Sink: the command itself fares no better, and says so.
func (q *whereabouts) Fail(*relay.Request, error) {
	q.reply = nil
	q.answered()
}

func (q *whereabouts) answered() {
	if q.s.gone {
		return
	}
	at := relay.AnyNode
	keys := frame.Elements(q.reply)
	for i := range keys {
		keys[i] = frame.Text(keys[i])
	}
	if len(keys) > 0 {
		at = int(slot.Of(keys[0]))
	}
	q.s.locatedKeys = keys
	q.s.located = &at
	q.s.proceed()
}

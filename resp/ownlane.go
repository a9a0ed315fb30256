package resp

import (
	"bytes"
	"slices"
	"strings"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// Some commands set a state of the connection that has to hold wherever the session's commands go: CLIENT TRACKING, NO-EVICT,
// NO-TOUCH. The session then leaves the shared lane for one of its own, each connection of which is brought into that state
// before it carries anything.

// setting is such a command that is in force.
type setting struct {
	name string // of the command
	raw  []byte
}

// set handles a command of this kind. Redis judges it, on a connection that is used for nothing else.
func (s *session) set(info *command.Info) bool {
	if !s.quiet() {
		return false
	}
	args := s.args()
	on := len(args) > 2 && strings.EqualFold(string(args[2]), "on")
	var tracked *tracking
	if info.Action == command.ActionClientTracking && on {
		tracked = newTracking(args)
		if tracked.redirects {
			return s.error(info, "ERR CLIENT TRACKING with REDIRECT is not offered: use RESP3, in which invalidations come on the same connection")
		}
	}
	before := s.settings
	after := slices.DeleteFunc(slices.Clone(before), func(x setting) bool { return x.name == info.Name })
	if on {
		after = append(after, setting{info.Name, bytes.Clone(s.commands.Raw)})
	}
	judge := s.front.side.OwnLane(s.identity, relay.Own{Owner: &s.owner, Setup: setup(before)})
	p := s.front.take(s, info)
	p.Slot = relay.AnyNode
	p.inspect = func(b []byte, first, _ bool) bool {
		if !first {
			return false
		}
		judge.Release()
		if b[0] == '-' {
			return false
		}
		s.settings = after
		if info.Action == command.ActionClientTracking {
			s.tracking = tracked
		}
		if err := s.use(s.identity); err != nil {
			p.fail(err)
			return true
		}
		return false
	}
	s.send(p, 0)
	s.paused = forQuiet
	judge.Send(&p.Request, s.commands.Raw)
	return true
}

func setup(settings []setting) [][]byte {
	var all [][]byte
	for _, x := range settings {
		all = append(all, x.raw)
	}
	return all
}

// joinLane returns the lane for an identity: the shared one, or with settings in force one of the session's own.
func (s *session) joinLane(id relay.Identity) (relay.Lane, error) {
	if len(s.settings) == 0 {
		return s.front.side.Lane(id)
	}
	own := relay.Own{Owner: &s.owner, Setup: setup(s.settings)}
	if t := s.tracking; t != nil {
		own.Everywhere = t.broadcast
		own.Push = func(b []byte, _ bool) bool { return s.push(b) }
		own.Lost = func(error) { s.kill("a connection that tracked its keys was lost") }
	}
	return s.front.side.OwnLane(id, own), nil
}

// tracking is CLIENT TRACKING ON.
type tracking struct {
	broadcast, optIn, optOut, noLoop, redirects bool
	prefixes                                    [][]byte
	caching                                     bool // CLIENT CACHING was said, for the next command
}

// newTracking reads the options of CLIENT TRACKING ON. What is wrong with them, Redis says.
func newTracking(args [][]byte) *tracking {
	t := &tracking{}
	for i := 3; i < len(args); i++ {
		switch strings.ToLower(string(args[i])) {
		case "bcast":
			t.broadcast = true
		case "optin":
			t.optIn = true
		case "optout":
			t.optOut = true
		case "noloop":
			t.noLoop = true
		case "prefix":
			if i++; i < len(args) {
				t.prefixes = append(t.prefixes, bytes.Clone(args[i]))
			}
		case "redirect":
			t.redirects = true
		}
	}
	return t
}

// caching handles CLIENT CACHING YES | NO, which is about the next command: it is sent before that, to the same node.
func (s *session) caching(info *command.Info) bool {
	args := s.args()
	t := s.tracking
	word := strings.ToLower(string(args[2]))
	switch {
	case t == nil || !t.optIn && !t.optOut:
		return s.error(info, "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	case word == "yes" && !t.optIn:
		return s.error(info, "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	case word == "no" && !t.optOut:
		return s.error(info, "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	case word != "yes" && word != "no":
		return s.error(info, "ERR syntax error")
	}
	t.caching = true
	return s.ok(info)
}

// sendCaching sends a CLIENT CACHING that waits for the next command, and tells whether there was one.
func (s *session) sendCaching(at int) bool {
	t := s.tracking
	if !t.caching {
		return false
	}
	t.caching = false
	s.lane.Send(&relay.Request{Sink: silence{}, Owner: &s.owner, Slot: at}, t.cachingText())
	return true
}

// cachingText is the one CLIENT CACHING that the mode of tracking knows.
func (t *tracking) cachingText() []byte {
	if t.optIn {
		return []byte("*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n")
	}
	return []byte("*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$2\r\nNO\r\n")
}

func (s *session) clientGetRedir(info *command.Info, _ [][]byte) bool {
	redirect := int64(-1)
	if s.tracking != nil {
		redirect = 0
	}
	s.reply(info, redcon.AppendInt(nil, redirect))
	return true
}

func (s *session) clientTrackingInfo(info *command.Info, _ [][]byte) bool {
	flags, redirect := []string{"off"}, int64(-1)
	var prefixes [][]byte
	if t := s.tracking; t != nil {
		flags, redirect, prefixes = []string{"on"}, 0, t.prefixes
		for _, f := range []struct {
			on   bool
			name string
		}{
			{t.broadcast, "bcast"},
			{t.optIn, "optin"},
			{t.optIn && t.caching, "caching-yes"},
			{t.optOut, "optout"},
			{t.optOut && t.caching, "caching-no"},
			{t.noLoop, "noloop"},
		} {
			if f.on {
				flags = append(flags, f.name)
			}
		}
	}
	b := s.appendMap(nil, 3)
	b = redcon.AppendBulkString(b, "flags")
	b = s.appendSet(b, len(flags))
	for _, f := range flags {
		b = redcon.AppendBulkString(b, f)
	}
	b = redcon.AppendBulkString(b, "redirect")
	b = redcon.AppendInt(b, redirect)
	b = redcon.AppendBulkString(b, "prefixes")
	b = redcon.AppendArray(b, len(prefixes))
	for _, prefix := range prefixes {
		b = redcon.AppendBulk(b, prefix)
	}
	s.reply(info, b)
	return true
}

// replyMode implements CLIENT REPLY ON | OFF | SKIP. Redis goes on answering, and the answers are thrown away here.
func (s *session) replyMode(info *command.Info) bool {
	switch strings.ToLower(string(s.args()[2])) {
	case "on":
		s.silenced = false
		return s.ok(info)
	case "off":
		s.silenced = true
	case "skip":
		s.skips = !s.silenced
	default:
		return s.error(info, "ERR syntax error")
	}
	s.front.stats.replied(info, false)
	return true
}

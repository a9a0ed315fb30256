package resp

import (
	"bytes"
	"slices"
	"strconv"
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
	name string                   // of the command
	text func(addr string) []byte // for a connection to a node
}

// set handles a command of this kind. Redis judges it, on a connection that is used for nothing else.
func (s *session) set(info *command.Info) bool {
	if !s.quiet() {
		return false
	}
	args := s.args()
	on := len(args) > 2 && strings.EqualFold(string(args[2]), "on")
	raw := bytes.Clone(s.commands.Raw)
	to := setting{info.Name, func(string) []byte { return raw }}
	var tracked *tracking
	if info.Action == command.ActionClientTracking && on {
		tracked = newTracking(args)
		if tracked.redirect != 0 {
			return s.redirect(info, tracked)
		}
	}
	s.judge(s.front.take(s, info), to, on, tracked)
	return true
}

// judging is a setting that Redis has not judged yet.
type judging struct {
	place   *place
	setting setting
	on      bool
	tracked *tracking  // that it turns on
	lane    relay.Lane // used for nothing else
}

// judge has Redis judge a setting, and puts it in force.
func (s *session) judge(p *place, to setting, on bool, tracked *tracking) {
	lane := s.front.side.OwnLane(s.identity, relay.Own{Owner: &s.owner, Setup: setup(s.settings)})
	j := &judging{p, to, on, tracked, lane}
	s.judging, s.paused = j, forWork
	lane.Send(&relay.Request{Owner: &s.owner, Slot: relay.AnyNode, Sink: reply(func(b []byte, err error) {
		if s.gone {
			return
		}
		s.judging = nil
		lane.Release()
		if err == nil && b[0] != '-' {
			err = s.force(j)
		}
		switch {
		case err != nil:
			tracked.end()
			p.fail(err)
			s.proceed()
		case b[0] == '-':
			tracked.end()
			s.settle(p, b)
		case tracked != nil && tracked.broadcast:
			s.front.loop.Post(func() { s.everywhere(p) }) // a sink may not send
		default:
			s.settle(p, b)
		}
	})}, to.text(lane.Node(relay.AnyNode)))
}

// end gives up what would have been put in force, of a session that leaves.
func (j *judging) end() {
	if j != nil {
		j.lane.Release()
		j.tracked.end()
	}
}

// force puts a setting in force that Redis has found right.
func (s *session) force(j *judging) error {
	settings, tracking := s.settings, s.tracking
	others := slices.DeleteFunc(slices.Clone(settings), func(x setting) bool { return x.name == j.setting.name })
	if !j.on && len(others) == len(settings) {
		return nil // it is off already: what is WATCHed need not count as changed
	}
	if s.settings = others; j.on {
		s.settings = append(s.settings, j.setting)
	}
	turns := j.place.info.Action == command.ActionClientTracking
	if !turns || j.on {
		s.forgetTracked()
	}
	if turns {
		s.tracking = j.tracked
	}
	if err := s.move(s.identity); err != nil {
		s.settings, s.tracking = settings, tracking
		return err
	}
	if s.transaction != nil { // of WATCH, whose link has not been set so
		s.transaction.unbind()
	}
	if turns {
		tracking.end()
	}
	return nil
}

// everywhere answers at a place when the connections to all masters are in the session's state, so that nothing that happens from then
// on is missed.
func (s *session) everywhere(p *place) {
	if s.gone {
		return
	}
	nodes := masters(s.front.side.Nodes())
	left := len(nodes)
	if left == 0 { // they are connected to when they are known
		s.settle(p, okReply())
	}
	for _, node := range nodes {
		s.lane.Send(&relay.Request{Owner: &s.owner, Slot: node.Slot, Sink: reply(func(_ []byte, err error) {
			switch left--; {
			case s.gone:
			case err != nil:
				s.kill("a master cannot be reached that it wants to hear of changes from")
			case left == 0:
				s.settle(p, okReply())
			}
		})}, pingText)
	}
}

// settle answers what has become of a setting.
func (s *session) settle(p *place, b []byte) {
	s.front.stats.replied(p.info, b[0] == '-')
	p.answer(b, true)
	s.proceed()
}

func setup(settings []setting) func(addr string) [][]byte {
	return func(addr string) (all [][]byte) {
		for _, x := range settings {
			if text := x.text(addr); text != nil {
				all = append(all, text)
			}
		}
		return all
	}
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
	broadcast, optIn, optOut, noLoop bool
	prefixes                         [][]byte
	caching                          bool         // CLIENT CACHING was said, for the next command
	redirect                         int64        // the session that is told instead of this one; 0: none
	redirection                      *redirection // to it
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
			if i++; i < len(args) {
				if id, err := strconv.ParseInt(string(args[i]), 10, 64); err == nil {
					t.redirect = id
				}
			}
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
	case t == nil:
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

// cachingTo is a request for a CLIENT CACHING before a command for a slot.
func (s *session) cachingTo(at int) *relay.Request {
	return &relay.Request{Sink: silence{}, Owner: &s.owner, Slot: at}
}

// takeCaching tells whether a CLIENT CACHING waits for the next command, which is this one.
func (s *session) takeCaching() bool {
	t := s.tracking
	if t == nil || !t.caching {
		return false
	}
	t.caching = false
	return true
}

// forgetTracked has whoever is told of changes told that nothing may be kept which was read before, since a connection by which changes
// were to be told is gone.
func (s *session) forgetTracked() {
	switch t := s.tracking; {
	case t == nil:
	case t.redirection != nil:
		t.redirection.pass(t.redirection.invalidation(nil))
	case s.identity.Protocol == 3:
		s.push([]byte(">2\r\n$10\r\ninvalidate\r\n_\r\n"))
	}
}

// cachingText is the one CLIENT CACHING that the mode of tracking knows.
func (t *tracking) cachingText() []byte {
	if t.optIn {
		return []byte("*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n")
	}
	return []byte("*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$2\r\nNO\r\n")
}

func (s *session) clientGetRedir(info *command.Info, _ [][]byte) bool {
	s.reply(info, redcon.AppendInt(nil, s.redirected()))
	return true
}

// redirected is the id of the session that is told of changes in this one's place: 0 for none, -1 while it tracks nothing.
func (s *session) redirected() int64 {
	if s.tracking == nil {
		return -1
	}
	return s.tracking.redirect
}

func (s *session) clientTrackingInfo(info *command.Info, _ [][]byte) bool {
	flags := []string{"off"}
	var prefixes [][]byte
	if t := s.tracking; t != nil {
		flags, prefixes = []string{"on"}, t.prefixes
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
			{t.redirection != nil && t.redirection.broken, "broken_redirect"},
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
	b = redcon.AppendInt(b, s.redirected())
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

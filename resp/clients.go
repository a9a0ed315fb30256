package resp

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// The commands that see other clients speak of the sidecar's, whose ids are its own: those of Redis are the ids of connections
// that many share.

// noClient is an id that Redis has given nobody.
const noClient = "9223372036854775807"

// probes are the commands about clients as they are sent to Redis to hear whether a user may run them. They do nothing there.
var probes = map[command.Action][]string{
	command.ActionClientInfo:    {"CLIENT", "INFO"},
	command.ActionClientList:    {"CLIENT", "LIST", "ID", noClient},
	command.ActionClientKill:    {"CLIENT", "KILL", "ID", noClient},
	command.ActionClientUnblock: {"CLIENT", "UNBLOCK", noClient},
}

// verdict is what Redis says to a probe. It is the sink of its request.
type verdict struct {
	s     *session
	reply []byte
	err   error
}

// judged has Redis judge whether a client that has authenticated by itself may run a command about clients, since only Redis knows its
// users' rights. It is handled when the client may not, or when the session has to wait, and then sees the command again.
func (s *session) judged(info *command.Info) (ok, handled bool) {
	probe := probes[info.Action]
	switch v := s.verdict; {
	case probe == nil || !s.identity.Own:
		return false, false
	case v != nil && v.err != nil:
		s.front.take(s, info).fail(v.err)
		return true, true
	case v != nil && bytes.HasPrefix(v.reply, []byte("-NOPERM")):
		s.reply(info, v.reply)
		return true, true
	case v != nil:
		return false, false
	case !s.mayRelay():
		return false, true
	}
	raw := redcon.AppendArray(nil, len(probe))
	for _, word := range probe {
		raw = redcon.AppendBulkString(raw, word)
	}
	s.paused = forWork
	s.lane.Send(&relay.Request{Sink: &verdict{s: s}, Owner: &s.owner, Slot: relay.AnyNode, Safe: true}, raw)
	return false, true
}

// Reply implements relay.Sink.
func (v *verdict) Reply(_ *relay.Request, b []byte, last bool) bool {
	v.reply = append(v.reply, b...)
	if last {
		v.given()
	}
	return true
}

// Fail implements relay.Sink: who cannot be judged is refused.
func (v *verdict) Fail(_ *relay.Request, err error) {
	v.err = err
	v.given()
}

func (v *verdict) given() {
	if s := v.s; !s.gone {
		s.verdict = v
		s.proceed()
	}
}

// client is what CLIENT LIST shows of a session.
type client struct {
	id          int64
	addr, laddr string
	name, user  string
	kind        string // normal or pubsub
	line        string
}

// describe is the session as CLIENT LIST shows it. Memory of Redis's own that the session has not is 0.
func (s *session) describe() client {
	c := client{id: s.id, addr: s.conn.RemoteAddr(), laddr: s.conn.LocalAddr(), name: s.name, user: s.user(), kind: "normal"}
	now := s.front.loop.Now()
	flags, multi := "", -1
	var channels, patterns, sharded int64
	if len(s.monitors) > 0 {
		flags += "O"
	}
	if b := s.subscriber; b != nil && b.total() > 0 {
		c.kind = "pubsub"
		flags += "P"
		channels, patterns, sharded = b.total()-b.sharded()-b.patterns(), b.patterns(), b.sharded()
	}
	if t := s.transaction; t != nil && t.multi {
		flags += "x"
		multi = len(t.text)
	}
	if s.blocked != nil {
		flags += "b"
	}
	if s.tracking != nil {
		flags += "t"
		if s.tracking.broadcast {
			flags += "B"
		}
	}
	if slices.ContainsFunc(s.settings, func(x setting) bool { return x.name == "client|no-evict" }) {
		flags += "e"
	}
	if flags == "" {
		flags = "N"
	}
	last := "NULL"
	if s.latest != nil {
		last = s.latest.Name
	}
	c.line = fmt.Sprintf("id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=%d multi=%d qbuf=%d "+
		"qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=%d oll=0 omem=%d tot-mem=%d events=r cmd=%s user=%s redir=%d resp=%d",
		c.id, c.addr, c.laddr, s.conn.FD(), c.name, seconds(now.Sub(s.began)), seconds(now.Sub(s.active)), flags, s.identity.Database,
		channels, patterns, sharded, multi, s.conn.Unread(), s.conn.Buffered(), s.buffered, s.conn.Unread()+s.conn.Buffered()+s.buffered,
		last, c.user, s.redirected(), s.identity.Protocol)
	if s.front.side.Table().Named("client|setinfo") != nil {
		c.line += fmt.Sprintf(" lib-name=%s lib-ver=%s", s.libName, s.libVersion)
	}
	return c
}

func seconds(d time.Duration) int64 { return int64(max(d, 0) / time.Second) }

// user is the session's, as far as it is known here.
func (s *session) user() string {
	if s.identity.Own && s.identity.User != "" {
		return s.identity.User
	}
	return "default"
}

// all has f called with the descriptions of the sessions of every loop, oldest first, and answers what it returns.
func (s *session) all(info *command.Info, f func(clients []client) []byte) bool {
	p := s.front.take(s, info)
	s.paused = forWork
	var clients []client
	fronts := s.front.server.fronts
	var next func(i int)
	next = func(i int) {
		if i == len(fronts) {
			s.front.loop.Post(func() {
				if s.gone {
					return
				}
				slices.SortFunc(clients, func(a, b client) int { return int(a.id - b.id) })
				answer := f(clients)
				s.front.stats.replied(info, answer[0] == '-')
				p.answer(answer, true)
				s.proceed()
			})
			return
		}
		fronts[i].loop.Post(func() {
			for other := range fronts[i].sessions {
				clients = append(clients, other.describe())
			}
			next(i + 1)
		})
	}
	next(0)
	return true
}

func (s *session) clientInfo(info *command.Info, _ [][]byte) bool {
	s.reply(info, s.text(s.describe().line+"\n"))
	return true
}

// clientList implements CLIENT LIST [TYPE type] [ID id …].
func (s *session) clientList(info *command.Info, args [][]byte) bool {
	kind := ""
	var ids []int64
	switch option := strings.ToLower(string(arg(args, 2))); {
	case len(args) == 2:
	case option == "type" && len(args) == 4:
		kind = strings.ToLower(string(args[3]))
		if !slices.Contains(clientTypes, kind) {
			return s.error(info, fmt.Sprintf("ERR Unknown client type '%s'", args[3]))
		}
	case option == "id" && len(args) > 3:
		for _, a := range args[3:] {
			id, ok := number(a)
			if !ok {
				return s.error(info, "ERR Invalid client ID")
			}
			ids = append(ids, id)
		}
	default:
		return s.error(info, "ERR syntax error")
	}
	return s.all(info, func(clients []client) []byte {
		var text strings.Builder
		for _, c := range clients {
			if (kind == "" || kind == c.kind) && (ids == nil || slices.Contains(ids, c.id)) {
				text.WriteString(c.line + "\n")
			}
		}
		return s.text(text.String())
	})
}

var clientTypes = []string{"normal", "slave", "replica", "pubsub", "master"}

// number reads an integer as Redis does: in the one way in which it writes them.
func number(b []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == string(b)
}

func arg(args [][]byte, i int) []byte {
	if i < len(args) {
		return args[i]
	}
	return nil
}

// filter is what CLIENT KILL kills. A zero field filters nothing.
type filter struct {
	id                      int64
	addr, laddr, user, kind string
	skipMe                  bool
	me                      int64
	maxAge                  int64
}

func (f filter) matches(s *session) bool {
	c := s.describe()
	return (f.id == 0 || f.id == c.id) && (f.addr == "" || f.addr == c.addr) && (f.laddr == "" || f.laddr == c.laddr) &&
		(f.user == "" || f.user == c.user) && (f.kind == "" || f.kind == c.kind) && (!f.skipMe || c.id != f.me) &&
		(f.maxAge == 0 || seconds(s.front.loop.Now().Sub(s.began)) >= f.maxAge)
}

// clientKill implements CLIENT KILL addr, and CLIENT KILL with filters. What is wrong with these, and who is a user, Redis says.
func (s *session) clientKill(info *command.Info, args [][]byte) bool {
	f := filter{me: s.id, skipMe: true}
	if len(args) == 3 {
		f.addr, f.skipMe = string(args[2]), false
		return s.kills(info, s.front.take(s, info), f, true)
	}
	known, certain := f.parse(args[2:])
	if certain {
		return s.kills(info, s.front.take(s, info), f, false)
	}
	if !s.mayRelay() {
		return false
	}
	p := s.front.take(s, info)
	s.paused = forWork
	s.lane.Send(&relay.Request{Owner: &s.owner, Slot: relay.AnyNode, Safe: true, Sink: reply(func(b []byte, err error) {
		switch {
		case s.gone:
			return
		case err != nil:
			p.fail(err)
		case b[0] == '-':
			s.front.stats.replied(info, true)
			p.answer(b, true)
		case !known:
			p.fail(relay.Error("ERR Readthrough does not know one of these filters"))
		default:
			s.kills(info, p, f, false)
			return
		}
		s.proceed()
	})}, killProbe(args))
	return true
}

// killProbe is a CLIENT KILL as Redis may be asked what it thinks of it: whatever ids it names are nobody's.
func killProbe(args [][]byte) []byte {
	raw := redcon.AppendArray(nil, len(args)+2)
	for _, word := range []string{"CLIENT", "KILL", "ID", noClient} {
		raw = redcon.AppendBulkString(raw, word)
	}
	for i, arg := range args[2:] {
		if id, ok := number(arg); i%2 == 1 && ok && id > 0 && strings.EqualFold(string(args[i+1]), "id") {
			arg = []byte(noClient)
		}
		raw = redcon.AppendBulk(raw, arg)
	}
	return raw
}

// kills closes whom a filter matches, and answers at a place. old says that it was the form with an address alone.
func (s *session) kills(info *command.Info, p *place, f filter, old bool) bool {
	return s.each(info, p, func(front *front) int {
		killed := 0
		for other := range front.sessions {
			if !f.matches(other) {
				continue
			}
			killed++
			if other.id == s.id {
				other.paused = forever // after the reply
			} else {
				other.kill("CLIENT KILL")
			}
		}
		return killed
	}, func(killed int) []byte {
		switch {
		case !old:
			return redcon.AppendInt(nil, int64(killed))
		case killed == 0:
			return redcon.AppendError(nil, "ERR No such client")
		}
		return okReply()
	})
}

// parse reads the filters. known says that it knows them all, and certain that Redis finds nothing wrong with them, whichever version it
// is.
func (f *filter) parse(args [][]byte) (known, certain bool) {
	known, certain = true, len(args)%2 == 0
	for ; len(args) > 1; args = args[2:] {
		value := string(args[1])
		switch strings.ToLower(string(args[0])) {
		case "id":
			id, ok := number(args[1])
			certain = certain && ok && id > 0
			f.id = id
		case "type":
			f.kind = strings.ToLower(value)
			certain = certain && slices.Contains(clientTypes, f.kind)
		case "addr":
			f.addr = value
		case "laddr":
			f.laddr = value
		case "user":
			f.user, certain = value, false
		case "maxage":
			f.maxAge, _ = number(args[1])
			certain = false
		case "skipme":
			f.skipMe = strings.EqualFold(value, "yes")
			certain = certain && (f.skipMe || strings.EqualFold(value, "no"))
		default:
			known, certain = false, false
		}
	}
	return known, certain
}

// each has f called on every loop, one after the other, and answers at a place what then makes of the sum.
func (s *session) each(info *command.Info, p *place, f func(*front) int, then func(sum int) []byte) bool {
	s.paused = forWork
	fronts := s.front.server.fronts
	var next func(i, sum int)
	next = func(i, sum int) {
		if i < len(fronts) {
			fronts[i].loop.Post(func() { next(i+1, sum+f(fronts[i])) })
			return
		}
		s.front.loop.Post(func() {
			if s.gone {
				return
			}
			answer := then(sum)
			s.front.stats.replied(info, answer[0] == '-')
			ending := s.paused == forever
			p.answer(answer, true)
			if !ending {
				s.proceed()
			}
		})
	}
	next(0, 0)
	return true
}

// clientUnblock implements CLIENT UNBLOCK id [TIMEOUT | ERROR]. Redis does it to the link on which the session is blocked.
func (s *session) clientUnblock(info *command.Info, args [][]byte) bool {
	if len(args) > 4 {
		return s.relay(info, relay.AnyNode, false) // Redis says that it is too much
	}
	reason := "TIMEOUT"
	if len(args) > 3 {
		reason = strings.ToUpper(string(args[3]))
		if reason != "TIMEOUT" && reason != "ERROR" {
			return s.error(info, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
		}
	}
	id, isNumber := number(args[2])
	if !isNumber {
		return s.error(info, "ERR value is not an integer or out of range")
	}
	return s.each(info, s.front.take(s, info), func(front *front) int {
		for other := range front.sessions {
			if other.id == id && other.blocked != nil && other.blocked.unblock(reason) {
				return 1
			}
		}
		return 0
	}, func(n int) []byte { return redcon.AppendInt(nil, int64(n)) })
}

// unblock has Redis end the wait. It is false when it has not begun.
func (b *blocked) unblock(reason string) bool {
	if b.link == nil || b.id == 0 {
		return false
	}
	raw := redcon.AppendArray(nil, 4)
	for _, word := range []string{"CLIENT", "UNBLOCK", strconv.FormatInt(b.id, 10), reason} {
		raw = redcon.AppendBulkString(raw, word)
	}
	r := &relay.Request{Sink: silence{}, Owner: &b.s.owner, Slot: relay.AnyNode, Node: b.link.Addr()}
	b.s.lane.Send(r, raw)
	return true
}

// learnID asks for the link's id in Redis.
func (b *blocked) learnID() {
	raw := redcon.AppendArray(nil, 2)
	raw = redcon.AppendBulkString(raw, "CLIENT")
	raw = redcon.AppendBulkString(raw, "ID")
	b.link.Send(&relay.Request{Sink: (*blockedID)(b), Owner: &b.s.owner}, raw)
}

// blockedID is the sink of CLIENT ID on a blocked session's link.
type blockedID blocked

// Reply implements relay.Sink.
func (b *blockedID) Reply(_ *relay.Request, reply []byte, _ bool) bool {
	if reply[0] == ':' {
		b.id, _ = strconv.ParseInt(string(bytes.TrimRight(reply[1:], "\r\n")), 10, 64)
	}
	return true
}

// Fail implements relay.Sink.
func (*blockedID) Fail(*relay.Request, error) {}

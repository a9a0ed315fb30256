package resp

import (
	"strconv"
	"strings"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// use moves the session, which must be quiet, to the lane of an identity.
func (s *session) use(id relay.Identity) error {
	if s.lane != nil && id == s.identity && s.ownsLane == (len(s.settings) > 0) {
		return nil
	}
	if s.subscribes(id) {
		return errSubscribed
	}
	s.forgetTracked()
	return s.move(id)
}

// subscribes tells whether Redis sends by itself over connections of the session, which another identity has not.
func (s *session) subscribes(id relay.Identity) bool {
	return id != s.identity && (s.subscriber != nil || len(s.monitors) > 0)
}

// move moves the session to the connections of an identity, with its settings in force.
func (s *session) move(id relay.Identity) error {
	lane, err := s.joinLane(id)
	if err != nil {
		return err
	}
	if t := s.transaction; t != nil && t.as != id {
		t.unbind()
	}
	if s.lane != nil {
		s.lane.Release()
	}
	s.lane, s.identity, s.epoch, s.ownsLane = lane, id, lane.Epoch(), len(s.settings) > 0
	return nil
}

// errSubscribed is the answer to what would change the connections of a session to which Redis sends by itself.
const errSubscribed = relay.Error("ERR user, protocol and database cannot change while there are subscriptions, or MONITOR: end them first")

// logIn has Redis judge a client's own user and password, and moves the session to that user. Then then answers.
func (s *session) logIn(info *command.Info, id relay.Identity, then func() []byte) {
	f := s.front
	s.check(info, f.asked(id), id, f.loggedIn, then)
}

// check has Redis itself judge an identity, since only it knows its users, and moves the session to it. judged is told of its word, and says
// what to make of it; nil: nobody is. Then then answers.
func (s *session) check(info *command.Info, as, id relay.Identity, judged func(error) error, then func() []byte) {
	p := s.front.take(s, info)
	s.paused = forWork
	s.front.side.Authenticate(as, func(err error) {
		if judged != nil {
			err = judged(err)
		}
		switch {
		case s.gone:
		case err != nil:
			p.fail(err)
			s.proceed()
		default:
			s.adopt(p, id, then)
		}
	})
}

// adopt moves the session, which must be quiet, to an identity that Redis has found right, with what it watches. Then then answers, at a
// place.
func (s *session) adopt(p *place, id relay.Identity, then func() []byte) {
	s.paused = forWork
	s.carry(id, func() {
		if s.gone {
			return
		}
		if err := s.use(id); err != nil {
			if t := s.transaction; t != nil && t.as != s.identity {
				t.unbind()
			}
			p.fail(err)
		} else {
			answer := then()
			s.front.stats.replied(p.info, false)
			p.answer(answer, true)
		}
		s.proceed()
	})
}

// carry has the link of a WATCH take on an identity too, and then calls done. Where that fails, what was watched counts as changed.
func (s *session) carry(id relay.Identity, done func()) {
	t := s.transaction
	if t == nil || t.link == nil || s.subscribes(id) || len(s.settings) > 0 { // with settings, what is read over it has to be told of by the new lane
		done()
		return
	}
	steps := steps(t.as, id)
	if len(steps) == 0 {
		done()
		return
	}
	link, left, failed := t.link, len(steps), false
	link.Estrange()
	for _, raw := range steps {
		link.Send(&relay.Request{Owner: &s.owner, Sink: reply(func(b []byte, err error) {
			failed = failed || err != nil || isError(b)
			if left--; left > 0 {
				return
			}
			if !failed && t.link == link {
				t.as = id
			}
			s.front.loop.Post(done) // a sink may not send
		})}, raw)
	}
}

// steps are the commands that make one identity of another on a connection. They may hold a password.
func steps(from, to relay.Identity) (all [][]byte) {
	add := func(words ...string) {
		raw := redcon.AppendArray(nil, len(words))
		for _, word := range words {
			raw = redcon.AppendBulkString(raw, word)
		}
		all = append(all, raw)
	}
	if to.Own && (!from.Own || to.User != from.User || to.Password != from.Password) {
		if to.User == "" {
			add("AUTH", to.Password)
		} else {
			add("AUTH", to.User, to.Password)
		}
	}
	if to.Protocol != from.Protocol {
		add("HELLO", strconv.Itoa(to.Protocol))
	}
	if to.Database != from.Database {
		add("SELECT", strconv.Itoa(to.Database))
	}
	return all
}

func okReply() []byte { return []byte("+OK\r\n") }

// auth implements AUTH [user] password.
func (s *session) auth(info *command.Info, args [][]byte) bool {
	if len(args) > 3 {
		return s.error(info, "ERR syntax error")
	}
	if !s.quiet() {
		return false
	}
	id := s.identity
	id.Own, id.User, id.Password = true, "", string(args[len(args)-1])
	if len(args) == 3 {
		if id.User = string(args[1]); id.User == "" {
			return s.refuseNameless(info)
		}
	}
	s.logIn(info, id, okReply)
	return true
}

// selectDatabase implements SELECT index.
func (s *session) selectDatabase(info *command.Info, args [][]byte) bool {
	n, err := strconv.Atoi(string(args[1]))
	if err != nil || strconv.Itoa(n) != string(args[1]) {
		return s.relay(info, relay.AnyNode, false) // Redis says that it is no number
	}
	if !s.quiet() {
		return false
	}
	if s.front.side.Server().Cluster {
		if n != 0 {
			return s.error(info, "ERR SELECT is not allowed in cluster mode")
		}
		return s.ok(info)
	}
	id := s.identity
	id.Database = n
	if id == s.identity {
		return s.ok(info)
	}
	s.check(info, id, id, nil, okReply)
	return true
}

// hello implements HELLO [version [AUTH user password] [SETNAME name]].
func (s *session) hello(info *command.Info, args [][]byte) bool {
	if !s.quiet() {
		return false
	}
	id := s.identity
	if len(args) > 1 {
		n, err := strconv.ParseInt(string(args[1]), 10, 64)
		if err != nil {
			return s.error(info, "ERR Protocol version is not an integer or out of range")
		}
		if n != 2 && n != 3 {
			return s.error(info, "NOPROTO unsupported protocol version")
		}
		id.Protocol = int(n)
	}
	name, authenticates := s.name, false
	for i := 2; i < len(args); i++ {
		switch option, more := strings.ToLower(string(args[i])), len(args)-1-i; {
		case option == "auth" && more >= 2:
			authenticates = true
			id.Own, id.User, id.Password = true, string(args[i+1]), string(args[i+2])
			i += 2
		case option == "setname" && more >= 1:
			if text := nameError(clientNames, args[i+1]); text != "" {
				return s.error(info, text)
			}
			name = string(args[i+1])
			i++
		default:
			return s.error(info, "ERR Syntax error in HELLO option '"+string(args[i])+"'")
		}
	}
	done := func() []byte {
		s.name = name
		return s.greeting()
	}
	if authenticates {
		if id.User == "" {
			return s.refuseNameless(info)
		}
		s.logIn(info, id, done)
		return true
	}
	if s.mustAuthenticate() {
		return s.error(info, helloFirst(s.front.side.Server().Version))
	}
	s.adopt(s.front.take(s, info), id, done)
	return true
}

// greeting is HELLO's reply, in the protocol that it has chosen.
func (s *session) greeting() []byte {
	server := s.front.side.Server()
	mode := "standalone"
	if server.Cluster {
		mode = "cluster"
	}
	b := s.appendMap(nil, 7)
	pair := func(name, value string) {
		b = redcon.AppendBulkString(b, name)
		b = redcon.AppendBulkString(b, value)
	}
	number := func(name string, value int64) {
		b = redcon.AppendBulkString(b, name)
		b = redcon.AppendInt(b, value)
	}
	pair("server", "redis")
	pair("version", server.Version)
	number("proto", int64(s.identity.Protocol))
	number("id", s.id)
	pair("mode", mode)
	pair("role", "master")
	b = redcon.AppendBulkString(b, "modules")
	return redcon.AppendArray(b, 0)
}

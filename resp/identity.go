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
	if id != s.identity && (s.subscriber != nil || len(s.monitors) > 0) {
		return errSubscribed
	}
	s.forgetTracked()
	return s.move(id)
}

// move moves the session to the connections of an identity, with its settings in force.
func (s *session) move(id relay.Identity) error {
	lane, err := s.joinLane(id)
	if err != nil {
		return err
	}
	if s.transaction != nil { // of WATCH: what comes now is another identity's
		s.transaction.unbind()
	}
	if s.lane != nil {
		s.lane.Release()
	}
	s.lane, s.identity, s.epoch, s.ownsLane = lane, id, lane.Epoch(), len(s.settings) > 0
	return nil
}

// errSubscribed is the answer to what would change the connections of a session to which Redis sends by itself.
const errSubscribed = relay.Error("ERR user, protocol and database cannot change while there are subscriptions, or MONITOR: end them first")

// check has Redis itself judge an identity, since only it knows its users, and moves the session to it. Then then answers.
func (s *session) check(info *command.Info, as, id relay.Identity, then func() []byte) {
	p := s.front.take(s, info)
	s.paused = forWork
	s.front.side.Authenticate(as, func(err error) {
		if s.gone {
			return
		}
		if err == nil {
			err = s.use(id)
		}
		if err != nil {
			p.fail(err)
		} else {
			answer := then()
			s.front.stats.replied(info, false)
			p.answer(answer, true)
		}
		s.proceed()
	})
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
		id.User = string(args[1])
	}
	s.check(info, asked(id), id, okReply)
	return true
}

// asked is the identity with which a password is checked: over RESP2, where AUTH without a user means what it says.
func asked(id relay.Identity) relay.Identity {
	id.Protocol, id.Database = 2, 0
	return id
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
	s.check(info, id, id, okReply)
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
		s.check(info, asked(id), id, done)
		return true
	}
	if err := s.use(id); err != nil {
		return s.error(info, err.Error())
	}
	s.reply(info, done())
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

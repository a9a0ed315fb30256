package resp

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
)

// redirection is CLIENT TRACKING ON REDIRECT id: what one session reads is invalidated to another one, which is how clients over RESP2
// track keys. In Redis the other one is a connection to the same node. So there is a link to each master that plays its part, in the
// protocol of the other session and, over RESP2, subscribed as that one is; and each connection over which this session reads is
// told to redirect to the link of its master. What the links bring is passed on as it is.
type redirection struct {
	s        *session // which tracks keys; all of this is used on its loop
	target   *session // which is told; used on its own loop
	id       int64    // of target
	protocol int      // of target
	args     [][]byte // CLIENT TRACKING …

	lane   relay.Lane
	links  []relay.Link
	ids    map[string]string // of the links in Redis, by node
	due    int               // replies of the links, before anybody can be told to redirect to them
	err    error             // the first of them that is an error
	broken bool              // target was not there when it should have been told
}

// invalidations is the channel over which RESP2 brings them.
const invalidations = "__redis__:invalidate"

// redirect handles CLIENT TRACKING ON with REDIRECT: it looks the other session up on that one's loop, has the links made, and goes on as
// with any other setting.
func (s *session) redirect(info *command.Info, tracked *tracking) bool {
	r := &redirection{s: s, id: tracked.redirect, ids: map[string]string{}}
	tracked.redirection = r
	for _, arg := range s.args() {
		r.args = append(r.args, bytes.Clone(arg))
	}
	p := s.front.take(s, info)
	s.paused = forWork
	done := func(err error) {
		switch {
		case s.gone:
			r.end()
		case err != nil:
			r.end()
			p.fail(err)
			s.proceed()
		default:
			s.judge(p, setting{info.Name, r.command}, true, tracked)
		}
	}
	fronts := s.front.server.fronts
	there := fronts[uint64(r.id)%uint64(len(fronts))] // where accept has put it
	there.loop.Post(func() {
		for other := range there.sessions {
			if other.id == r.id {
				r.target, r.protocol = other, other.identity.Protocol
			}
		}
		s.front.loop.Post(func() {
			switch {
			case s.gone:
			case r.target == nil:
				done(relay.Error("ERR The client ID you want redirect to does not exist"))
			default:
				r.open(done)
			}
		})
	})
	return true
}

// open makes the links. done is called when their ids are known.
func (r *redirection) open(done func(err error)) {
	s := r.s
	id := s.identity
	id.Protocol = r.protocol
	lane, err := s.front.side.Lane(id)
	if err != nil {
		done(err)
		return
	}
	r.lane = lane
	answered := func() {
		if r.due--; r.due == 0 {
			s.front.loop.Post(func() { done(r.err) }) // a sink may not send
		}
	}
	for _, node := range masters(s.front.side.Nodes()) {
		link := s.feed(lane.LinkTo(node.Addr), func(push []byte) bool {
			r.pass(bytes.Clone(push))
			return true
		})
		if r.protocol == 3 {
			link.Lasts()
		}
		link.OnLost(func(error) { s.kill("a connection that tracked its keys was lost") })
		r.links = append(r.links, link)
		r.due++
		link.Send(&relay.Request{Owner: &s.owner, Sink: reply(func(b []byte, err error) {
			if err == nil && b[0] == '-' {
				err = relay.Error(bytes.TrimRight(b[1:], "\r\n"))
			}
			if err != nil && r.err == nil {
				r.err = err
			}
			r.ids[node.Addr] = strings.Trim(string(b), ":\r\n")
			answered()
		})}, []byte("*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n"))
		if r.protocol == 2 {
			link.Send(nil, []byte(fmt.Sprintf("*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n", len(invalidations), invalidations)))
		}
	}
	if r.due == 0 {
		done(relay.Error("UPSTREAMDOWN no Redis node is known"))
	}
}

// reply is a sink of short replies.
type reply func(b []byte, err error)

// Reply implements relay.Sink.
func (f reply) Reply(_ *relay.Request, b []byte, _ bool) bool {
	f(b, nil)
	return true
}

// Fail implements relay.Sink.
func (f reply) Fail(_ *relay.Request, err error) { f(nil, err) }

// command is the client's command as a connection to a node has to get it: with the id of that node's link.
func (r *redirection) command(addr string) []byte {
	id, ok := r.ids[addr]
	if !ok { // a master that was none when this began
		r.s.front.loop.Post(func() { r.s.kill("a node has joined that cannot tell of changes to its keys") })
		return nil
	}
	b := redcon.AppendArray(nil, len(r.args))
	for i, arg := range r.args {
		if i > 0 && bytes.EqualFold(r.args[i-1], []byte("redirect")) {
			arg = []byte(id)
		}
		b = redcon.AppendBulk(b, arg)
	}
	return b
}

// pass brings an invalidation to the session that is told. Over RESP2 Redis tells nobody who has no subscriptions, and neither does this.
func (r *redirection) pass(push []byte) {
	s, target := r.s, r.target
	if r.protocol == 2 && !isInvalidation(push) {
		return // the confirmation of the subscription
	}
	target.front.loop.Post(func() {
		switch {
		case target.gone:
			s.front.loop.Post(r.missed)
		case target.identity.Protocol != r.protocol:
			s.front.loop.Post(func() { s.kill("the client that is told of changes to its keys speaks another protocol now") })
		case r.protocol == 3 || target.subscriber != nil && target.subscriber.total() > 0:
			target.push(push)
		}
	})
}

// missed tells the session that tracks keys that nobody was told, as far as its protocol can.
func (r *redirection) missed() {
	r.broken = true
	if r.s.identity.Protocol == 3 {
		r.s.push(redcon.AppendInt([]byte(">2\r\n$21\r\ntracking-redir-broken\r\n"), r.id))
	}
}

// isInvalidation tells whether what a link brings over RESP2 is a message.
func isInvalidation(b []byte) bool {
	elements := frame.Elements(b)
	return len(elements) == 3 && string(frame.Text(elements[0])) == "message"
}

// invalidation makes one as Redis does, of one key; nil: of all.
func (r *redirection) invalidation(key []byte) []byte {
	b, none := redcon.AppendBulkString([]byte("*3\r\n$7\r\nmessage\r\n"), invalidations), nullBulk
	if r.protocol == 3 {
		b, none = []byte(">2\r\n$10\r\ninvalidate\r\n"), null
	}
	if key == nil {
		return append(b, none...)
	}
	return redcon.AppendBulk(append(b, "*1\r\n"...), key)
}

// end ends tracking, which may be off.
func (t *tracking) end() {
	if t != nil && t.redirection != nil {
		t.redirection.end()
	}
}

// end gives up the links.
func (r *redirection) end() {
	for _, link := range r.links {
		link.Release(false)
	}
	r.links = nil
	if r.lane != nil {
		r.lane.Release()
		r.lane = nil
	}
}

package resp

import (
	"bytes"
	"strings"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// gatherKeyspace has the channels for keyspace notifications subscribed to, or not any more, on the other masters too: a master
// sends those of its own keys only. Their answers come before the home node is asked, whose confirmation is the client's: it holds for
// all of them.
func (b *subscriber) gatherKeyspace(info *command.Info) {
	s := b.s
	if info.Channels || !s.front.side.Server().Cluster {
		return
	}
	args := s.args()
	about := args[:1:1]
	for _, arg := range args[1:] {
		if bytes.HasPrefix(arg, []byte("__key")) {
			about = append(about, arg)
		}
	}
	adds := strings.HasSuffix(info.Name, kindSubscribe) && !strings.HasSuffix(info.Name, kindUnsubscribe)
	if len(about) == 1 && (adds || len(args) > 1) || len(b.gather) == 0 && !adds {
		return
	}
	raw := redcon.AppendArray(nil, len(about))
	for _, arg := range about {
		raw = redcon.AppendBulk(raw, arg)
	}
	home := b.home().link.Addr()
	for _, node := range s.front.side.Nodes() {
		addr := node.Addr
		if addr == home || node.Slot == relay.AnyNode {
			continue
		}
		link := b.gather[addr]
		if link == nil {
			link = s.feed(s.lane.LinkTo(addr), func(push []byte) bool { return b.gathered(addr, push) })
			if b.gather == nil {
				b.gather = map[string]relay.Link{}
			}
			b.gather[addr] = link
			if s.identity.Protocol == 3 {
				link.Lasts()
			}
			link.OnLost(func(err error) { s.kill("a connection with its subscriptions was lost: " + err.Error()) })
		}
		b.say(link, raw)
		link.Owes(true)
		b.pending++
		b.adds = adds
	}
}

// gathered looks at what a link to another master brings. Only messages about keys are passed on, not before the client knows that it is
// subscribed.
func (b *subscriber) gathered(addr string, part []byte) (ready bool) {
	s := b.s
	switch {
	case b.pending > 0 && b.isMark(part):
		b.pending--
		b.gather[addr].Owes(false)
		b.answered()
		return s.ready()
	case b.leaving || !aboutKeys(part):
		return true
	case b.adds:
		b.early = append(b.early, part...)
		s.wait(len(part))
		return true // the answer that they wait for is behind them
	}
	return s.push(part)
}

// forgetEarly frees what was kept.
func (b *subscriber) forgetEarly() {
	b.s.wait(-len(b.early))
	b.early = nil
}

// followMasters is called every turn. It closes the sessions that want the notifications of all masters and are not connected to one
// that has come since: they have missed some.
func (f *front) followMasters() {
	now := f.side.Generation()
	if now == f.followed {
		return
	}
	f.followed = now
	for s := range f.sessions {
		if b := s.subscriber; b != nil && len(b.gather) > 0 && !b.hears(masters(f.side.Nodes())) {
			s.kill("a master whose notifications it wants has come after it subscribed to them")
		}
	}
}

// hears tells whether there is a link to each node.
func (b *subscriber) hears(nodes []relay.Node) bool {
	for _, node := range nodes {
		if b.gather[node.Addr] == nil && b.to(node.Addr) == nil {
			return false
		}
	}
	return true
}

// aboutKeys tells whether a reply is a message on a channel of keyspace notifications.
func aboutKeys(b []byte) bool {
	head := b[:min(len(b), 512)]
	kind, channel, found := bytes.Cut(head, []byte("message\r\n"))
	return found && len(kind) < 32 && (bytes.Contains(channel, []byte("\r\n__keyspace@")) || bytes.Contains(channel, []byte("\r\n__keyevent@")))
}

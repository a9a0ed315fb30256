package resp

import (
	"bytes"
	"crypto/rand"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
)

// subscriber is a session that has subscribed. Its subscriptions live on links of its own: one to the fixed node for channels and
// patterns, which the cluster's bus serves from any node, and one to the node of each sharded channel. What the links bring is
// passed on as it is.
//
// A subscription is answered by one confirmation for each channel, and in RESP3 those are pushes, answers to nothing. So that it
// is known when a command has been answered, a PING with a text of our own is sent behind it and its reply is taken out of the
// stream: what came before belongs to the command. Until then the session does not go on.
type subscriber struct {
	s     *session
	links []*subscription // at most one to a node
	// gather is links to the other masters for keyspace notifications, which a master sends of its own keys only.
	gather map[string]relay.Link

	info    *command.Info // of the command that is being answered; nil for one that nobody knows
	raw     []byte
	pending int             // links that have not answered it; 0 while none is
	next    []*subscription // that it goes over when those have
	adds    bool            // it subscribes, at other masters too
	early   []byte          // what those have sent before the client knows that it is subscribed
	slot    int             // of its channels, or AnyNode
	refused bool            // it is to be said again, to whoever serves its slot, after a while
	wait    time.Duration
	chase   chase
	mark    string // the PING's text
	leaving bool   // nothing is passed on any more

	waiting []*following // that nobody was asked for, for a while
	awaited bool         // the session waits for them, and for those that were asked for
}

// subscription is a link and what is subscribed to over it.
type subscription struct {
	link     relay.Link
	channels int64 // and patterns
	patterns int64 // of them
	sharded  int64
	due      []*following // whose answers the node owes, in their order; nil is the current command
}

// owes notes that the node owes an answer more.
func (sub *subscription) owes(f *following) {
	sub.due = append(sub.due, f)
	sub.link.Owes(true)
}

// answered notes that the node has given the answer that was due first.
func (sub *subscription) answered() {
	sub.due = sub.due[1:]
	sub.link.Owes(len(sub.due) > 0)
}

// current tells whether the answer that is due first is the current command's.
func (sub *subscription) current() bool { return len(sub.due) > 0 && sub.due[0] == nil }

// follows is the channel whose answer is due first, or nil.
func (sub *subscription) follows() *following {
	if len(sub.due) == 0 {
		return nil
	}
	return sub.due[0]
}

// subscribed tells whether Redis takes the link for a subscriber's.
func (sub *subscription) subscribed() bool { return sub.channels+sub.sharded > 0 }

// The kinds of confirmations.
const (
	kindSubscribe    = "subscribe"
	kindPSubscribe   = "psubscribe"
	kindSSubscribe   = "ssubscribe"
	kindUnsubscribe  = "unsubscribe"
	kindPUnsubscribe = "punsubscribe"
	kindSUnsubscribe = "sunsubscribe"
)

// subscribe handles the subscribe family. Over RESP2 it handles all commands of a session that has subscriptions.
func (s *session) subscribe(info *command.Info) bool {
	if !s.quiet() {
		return false
	}
	if s.subscriber == nil {
		s.subscriber = &subscriber{s: s, mark: rand.Text()}
	}
	b := s.subscriber
	if !b.settled(info) {
		return false
	}
	over := b.targets(info)
	b.begin(info)
	b.gatherKeyspace(info)
	if b.pending > 0 {
		b.next = over // whose confirmations say that all is done
	} else {
		b.send(over...)
	}
	return true
}

// begin takes up the command just framed.
func (b *subscriber) begin(info *command.Info) {
	b.info, b.raw, b.refused, b.chase = info, bytes.Clone(b.s.commands.Raw), false, chase{}
	b.s.keep(len(b.raw))
	b.s.paused = forWork
	b.s.skips = false // confirmations come whatever CLIENT REPLY says
}

var unsubscribeText = []byte("*1\r\n$11\r\nUNSUBSCRIBE\r\n*1\r\n$12\r\nPUNSUBSCRIBE\r\n*1\r\n$12\r\nSUNSUBSCRIBE\r\n")

// leave ends all subscriptions, without a word to the client. The session goes on when Redis has done it.
func (b *subscriber) leave() {
	b.leaving, b.info, b.raw, b.refused, b.waiting = true, nil, unsubscribeText, false, nil
	b.s.keep(len(b.raw))
	b.s.paused = forWork
	if len(b.links) == 0 {
		b.s.front.loop.Post(func() {
			if b.s.subscriber == b {
				b.answered()
			}
		})
	}
	b.send(b.links...)
}

// targets are the links that a command of the family goes over.
func (b *subscriber) targets(info *command.Info) []*subscription {
	b.slot = relay.AnyNode
	if info.Channels {
		if b.slot = b.s.slotOf(info, false); b.slot != relay.AnyNode {
			return []*subscription{b.at(b.slot)}
		}
		var all []*subscription // SUNSUBSCRIBE from everything
		for _, sub := range b.links {
			if sub.sharded > 0 {
				all = append(all, sub)
			}
		}
		if len(all) > 0 {
			return all
		}
	}
	return []*subscription{b.home()}
}

// home is the link for channels and patterns. It stays where it is while it has some.
func (b *subscriber) home() *subscription {
	for _, sub := range b.links {
		if sub.channels > 0 {
			return sub
		}
	}
	return b.at(relay.AnyNode)
}

// at is the link to the node of a slot.
func (b *subscriber) at(slot int) *subscription {
	if sub := b.to(b.s.lane.Node(slot)); sub != nil {
		return sub
	}
	return b.open(b.s.lane.Link(slot))
}

// to is the link to a node that there is, or nil.
func (b *subscriber) to(addr string) *subscription {
	for _, sub := range b.links {
		if sub.link.Addr() == addr {
			return sub
		}
	}
	return nil
}

// send sends the current command over links.
func (b *subscriber) send(over ...*subscription) {
	b.pending += len(over)
	for _, sub := range over {
		b.say(sub.link, b.raw)
		sub.owes(nil)
	}
}

// say sends a command over a link, with a PING behind it.
func (b *subscriber) say(link relay.Link, raw []byte) {
	ping := redcon.AppendArray(nil, 2)
	ping = redcon.AppendBulkString(ping, "PING")
	ping = redcon.AppendBulkString(ping, b.mark)
	link.Send(nil, raw)
	link.Send(nil, ping)
}

func (b *subscriber) open(link relay.Link) *subscription {
	sub := &subscription{}
	b.links = append(b.links, sub)
	// Nothing waits for a reply in the link's own sense: all that comes is looked at here.
	sub.link = b.s.feed(link, func(push []byte) bool { return b.other(sub, push) })
	if b.s.identity.Protocol == 3 {
		sub.link.Lasts()
	}
	sub.link.OnLost(func(err error) { b.s.kill("a connection with its subscriptions was lost: " + err.Error()) })
	return sub
}

// other looks at what a link brings.
func (b *subscriber) other(sub *subscription, part []byte) (ready bool) {
	s := b.s
	follows := sub.follows()
	switch {
	case follows != nil && part[0] == '-':
		sub.answered()
		b.putOff(follows, sub.link.Addr(), part)
		return true
	case b.pending > 0 && sub.current() && b.isMark(part):
		b.pending--
		sub.answered()
		b.answered()
		return s.ready()
	case part[0] == '-' && b.redirected(sub, part):
		return true
	}
	kind, channel, count, ok := confirmation(part)
	switch {
	case !ok && b.leaving:
		return true
	case !ok:
		return s.push(part)
	case kind == kindSSubscribe || kind == kindSUnsubscribe:
		sub.sharded = count
	default:
		if kind == kindPSubscribe || kind == kindPUnsubscribe {
			sub.patterns += count - sub.channels
		}
		sub.channels = count
		return b.leaving || s.push(part)
	}
	asked := sub.current() && b.info != nil && b.info.Name == kindSUnsubscribe
	switch {
	case follows != nil && kind == kindSSubscribe && bytes.Equal(follows.channel, channel):
		sub.answered()
		b.goOn()
	case b.leaving:
	case kind == kindSUnsubscribe && !asked: // the slot has left the node
		b.resubscribe(&following{channel: bytes.Clone(channel)})
	default:
		return s.push(withCount(part, b.sharded()))
	}
	return true
}

// redirected handles the error of a node that does not own the slot of a sharded channel, or of a key.
func (b *subscriber) redirected(sub *subscription, part []byte) bool {
	addr, _, is := b.s.lane.Redirected(part, sub.link.Addr())
	switch {
	case !is, b.info == nil:
	case b.info.Reason != command.ReasonSubscribe: // a node minds the slot first, and then what is not for subscribers
		b.s.push(appendError(nil, notForSubscribers(b.info)))
		return true
	case b.slot != relay.AnyNode:
		b.wait, b.refused = b.chase.next(b.s.front.loop.Now(), addr != "")
		return b.refused
	}
	return false
}

// isMark tells whether a reply is that to our PING: its text alone, or behind "pong" for a subscriber over RESP2. A user who may
// not PING gets an error, which says so.
func (b *subscriber) isMark(reply []byte) bool {
	if reply[0] == '-' {
		return bytes.HasPrefix(reply, []byte("-NOPERM")) && bytes.Contains(reply, []byte("'ping'"))
	}
	return bytes.HasSuffix(reply, []byte("\r\n"+b.mark+"\r\n"))
}

// answered goes on when every link has answered the current command.
func (b *subscriber) answered() {
	s := b.s
	switch {
	case b.pending > 0:
		return
	case len(b.next) > 0:
		over := b.next
		b.next = nil
		b.send(over...)
		return
	case b.refused:
		b.refused = false
		s.later(b.wait, func() {
			if s.subscriber == b {
				b.send(b.at(b.slot))
			}
		})
		return
	}
	s.front.stats.replied(b.info, false)
	s.keep(-len(b.raw))
	b.info, b.raw, b.adds = nil, nil, false
	if early := b.early; len(early) > 0 {
		b.forgetEarly()
		s.push(early)
	}
	b.links = slices.DeleteFunc(b.links, func(sub *subscription) bool {
		if sub.subscribed() || len(sub.due) > 0 {
			return false
		}
		sub.link.Release(true)
		return true
	})
	if len(b.links) == 0 && len(b.waiting) == 0 || b.leaving { // a user may lack the right to unsubscribe
		b.over()
	}
	s.proceed()
}

// sharded is the number of sharded channels, those on their way from one link to another among them.
func (b *subscriber) sharded() int64 {
	n := int64(b.moving())
	for _, sub := range b.links {
		n += sub.sharded
	}
	return n
}

// patterns is the number of patterns over all links.
func (b *subscriber) patterns() (n int64) {
	for _, sub := range b.links {
		n += sub.patterns
	}
	return n
}

// total is the number of subscriptions of all kinds. Over RESP2, a session that has any can do nothing else.
func (b *subscriber) total() int64 {
	n := b.sharded()
	for _, sub := range b.links {
		n += sub.channels
	}
	return n
}

// takes tells whether a command belongs on a link, over RESP2: all but those that end the session's state, once it has
// subscriptions.
func (b *subscriber) takes(info *command.Info) bool {
	if b.total() == 0 {
		return false
	}
	return info == nil || info.Reason != command.ReasonSubscribe && info.Action != command.ActionQuit && info.Action != command.ActionReset
}

// tunnel sends a command of a RESP2 session that has subscriptions: Redis answers PING in a form of its own, and refuses the
// rest. A large one of the rest is refused here.
func (b *subscriber) tunnel(info *command.Info, large bool) bool {
	if large && info != nil && info.Name == "ping" && b.s.collect() {
		return false
	}
	if large {
		return b.refuseLarge(info)
	}
	if !b.settled(info) {
		return false
	}
	b.slot = relay.AnyNode
	b.begin(info)
	b.send(b.links[slices.IndexFunc(b.links, (*subscription).subscribed)]) // over another one Redis would run the command
	return true
}

// refuseLarge answers what Redis says to a large command of a subscriber, and has the rest of it thrown away.
func (b *subscriber) refuseLarge(info *command.Info) bool {
	s := b.s
	s.discardLarge(true)
	text := errLarge
	switch {
	case info == nil || info.Name == "ping":
	case !info.ArityOK(s.commands.N):
		text = relay.Error("ERR wrong number of arguments for '" + info.Name + "' command")
	default:
		text = notForSubscribers(info)
	}
	s.front.take(s, info).fail(text)
	return true
}

// notForSubscribers is what Redis says to a subscriber's command that is not for subscribers.
func notForSubscribers(info *command.Info) relay.Error {
	return relay.Error("ERR Can't execute '" + info.Name +
		"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
}

// over ends all subscriptions.
func (b *subscriber) over() {
	b.s.subscriber = nil
	b.forgetEarly()
	for _, sub := range b.links {
		sub.link.Release(false)
	}
	for _, link := range b.gather {
		link.Release(false)
	}
}

// confirmation reads a confirmation of the subscribe family: its kind, the channel, and how many subscriptions there are now.
func confirmation(b []byte) (kind string, channel []byte, count int64, ok bool) {
	elements := frame.Elements(b)
	if len(elements) != 3 {
		return "", nil, 0, false
	}
	kind = string(frame.Text(elements[0]))
	switch kind {
	case kindSubscribe, kindPSubscribe, kindSSubscribe, kindUnsubscribe, kindPUnsubscribe, kindSUnsubscribe:
	default:
		return "", nil, 0, false
	}
	if len(elements[2]) < 4 || elements[2][0] != ':' {
		return "", nil, 0, false
	}
	count, err := strconv.ParseInt(string(elements[2][1:len(elements[2])-2]), 10, 64)
	return kind, frame.Text(elements[1]), count, err == nil
}

// withCount is a confirmation with another number.
func withCount(b []byte, n int64) []byte {
	end := bytes.LastIndexByte(b, ':')
	return redcon.AppendInt(bytes.Clone(b[:end]), n)
}

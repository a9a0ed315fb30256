package resp

import (
	"bytes"
	"crypto/rand"
	"maps"
	"slices"
	"strconv"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
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
	links map[string]*subscription // by node
	// gather is links to the other masters for keyspace notifications, which a master sends of its own keys only.
	gather map[string]relay.Link

	info    *command.Info // of the command that is being answered; nil for one that nobody knows
	raw     []byte
	pending int      // links that have not answered it; 0 while none is
	next    []string // nodes that it goes to when those have
	adds    bool     // it subscribes, at other masters too
	early   []byte   // what those have sent before the client knows that it is subscribed
	moving  int      // sharded channels that follow their slots
	waits   bool     // the session waits for those
	moved   string   // where a redirect says that it belongs
	chased  int      // redirects that it has followed
	mark    string   // the PING's text
	leaving bool     // nothing is passed on any more
}

// subscription is a link and what is subscribed to over it.
type subscription struct {
	link     relay.Link
	channels int64 // and patterns
	patterns int64 // of them
	sharded  int64
	silent   []following
	owed     int // answers
}

// owes counts n answers more that the node owes.
func (sub *subscription) owes(n int) {
	sub.owed += n
	sub.link.Owes(sub.owed > 0)
}

// following is a sharded channel that we have subscribed to by ourselves, and whose confirmation is due.
type following struct {
	channel []byte
	chased  int // redirects
}

// maxChased is how many redirects are followed one after another: nodes may disagree about a slot for a moment, and more than that is
// the client's to know.
const maxChased = 16

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
		s.subscriber = &subscriber{s: s, links: map[string]*subscription{}, mark: rand.Text()}
	}
	b := s.subscriber
	if !b.settled() {
		return false
	}
	addrs := b.targets(info)
	b.begin(info)
	b.gatherKeyspace(info)
	if b.pending == 0 {
		b.send(addrs...)
		return true
	}
	b.next = addrs // whose confirmations say that all is done
	for _, addr := range addrs {
		b.to(addr)
	}
	return true
}

// settled tells whether all subscriptions are where they belong, and has the session wait for that else: until a node has confirmed one,
// it may not know the session as a subscriber.
func (b *subscriber) settled() bool {
	if b.moving > 0 {
		b.waits, b.s.paused = true, forWork
		return false
	}
	return true
}

// begin takes up the command just framed.
func (b *subscriber) begin(info *command.Info) {
	b.info, b.raw, b.moved, b.chased = info, bytes.Clone(b.s.commands.Raw), "", 0
	b.s.paused = forWork
	b.s.skips = false // confirmations come whatever CLIENT REPLY says
}

var unsubscribeText = []byte("*1\r\n$11\r\nUNSUBSCRIBE\r\n*1\r\n$12\r\nPUNSUBSCRIBE\r\n*1\r\n$12\r\nSUNSUBSCRIBE\r\n")

// leave ends all subscriptions, without a word to the client. The session goes on when Redis has done it.
func (b *subscriber) leave() {
	b.leaving, b.info, b.raw, b.moved = true, nil, unsubscribeText, ""
	b.s.paused = forWork
	b.send(slices.Collect(maps.Keys(b.links))...)
}

// targets are the nodes that a command of the family goes to.
func (b *subscriber) targets(info *command.Info) []string {
	s := b.s
	if info.Channels {
		if at := s.slotOf(info, false); at != relay.AnyNode {
			return []string{s.lane.Node(at)}
		}
		var all []string // SUNSUBSCRIBE from everything
		for addr, sub := range b.links {
			if sub.sharded > 0 {
				all = append(all, addr)
			}
		}
		if len(all) > 0 {
			return all
		}
	}
	return []string{s.lane.Node(relay.AnyNode)}
}

// send sends the current command to nodes.
func (b *subscriber) send(addrs ...string) {
	b.pending += len(addrs)
	for _, addr := range addrs {
		sub := b.to(addr)
		b.say(sub.link, b.raw)
		sub.owes(1)
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

// to is the link to a node.
func (b *subscriber) to(addr string) *subscription {
	if sub := b.links[addr]; sub != nil {
		return sub
	}
	return b.open(addr)
}

func (b *subscriber) open(addr string) *subscription {
	sub := &subscription{}
	b.links[addr] = sub
	var link relay.Link
	if addr == "" {
		link = b.s.lane.Link(relay.AnyNode)
	} else {
		link = b.s.lane.LinkTo(addr)
	}
	// Nothing waits for a reply in the link's own sense: all that comes is looked at here.
	sub.link = b.s.feed(link, func(push []byte) bool { return b.other(sub, push) })
	sub.link.OnLost(func(err error) { b.s.kill("a connection with its subscriptions was lost: " + err.Error()) })
	return sub
}

// other looks at what a link brings.
func (b *subscriber) other(sub *subscription, part []byte) (ready bool) {
	s := b.s
	switch {
	case b.pending > 0 && b.isMark(part):
		b.pending--
		sub.owes(-1)
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
	if b.leaving {
		return true
	}
	if len(sub.silent) > 0 && bytes.Equal(sub.silent[0].channel, channel) && kind == kindSSubscribe {
		sub.silent = sub.silent[1:]
		sub.owes(-1)
		b.arrived()
		return true
	}
	if kind == kindSUnsubscribe && (b.info == nil || b.info.Name != kindSUnsubscribe) { // nobody has asked: the slot has left the node
		b.moving++
		b.resubscribe(following{channel: bytes.Clone(channel)}, s.lane.Node(int(slot.Of(channel))))
		return true
	}
	return s.push(withCount(part, b.sharded()))
}

// redirected handles the error of a node that does not own the slot of a sharded channel, or of a key.
func (b *subscriber) redirected(sub *subscription, part []byte) bool {
	addr, _, is := b.s.lane.Redirected(part, sub.link.Addr())
	switch {
	case !is:
	case len(sub.silent) > 0:
		next := sub.silent[0]
		sub.silent = sub.silent[1:]
		sub.owes(-1)
		if next.chased++; next.chased > maxChased {
			b.s.kill("no node serves the slot of a sharded channel that it has subscribed to")
			return true
		}
		b.resubscribe(next, addr)
		return true
	case b.info == nil:
	case b.info.Reason != command.ReasonSubscribe: // a node minds the slot first, and then what is not for subscribers
		b.s.push(appendError(nil, notForSubscribers(b.info)))
		return true
	case b.info.Channels && addr != "" && b.chased < maxChased:
		b.chased++
		b.moved = addr
		return true
	}
	return false
}

// resubscribe follows a sharded channel to the new owner of its slot. The client does not notice.
func (b *subscriber) resubscribe(f following, addr string) {
	sub := b.to(addr)
	sub.silent = append(sub.silent, f)
	sub.owes(1)
	raw := redcon.AppendArray(nil, 2)
	raw = redcon.AppendBulkString(raw, "SSUBSCRIBE")
	sub.link.Send(nil, redcon.AppendBulk(raw, f.channel))
}

// arrived goes on when a sharded channel has followed its slot.
func (b *subscriber) arrived() {
	if b.moving--; b.moving == 0 && b.waits {
		b.waits = false
		b.s.proceed()
	}
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
		addrs := b.next
		b.next = nil
		b.send(addrs...)
		return
	case b.moved != "":
		addr := b.moved
		b.moved = ""
		b.send(addr)
		return
	}
	s.front.stats.replied(b.info, false)
	b.info, b.raw, b.adds = nil, nil, false
	if early := b.early; len(early) > 0 {
		b.forgetEarly()
		s.push(early)
	}
	for addr, sub := range b.links {
		if sub.channels == 0 && sub.sharded == 0 && len(sub.silent) == 0 {
			delete(b.links, addr)
			sub.link.Release(true)
		}
	}
	if len(b.links) == 0 && b.moving == 0 || b.leaving { // a user may lack the right to unsubscribe
		b.over()
	}
	s.proceed()
}

// sharded is the number of sharded channels, those on their way from one link to another among them.
func (b *subscriber) sharded() int64 {
	n := int64(b.moving)
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
// rest. A large one is refused here.
func (b *subscriber) tunnel(info *command.Info, large bool) bool {
	if large {
		return b.refuseLarge(info)
	}
	if !b.settled() {
		return false
	}
	for addr, sub := range b.links {
		if sub.channels+sub.sharded > 0 { // else Redis would run the command
			b.begin(info)
			b.send(addr)
			break
		}
	}
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

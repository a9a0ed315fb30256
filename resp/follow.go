package resp

import (
	"bytes"
	"slices"
	"time"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/slot"
)

// A sharded channel lives on the node of its slot. When the slot leaves it, the node says so, and the channel follows: it is subscribed to
// at the next node, and its client does not notice.

// following is a sharded channel on its way.
type following struct {
	channel []byte
	chase   chase
}

// resubscribe has a channel subscribed to where its slot is.
func (b *subscriber) resubscribe(f *following) {
	sub := b.at(int(slot.Of(f.channel)))
	sub.owes(f)
	raw := redcon.AppendArray(nil, 2)
	raw = redcon.AppendBulkString(raw, "SSUBSCRIBE")
	sub.link.Send(nil, redcon.AppendBulk(raw, f.channel))
}

// putOff handles the error of a node that was asked for a channel.
func (b *subscriber) putOff(f *following, from string, part []byte) {
	addr, _, is := b.s.lane.Redirected(part, from)
	wait, ok := f.chase.next(b.s.front.loop.Now(), addr != "")
	switch {
	case b.leaving:
	case is && ok:
		b.follow(f, wait)
	default:
		b.s.kill("no node serves the slot of a sharded channel that it has subscribed to")
	}
}

// follow subscribes to a sharded channel again in a while. Meanwhile the client may leave it.
func (b *subscriber) follow(f *following, wait time.Duration) {
	b.waiting = append(b.waiting, f)
	b.goOn()
	b.s.later(wait, func() {
		if at := slices.Index(b.waiting, f); at >= 0 && b.s.subscriber == b {
			b.waiting = slices.Delete(b.waiting, at, at+1)
			b.resubscribe(f)
		}
	})
}

// moving is the number of sharded channels that follow their slots.
func (b *subscriber) moving() int {
	n := len(b.waiting)
	for _, sub := range b.links {
		for _, f := range sub.due {
			if f != nil {
				n++
			}
		}
	}
	return n
}

// settled tells whether all subscriptions are where they belong, and has the session wait for that else: until a node has confirmed one,
// it may not know the session as a subscriber. What SUNSUBSCRIBE names need not be followed any more.
func (b *subscriber) settled(info *command.Info) bool {
	settled := b.moving() == 0
	if info != nil && info.Name == kindSUnsubscribe && b.s.commands.Arguments() > 1 {
		settled = b.forgets()
	}
	if !settled {
		b.awaited, b.s.paused = true, forWork
	}
	return settled
}

// forgets has channels not be followed any more that the SUNSUBSCRIBE just framed names. It is false while a node is asked for one.
func (b *subscriber) forgets() bool {
	args := b.s.args()[1:]
	named := func(f *following) bool {
		return f != nil && slices.ContainsFunc(args, func(arg []byte) bool { return bytes.Equal(arg, f.channel) })
	}
	b.waiting = slices.DeleteFunc(b.waiting, named)
	return !slices.ContainsFunc(b.links, func(sub *subscription) bool { return slices.ContainsFunc(sub.due, named) })
}

// goOn has the session look again whether it has to wait for channels that follow their slots.
func (b *subscriber) goOn() {
	if b.awaited {
		b.awaited = false
		b.s.proceed()
	}
}

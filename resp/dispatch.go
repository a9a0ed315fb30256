package resp

import (
	"fmt"
	"slices"
	"strconv"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// command handles the command just framed, of which a large one has arrived up to its large argument. It is false when the
// session has to wait, and then sees the command again.
func (s *session) command(large bool) bool {
	info := s.front.find(&s.commands)
	if s.commands.Unauthenticated && !s.mayComeFirst(info) {
		s.latest = info
		return s.refuseUnauthenticated(info, large)
	}
	if info == nil && s.learns() {
		return false
	}
	s.latest = info
	if b := s.subscriber; b != nil && s.identity.Protocol == 2 && b.takes(info) {
		return b.tunnel(info, large)
	}
	if s.front.denies(info, &s.commands) {
		return s.deny(info, large)
	}
	if info != nil && info.AskKeys && !s.locate(info, large) {
		return false
	}
	if s.unlocated != nil {
		return s.refuseKeys(info, large, s.unlocated)
	}
	if s.front.resolver != nil && info != nil && s.namesLease(info, large) {
		return s.refuseKeys(info, large, errLeaseKey)
	}
	if t := s.transaction; t != nil {
		if ok, handled := t.command(info, large); handled {
			return ok
		}
	}
	if s.voided.err != nil {
		return s.heldBack(info, large)
	}
	if info == nil || !info.ArityOK(s.commands.N) {
		return s.relay(info, relay.AnyNode, large) // Redis's own error is the answer
	}
	if large && s.hidesKeys(info) {
		if s.collect() {
			return false
		}
		s.discardLarge(true)
		return s.error(info, string(errHiddenKeys))
	}
	switch info.Handling {
	case command.Local:
		return s.local(info, large)
	case command.ByKey:
		return s.relay(info, s.slotOf(info, large), large)
	case command.Split:
		return s.split(info, large)
	case command.BySlot:
		return s.relay(info, s.namedSlot(), large)
	case command.AllShards, command.AllNodes:
		return s.spread(info, large)
	case command.Scan:
		return s.scan(info, large)
	case command.RandomKey:
		return s.randomKey(info, large)
	case command.FixedNode:
		if info.Flags.Has(command.FlagAllowBusy) && !large {
			return s.spread(info, large)
		}
	case command.Private:
		return s.private(info, large)
	}
	return s.relay(info, relay.AnyNode, large)
}

// private handles a command that a shared connection cannot carry.
func (s *session) private(info *command.Info, large bool) bool {
	if large && s.collect() { // of many keys or channels
		return false
	}
	if large {
		s.discardLarge(true)
		s.front.take(s, info).fail(errLarge)
		return true
	}
	switch info.Reason {
	case command.ReasonTransaction:
		return s.transact(info)
	case command.ReasonBlocking:
		if !info.Blocks(s.args()) {
			return s.relay(info, s.slotOf(info, false), false)
		}
		return s.block(info)
	case command.ReasonSubscribe:
		return s.subscribe(info)
	case command.ReasonMonitor:
		return s.monitor(info)
	case command.ReasonWait:
		return s.waitReplicas(info)
	default:
	}
	switch info.Action {
	case command.ActionClientReply:
		return s.replyMode(info)
	case command.ActionClientTracking, command.ActionClientNoEvict, command.ActionClientNoTouch:
		return s.set(info)
	case command.ActionClientCaching:
		return s.caching(info)
	default:
		return s.outOfPlace(info)
	}
}

// find looks a command up by its name and, where it has some, the name of its subcommand.
func (f *front) find(c *frame.Commands) *command.Info {
	if c.Arguments() == 0 {
		return nil
	}
	table := f.side.Table()
	if table != f.stats.table {
		f.renew(table)
	}
	info := table.Lookup(c.Arg(0))
	if info != nil && c.Arguments() > 1 {
		if sub := info.Sub(c.Arg(1)); sub != nil {
			return sub
		}
	}
	return info
}

// args returns all arguments of the command just framed, which must be whole. They are valid until the next call.
func (s *session) args() [][]byte {
	s.front.args = frame.Args(slices.Grow(s.front.args[:0], s.commands.N), s.commands.Raw)
	return s.front.args
}

// slotOf is the slot of a command's first key: where it has keys of several, the node of the first says what Redis says to that.
func (s *session) slotOf(info *command.Info, large bool) int {
	if s.located != nil {
		return *s.located
	}
	if info.SingleKey {
		if at := info.FirstKey(); at < s.commands.Arguments() && at < frame.Leading {
			return int(slot.Of(s.commands.Arg(at)))
		}
	}
	var args [][]byte
	if large {
		args = s.leading()
	} else {
		args = s.args()
	}
	keys, _ := info.AppendLeadingKeys(s.front.keys[:0], args, s.commands.N)
	s.front.keys = keys
	if len(keys) == 0 {
		return relay.AnyNode
	}
	return int(slot.Of(args[keys[0]]))
}

// namedSlot is the slot that a command such as CLUSTER COUNTKEYSINSLOT names.
func (s *session) namedSlot() int {
	if n, err := strconv.Atoi(string(s.commands.Arg(2))); err == nil && n >= 0 && n < slot.Count {
		return n
	}
	return relay.AnyNode
}

// relay sends the command just framed on its way.
func (s *session) relay(info *command.Info, at int, large bool) bool {
	if large {
		if at == relay.AnyNode && info != nil && info.Keyed() && info.ArityOK(s.commands.N) && s.collect() { // its keys are behind the large argument
			return false
		}
		return s.beginLarge(info, at)
	}
	intercepts := s.intercepts(info)
	if (!intercepts || info.Write) && s.overtakes(info, at) && !s.quiet() || !s.mayRelay() {
		return false
	}
	raw, lead := s.commands.Raw, 0
	if !intercepts {
		keys := s.written(info)
		leads, ok := s.mayWrite(keys)
		if !ok {
			return false
		}
		if leads {
			raw, lead = s.front.lead(keys, raw)
		}
	}
	p := s.front.take(s, info)
	p.Slot, p.Lead = at, lead
	p.Safe = info != nil && info.Repeatable
	if intercepts {
		s.intercepted(p)
	}
	s.send(p, len(s.commands.Raw))
	if p.caching {
		s.lane.Send(s.cachingTo(at), s.tracking.cachingText())
	}
	if info != nil && info.Write {
		s.noteWrite(at)
	}
	s.lane.Send(&p.Request, raw)
	return true
}

// send counts a place as on its way.
func (s *session) send(p *place, size int) {
	p.relayed = true
	p.size = size
	if p.writes() {
		s.writing++
	}
	s.outstanding++
	s.inFlight += size
}

// reply answers the command just framed here. b is copied.
func (s *session) reply(info *command.Info, b []byte) {
	s.front.stats.replied(info, b[0] == '-')
	s.front.take(s, info).answer(b, true)
}

// outOfPlace refuses what makes a connection something that a session is not, such as a replica's.
func (s *session) outOfPlace(info *command.Info) bool {
	return s.error(info, fmt.Sprintf("ERR %s is refused by Readthrough: connect to the Redis node itself for it", displayName(info)))
}

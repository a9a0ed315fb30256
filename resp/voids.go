package resp

import (
	"bytes"
	"slices"
	"strings"

	"github.com/tidwall/redcon"
	"go.uber.org/zap"

	"readthrough/internal/command"
	"readthrough/internal/frame"
	"readthrough/internal/lease"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// A write to a mapped key is led by the void of the key's lease, an UNLINK of its lease key: whoever loads the key's value meanwhile may
// then not fill it in. Both go as one over the same connection (relay.Request.Lead), so that one is never sent again without the other.
//
// Some voids go apart: awaited before the write is sent, over the connections of the configured user. Those are the voids of transactions,
// of commands on links, and of users who have no right to lease keys. That a lease is given out between the void and its write does no harm:
// what is loaded then was read after the client asked for the write.

// voids is what has become of the voids of the command being read.
type voids struct {
	done  bool  // those that go apart are there
	tried bool  // whether the user may remove leases was asked
	err   error // why the command cannot be sent
}

// leaseRights is the ACL rule for voids.
const leaseRights = "~" + lease.Prefix + "* +unlink"

const errNoVoid = relay.Error("NOPERM the command ran, but a value that was loaded before it may still be read: the user may not remove leases (" +
	leaseRights + "), which was not known. It is now: the next command is carried out as it should be")

// named returns the keys of the command just framed, as far as they are there, for written to have them too. They are valid until the
// session has handled it.
func (s *session) named(info *command.Info, large bool) [][]byte {
	f := s.front
	named := f.named[:0]
	switch {
	case info.Channels:
	case info.SingleKey && info.FirstKey() < min(s.commands.Arguments(), frame.Leading):
		named = append(named, s.commands.Arg(info.FirstKey()))
	case s.located != nil:
		named = append(named, s.locatedKeys...)
	case large:
		args := s.leading()
		f.keys, _ = info.AppendLeadingKeys(f.keys[:0], args, s.commands.N)
		named = pick(named, args, f.keys)
	default:
		named = f.appendNamed(named, info, s.args())
	}
	f.named = named
	return named
}

// appendNamed appends the keys of a command.
func (f *front) appendNamed(named [][]byte, info *command.Info, args [][]byte) [][]byte {
	f.keys, _ = info.AppendKeys(f.keys[:0], args) // where only Redis can tell, there are none
	return pick(named, args, f.keys)
}

// pick appends the arguments at indices to dst.
func pick(dst, args [][]byte, indices []int) [][]byte {
	dst = slices.Grow(dst, len(indices))
	for _, at := range indices {
		dst = append(dst, args[at])
	}
	return dst
}

// leading returns the arguments of the large command that is being read, as far as they are there and the first ones. They are valid until
// the next call, or that of args.
func (s *session) leading() [][]byte {
	args := s.front.args[:0]
	for i := range min(s.commands.Arguments(), frame.Leading) {
		args = append(args, s.commands.Arg(i))
	}
	s.front.args = args
	return args
}

// written returns the mapped keys that the command just framed may change, of those that named has found. They are valid until the session has
// handled it.
func (s *session) written(info *command.Info) [][]byte {
	if info == nil || !s.mayChangeMapped(info) || !info.ArityOK(s.commands.N) {
		return nil
	}
	return s.front.onlyMapped(s.front.named)
}

// mayChangeMapped tells whether a command of the session's may change mapped keys, if it names any.
func (s *session) mayChangeMapped(info *command.Info) bool {
	return info.Write && s.mapsApply()
}

// onlyMapped leaves out the keys that no map matches.
func (f *front) onlyMapped(keys [][]byte) [][]byte {
	mapped := keys[:0]
	for _, key := range keys {
		if f.resolver.Mapped(key) {
			mapped = append(mapped, key)
		}
	}
	return mapped
}

// hidesKeys tells whether a large command may change keys that have not come yet.
func (s *session) hidesKeys(info *command.Info) bool {
	if !s.mayChangeMapped(info) {
		return false
	}
	f := s.front
	var all bool
	f.keys, all = info.AppendLeadingKeys(f.keys[:0], s.leading(), s.commands.N)
	return !all
}

// mayWrite tells whether the command just framed, which changes mapped keys, may be sent, and whether their voids lead it. It may not
// while something is to be awaited: the session then sees the command again.
func (s *session) mayWrite(keys [][]byte) (leads, ok bool) {
	switch {
	case len(keys) == 0 || s.voided.done:
		return false, true
	case s.tracking != nil && s.tracking.caching: // CLIENT CACHING is about the very next command
		return false, s.voidApart(keys)
	case !s.identity.Own:
		return true, true
	}
	switch apart, known := s.front.apart[s.user()]; {
	case !known && !s.voided.tried:
		s.voided.tried = true
		return true, s.void(s.lane, keys, (*voiding).learnt)
	case apart:
		return false, s.voidApart(keys)
	}
	return true, true
}

// lead returns a command, led by the void of mapped keys of its, and the size of the void. It is valid until the next call.
func (f *front) lead(keys [][]byte, raw []byte) (unit []byte, size int) {
	n := 0
	bulks := f.bulks[:0]
	for _, key := range keys {
		f.resolver.Forget(key)
		if name, ok := lease.AppendKey(f.lease[:0], key); ok {
			f.lease = name
			bulks = redcon.AppendBulk(bulks, name)
			n++
		}
	}
	f.bulks = bulks
	if n == 0 {
		return raw, 0
	}
	unit = redcon.AppendArray(f.unit[:0], n+1)
	unit = redcon.AppendBulkString(unit, "UNLINK")
	unit = append(unit, bulks...)
	size = len(unit)
	unit = append(unit, raw...)
	f.unit = unit
	f.spare()
	return unit, size
}

// maxKeptUnit is the size in bytes up to which the memory for a command with its void is kept.
const maxKeptUnit = 64 << 10

// spare frees what a large void took.
func (f *front) spare() {
	if cap(f.unit) > maxKeptUnit || cap(f.lease) > maxKeptUnit {
		f.unit, f.bulks, f.lease = nil, nil, nil
	}
}

// leadPart is lead for a part of a fanout.
func (f *front) leadPart(info *command.Info, raw []byte) (unit []byte, size int) {
	f.args = frame.Args(f.args[:0], raw)
	f.named = f.appendNamed(f.named[:0], info, f.args)
	return f.lead(f.onlyMapped(f.named), raw)
}

// unvoided judges that a user may not remove the lease of a key that he has written. The error, if there is one, takes the place of the
// write's reply.
func (s *session) unvoided(refused, reply []byte) error {
	f := s.front
	if !s.identity.Own {
		f.voidRefused(refused)
		return nil
	}
	f.apart[s.user()] = true
	if isError(reply) {
		return nil
	}
	return errNoVoid
}

// unvoided answers a write whose void was refused, where its own reply may not do.
func (p *place) unvoided(refused, b []byte, last bool) (kept bool) {
	err := p.session.unvoided(refused, b)
	switch {
	case err == nil:
		return false
	case last:
		p.fail(err)
	default:
		p.inspect = func(_ []byte, _, last bool) bool {
			if last {
				p.fail(err)
			}
			return true
		}
	}
	return true
}

// voidRefused notes that the configured user may not remove leases. Then he can have none either, and nobody fills anything in.
func (f *front) voidRefused(refused []byte) {
	f.stats.VoidsRefused++
	f.server.voidRefused.Do(func() {
		f.log.Warn("Redis does not let the sidecar's user remove leases: grant it, so that misses are loaded once and filled in",
			zap.String("rule", leaseRights), zap.ByteString("reply", bytes.TrimRight(refused, "\r\n")))
	})
}

// voiding is the removal of leases that a session awaits. Those of many keys go one window after the other: all at once, they would take
// many times the memory of the command.
type voiding struct {
	s        *session
	lane     relay.Lane
	owner    relay.Owner
	keys     [][]byte        // whose leases are to follow
	kept     int             // what they are counted with, in bytes
	requests []relay.Request // on their way, and answered ones of the same window
	left     int             // of them, those on their way
	asked    bool
	refused  []byte // the last refusal for want of a right
	err      error  // the first other failure
	done     func(*voiding)
}

// voidWindow is the number of leases that are being removed at a time, and maxVoidWindow the size in bytes of their keys that ends a
// window before.
const (
	voidWindow    = 128
	maxVoidWindow = 64 << 10
)

// voidApart has the leases of keys removed by the configured user, and is true when they are. Else the session waits, and sees its
// command again.
func (s *session) voidApart(keys [][]byte) bool {
	if len(keys) == 0 || s.voided.done {
		return true
	}
	lane, err := s.front.side.Lane(s.front.identity())
	if err != nil {
		s.voided = voids{done: true, err: err}
		return false // it is seen again, with the error
	}
	return s.void(lane, keys, func(v *voiding) {
		lane.Release()
		if v.refused != nil {
			s.front.voidRefused(v.refused)
		}
		s.voided = voids{done: true, err: v.err}
	})
}

// learnt notes whether a user may remove leases, unless it is not known.
func (v *voiding) learnt() {
	if v.refused != nil || v.asked && v.err == nil {
		v.s.front.apart[v.s.user()] = v.refused != nil
	}
}

// void has the leases of keys removed over a lane. Each goes by itself: while a slot moves they need not be on one node.
func (s *session) void(lane relay.Lane, keys [][]byte, done func(*voiding)) bool {
	v := &voiding{s: s, lane: lane, keys: keys, done: done}
	v.owner.Kill = func(string) {} // it is never slow
	v.requests = make([]relay.Request, 0, min(len(keys), voidWindow))
	s.paused = forWork
	v.send()
	if len(v.keys) > 0 { // they are where the client's next bytes may come
		v.keys, v.kept = cloned(v.keys)
		s.keep(v.kept)
	}
	return false
}

// cloned returns copies of keys, and their size in bytes.
func cloned(keys [][]byte) (copies [][]byte, size int) {
	copies = make([][]byte, len(keys))
	for _, key := range keys {
		size += len(key)
	}
	b := make([]byte, 0, size)
	for i, key := range keys {
		at := len(b)
		b = append(b, key...)
		copies[i] = b[at:]
	}
	return copies, size + len(keys)*keySize
}

// send has the next leases removed.
func (v *voiding) send() {
	f := v.s.front
	if v.s.gone {
		v.keys = nil
	}
	v.requests, v.left = v.requests[:0], 1
	for size := 0; len(v.keys) > 0 && len(v.requests) < voidWindow && size < maxVoidWindow; v.keys = v.keys[1:] {
		key := v.keys[0]
		size += len(key)
		f.resolver.Forget(key)
		name, ok := lease.AppendKey(f.lease[:0], key)
		if !ok {
			continue
		}
		f.lease = name
		f.unit = redcon.AppendBulk(append(f.unit[:0], "*2\r\n$6\r\nUNLINK\r\n"...), name)
		v.left++
		v.asked = true
		v.requests = append(v.requests, relay.Request{Sink: v, Owner: &v.owner, Slot: int(slot.Of(key)), Safe: true})
		v.lane.Send(&v.requests[len(v.requests)-1], f.unit)
	}
	f.spare()
	v.answered()
}

// Reply implements relay.Sink.
func (v *voiding) Reply(_ *relay.Request, b []byte, _ bool) bool {
	switch {
	case b[0] == ':':
	case bytes.HasPrefix(b, []byte("-NOPERM ")), bytes.HasPrefix(b, []byte("-ERR ")):
		v.refused = bytes.Clone(b)
	case v.err == nil:
		v.err = relay.Error(strings.TrimRight(string(b[1:]), "\r\n"))
	}
	v.answered()
	return true
}

// Fail implements relay.Sink.
func (v *voiding) Fail(_ *relay.Request, err error) {
	if v.err == nil {
		v.err = err
	}
	v.answered()
}

func (v *voiding) answered() {
	s := v.s
	if v.left--; v.left > 0 {
		return
	}
	if len(v.keys) > 0 && v.err == nil {
		s.front.loop.Post(v.send) // a sink must not send from within
		return
	}
	v.keys = nil
	v.done(v)
	if !s.gone {
		s.keep(-v.kept)
		s.proceed()
	}
}

// errUnvoided is the answer to an EXEC that was held back.
func errUnvoided(cause error) relay.Error {
	return relay.Error("EXECABORT Transaction discarded because the leases of its keys could not be removed: " + cause.Error())
}

// heldBack answers a command whose voids have failed, which therefore was not sent.
func (s *session) heldBack(info *command.Info, large bool) bool {
	s.discardLarge(large)
	s.front.take(s, info).fail(s.voided.err)
	return true
}

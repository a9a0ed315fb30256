package upstream

import (
	"context"
	"crypto/sha1" // as Redis's scripts have it
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"readthrough/internal/lease"
	"readthrough/internal/slot"
)

// leaseTimeout bounds a call whose context gives it longer.
const leaseTimeout = time.Second

// Errors that a call gives before anything was sent.
var (
	errNoTopology = errors.New("no Redis node is known yet")
	errNoNode     = errors.New("no Redis node serves the key's slot")
)

// Leases is Redis as the place of leases. It implements lease.Leases.
//
// Each call goes to the node that serves the key's slot as far as is known, over a client of that node alone. A fill goes to the node that
// granted the right to it, and follows no redirect: on another node nobody can tell whether the key was written meanwhile.
type Leases struct {
	clients  *clients
	topology func() *Topology // nil before discovery
	refresh  func()
}

// newLeases asks the nodes of topology, and for a refresh of it where an answer says that it is outdated.
func newLeases(clients *clients, topology func() *Topology, refresh func()) *Leases {
	return &Leases{clients: clients, topology: topology, refresh: refresh}
}

// Acquire implements lease.Leases.
func (l *Leases) Acquire(ctx context.Context, keys [][]byte, token string, lasts time.Duration) []lease.Acquired {
	acquired := make([]lease.Acquired, len(keys))
	calls := make([]call, 0, len(keys))
	for i, key := range keys {
		node, err := l.node(key)
		if err != nil {
			acquired[i].Err = err
			continue
		}
		calls = append(calls, newCall(i, node, acquireScript, key, token, milliseconds(lasts)))
	}
	l.call(ctx, calls, true, func(c *call, reply rueidis.RedisResult, err error) {
		a := &acquired[c.index]
		if err != nil {
			a.Err = err
			return
		}
		*a = readAcquired(reply)
		a.Grant = lease.Grant{Key: keys[c.index], Token: token, Node: c.node}
	})
	return acquired
}

func readAcquired(reply rueidis.RedisResult) (a lease.Acquired) {
	number, more, err := readAnswer(reply)
	switch {
	case err != nil:
		a.Err = err
	case number == answerHit:
		a.State = lease.Hit
		if more != nil {
			var text string
			if text, a.Err = more.ToString(); a.Err != nil {
				a.State = lease.Failed
			}
			a.Value = append([]byte{}, text...)
		}
	case number == answerMissing:
		a.State = lease.Missing
	case number == answerWait:
		a.State = lease.Wait
	case number == answerGranted:
		a.State = lease.Granted
	default:
		a.Err = fmt.Errorf("a script answers %d", number)
	}
	return a
}

// readAnswer reads an array of a number and perhaps something more.
func readAnswer(reply rueidis.RedisResult) (number int64, more *rueidis.RedisMessage, err error) {
	elements, err := reply.ToArray()
	if err == nil && len(elements) == 0 {
		err = errors.New("a script answers nothing")
	}
	if err != nil {
		return 0, nil, err
	}
	if len(elements) > 1 {
		more = &elements[1]
	}
	number, err = elements[0].ToInt64()
	return number, more, err
}

// Fill implements lease.Leases.
func (l *Leases) Fill(ctx context.Context, fills []lease.Fill) (accepted []bool, errs []error) {
	accepted, errs = make([]bool, len(fills)), make([]error, len(fills))
	calls := make([]call, len(fills))
	for i := range fills {
		g := &fills[i].Grant
		calls[i] = newCall(i, g.Node, fillScript, g.Key, fillArgs(&fills[i])...)
	}
	l.call(ctx, calls, false, func(c *call, reply rueidis.RedisResult, err error) {
		accepted[c.index], errs[c.index] = readAccepted(reply, err)
	})
	return accepted, errs
}

func fillArgs(f *lease.Fill) []string {
	found, fresh, fingerprint := "0", "0", ""
	if f.Found {
		found = "1"
	}
	if f.Stale > 0 {
		fresh = milliseconds(max(f.TTL-f.Stale, time.Millisecond))
		sum := sha1.Sum(f.Value)
		fingerprint = hex.EncodeToString(sum[:])
	}
	return []string{
		f.Grant.Token, found, rueidis.BinaryString(f.Value), milliseconds(max(f.TTL, time.Millisecond)), fresh, milliseconds(f.Missing), fingerprint,
	}
}

func readAccepted(reply rueidis.RedisResult, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := reply.ToInt64()
	return n == 1, err
}

// GiveBack implements lease.Leases.
func (l *Leases) GiveBack(ctx context.Context, grants []lease.Grant) {
	calls := make([]call, len(grants))
	for i, g := range grants {
		calls[i] = newCall(i, g.Node, giveBackScript, g.Key, g.Token)
	}
	l.call(ctx, calls, false, func(*call, rueidis.RedisResult, error) {}) // one that fails ends by itself
}

// Renew implements lease.Leases.
func (l *Leases) Renew(ctx context.Context, key []byte, token string, lasts time.Duration) (r lease.Renewal) {
	node, err := l.node(key)
	if err != nil {
		return lease.Renewal{Err: err}
	}
	calls := []call{newCall(0, node, renewScript, key, token, milliseconds(lasts))}
	l.call(ctx, calls, true, func(c *call, reply rueidis.RedisResult, err error) {
		if err != nil {
			r.Err = err
			return
		}
		number, more, err := readAnswer(reply)
		switch {
		case err != nil:
			r.Err = err
		case number == answerMissing:
			r.State = lease.Missing
		case number == answerWait && more != nil:
			var ms int64
			if ms, r.Err = more.ToInt64(); r.Err == nil {
				r.State, r.Due = lease.Wait, time.Duration(ms)*time.Millisecond
			}
		case number == answerGranted && more != nil:
			if r.Fingerprint, r.Err = more.ToString(); r.Err == nil {
				r.State, r.Grant = lease.Granted, lease.Grant{Key: key, Token: token, Node: c.node}
			}
		default:
			r.Err = fmt.Errorf("a script answers %d", number)
		}
	})
	return r
}

// Replace implements lease.Leases.
func (l *Leases) Replace(ctx context.Context, f lease.Fill, fingerprint string) (accepted bool, err error) {
	calls := []call{newCall(0, f.Grant.Node, replaceScript, f.Grant.Key, append(fillArgs(&f), fingerprint)...)}
	l.call(ctx, calls, false, func(_ *call, reply rueidis.RedisResult, failed error) {
		accepted, err = readAccepted(reply, failed)
	})
	return accepted, err
}

// node returns the address of the node that serves a key.
func (l *Leases) node(key []byte) (string, error) {
	topology := l.topology()
	if topology == nil {
		return "", errNoTopology
	}
	node, ok := topology.node(slot.Of(key))
	if !ok {
		l.refresh()
		return "", errNoNode
	}
	return node.Addr, nil
}

// call is the invocation of a script on a node.
type call struct {
	invocation
	index int // the caller's
	node  string
	none  bool // the key can have no lease
}

func newCall(index int, node string, script *script, key []byte, args ...string) call {
	leaseKey, ok := lease.AppendKey(nil, key)
	return call{invocation{script, key, leaseKey, args}, index, node, !ok}
}

// call invokes scripts, those of one node in one round trip and the nodes side by side, and hands out the replies, one at a time. Where
// they may, calls follow one MOVED.
func (l *Leases) call(ctx context.Context, calls []call, follows bool, done func(c *call, reply rueidis.RedisResult, err error)) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	byNode := map[string][]*call{}
	for i := range calls {
		c := &calls[i]
		if c.none {
			done(c, rueidis.RedisResult{}, lease.ErrNone)
			continue
		}
		byNode[c.node] = append(byNode[c.node], c)
	}
	var handing sync.Mutex
	var moved []call
	one := func(node string, calls []*call) {
		scripts := make([]invocation, len(calls))
		for i, c := range calls {
			scripts[i] = c.invocation
		}
		replies, err := l.clients.get(node).invoke(ctx, scripts)
		handing.Lock()
		defer handing.Unlock()
		if err != nil {
			l.outdated(err)
		}
		for i, c := range calls {
			if err != nil {
				done(c, rueidis.RedisResult{}, err)
				continue
			}
			failure := replies[i].Error()
			if rueidis.IsRedisNil(failure) {
				failure = errors.New("a script answers null")
			}
			to, is := movedTo(failure, node)
			l.outdated(failure)
			if is && follows {
				c.node = to
				moved = append(moved, *c)
				continue
			}
			done(c, replies[i], reason(failure))
		}
	}
	if len(byNode) == 1 {
		for node, calls := range byNode {
			one(node, calls)
		}
	} else {
		var all sync.WaitGroup
		for node, calls := range byNode {
			all.Go(func() { one(node, calls) })
		}
		all.Wait()
	}
	if len(moved) > 0 {
		l.call(ctx, moved, false, done)
	}
}

func (l *Leases) outdated(err error) {
	if err != nil && outdated(err) {
		l.refresh()
	}
}

// outdated tells whether err is a reason to look at the topology again: the node is gone, or says that it is not the one.
func outdated(err error) bool {
	return !refused(err) || hasCode(err, "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN")
}

// movedTo is where a MOVED says that the key's slot is.
func movedTo(err error, from string) (addr string, is bool) {
	text, is := strings.CutPrefix(errorText(err), "MOVED ")
	if !is {
		return "", false
	}
	to, is := parseRedirection([]byte(text), from)
	return to.addr, is
}

// reason is an error reply in the words of the lease protocol: the slot is moving, Redis refuses, or it is as good as gone.
func reason(err error) error {
	text := errorText(err)
	switch {
	case err == nil:
		return nil
	case hasCode(err, "MOVED", "ASK", "TRYAGAIN"):
		return fmt.Errorf("%w: %s", lease.ErrMoving, text)
	case text == "" || hasCode(err, "CLUSTERDOWN", "MASTERDOWN", "LOADING", "BUSY", "NOAUTH", "WRONGPASS"):
		return err
	case hasCode(err, "NOPERM") || strings.Contains(text, "can't run this command"):
		return fmt.Errorf("%w: %s: grant the sidecar's user %s", lease.ErrRefused, text, leaseRule)
	default:
		return fmt.Errorf("%w: %s", lease.ErrRefused, text)
	}
}

// leaseRule is what the sidecar's user needs for leases, beside its rights on the keys themselves.
const leaseRule = "~" + leaseKeys + " +del +eval +evalsha +exists +get +pttl +set +time +unlink"

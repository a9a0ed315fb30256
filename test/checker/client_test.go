package checker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"readthrough/test/harness"
)

// patience is how long a client waits for an answer before it gives up, much longer than it should have to.
const patience = 40 * time.Second

// subject is a key in use, which another one takes the place of when it is given up.
type subject struct {
	kind *kind
	tag  string
	key  atomic.Pointer[key]
	lock sync.Mutex // the application's, of a locked kind
}

// client is one of the application's, with a connection to one sidecar.
type client struct {
	run  *run
	name string
	via  *sidecar
	rng  *rand.Rand
	own  bool          // it authenticates, as a user who has no right to lease keys
	conn *harness.Conn // nil while there is none

	// seen counts what it was answered; merged when it has ended.
	seen tally
}

// lost is the outcome of a command whose answer did not come.
var lost = harness.Value{Type: '-', Str: "LOST the connection was closed"}

// exchange sends commands at once and reads their replies. Those that do not come are lost. It waits for a connection until ctx ends, and
// returns nil if nothing was sent.
func (c *client) exchange(ctx context.Context, commands ...[]string) []harness.Value {
	if c.conn == nil && !c.connect(ctx) {
		return nil
	}
	began := time.Now()
	replies, err := c.roundTrip(commands)
	if took := time.Since(began); took > time.Second {
		c.run.waited(wait{strings.Join(commands[0], " "), c.name, c.via, began, took})
	}
	if err != nil {
		c.disconnect()
		c.seen["connections lost"]++
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.seen["answers that never came"]++
		}
	}
	for len(replies) < len(commands) {
		replies = append(replies, lost)
	}
	return replies
}

// connect waits for a connection. It is false if ctx ends before.
func (c *client) connect(ctx context.Context) bool {
	err := harness.Poll(ctx, func() error {
		conn, err := harness.Dial(ctx, c.via.process.Addr(), nil)
		if err != nil {
			return err
		}
		conn.Timeout = patience
		if c.own {
			reply, err := conn.Do("AUTH", ownUser, ownPassword)
			if err != nil || string(reply) != "+OK\r\n" {
				_ = conn.Close()
				return fmt.Errorf("AUTH is answered %q, %w", reply, err)
			}
		}
		c.conn = conn
		return nil
	})
	return err == nil
}

func (c *client) roundTrip(commands [][]string) (replies []harness.Value, err error) {
	var b []byte
	for _, command := range commands {
		b = append(b, harness.Command(command...)...)
	}
	if err := c.conn.Send(b); err != nil {
		return nil, err
	}
	for range commands {
		raw, err := c.conn.ReadReply()
		if err != nil {
			return replies, err
		}
		v, err := harness.Decode(raw)
		if err != nil {
			return replies, err
		}
		replies = append(replies, v)
	}
	return replies, nil
}

func (c *client) disconnect() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// pick draws a subject.
func (c *client) pick() *subject { return c.run.subjects[c.rng.IntN(len(c.run.subjects))] }

// rest waits for a random time.
func (c *client) rest(ctx context.Context, upTo time.Duration) {
	if upTo > 0 {
		rest(ctx, time.Duration(c.rng.Int64N(int64(upTo))))
	}
}

// read reads at random until ctx ends.
func (c *client) read(ctx context.Context) {
	defer c.disconnect()
	for ctx.Err() == nil {
		k := c.pick().key.Load()
		switch draw := c.rng.IntN(10); {
		case draw < 2:
			other := c.pick().key.Load()
			c.get(ctx, "GET in a pipeline", []*key{k, other}, []string{"GET", k.name}, []string{"GET", other.name})
		case draw < 3:
			c.get(ctx, "GET under WATCH", []*key{nil, k, nil}, []string{"WATCH", k.name}, []string{"GET", k.name}, []string{"UNWATCH"})
		case draw < 4 && withProtocol:
			keys := []*key{k, c.pick().key.Load(), c.pick().key.Load()}
			c.get(ctx, "MGET", keys, []string{"MGET", keys[0].name, keys[1].name, keys[2].name})
		case draw < 5 && withProtocol:
			command := []string{"GETEX", k.name}
			if k.kind.evicted {
				command = append(command, "PX", strconv.Itoa(1+c.rng.IntN(500)))
			}
			c.get(ctx, "GETEX", []*key{k}, command)
		default:
			c.get(ctx, "GET", []*key{k}, []string{"GET", k.name})
		}
		c.rest(ctx, c.run.profile.pauseRead)
	}
}

// get sends reads and records their answers, which are those of keys in turn; nil stands for a command that reads none.
func (c *client) get(ctx context.Context, how string, keys []*key, commands ...[]string) {
	sent := c.run.ticks.next()
	replies := c.exchange(ctx, commands...)
	done := c.run.ticks.next()
	if replies == nil {
		return
	}
	if how == "MGET" {
		if whole := replies[0]; whole.Type == '*' && len(whole.Elems) == len(keys) {
			replies = whole.Elems
		} else {
			replies = make([]harness.Value, len(keys))
			for i := range replies {
				replies[i] = whole
			}
		}
	}
	for i, k := range keys {
		if k == nil {
			continue
		}
		c.record(k, replies[i], read{how: how, sent: sent, done: done})
	}
}

// record notes an answer.
func (c *client) record(k *key, v harness.Value, r read) {
	r.client, r.via = c.name, c.via
	version, isValue := strings.CutPrefix(v.Str, "v")
	number, err := strconv.Atoi(version)
	switch {
	case v.Null:
		c.seen["reads answered: null"]++
	case v.Type == '$' && isValue && err == nil && number > 0:
		r.version = number
		c.seen["reads answered: value"]++
	case v.Err() != nil:
		r.err = v.Str
		code, _, _ := strings.Cut(v.Str, " ")
		c.seen["reads answered: error "+code]++
	default:
		c.run.broken("P1", k.name, "the answer of "+r.how+" is "+strconv.Quote(string(v.Type)+v.Str))
		return
	}
	k.was(r)
}

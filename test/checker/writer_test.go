package checker

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"readthrough/test/harness"
)

// writing is a way to write a key.
type writing struct {
	how string
	do  func(c *client, ctx context.Context, s *subject, how string)
}

// write writes at random until ctx ends.
func (c *client) write(ctx context.Context) {
	defer c.disconnect()
	for ctx.Err() == nil {
		s := c.pick()
		way := s.kind.writings[c.rng.IntN(len(s.kind.writings))]
		way.do(c, ctx, s, way.how)
		c.rest(ctx, c.run.profile.pauseWrite)
	}
}

// change commits a new version of a key's row and records that it was begun.
func (c *client) change(k *key, how string, absent bool) *write {
	begun := c.run.ticks.next()
	// A change that has begun is finished: nobody could tell otherwise which version it has.
	version, err := c.run.world.change(context.Background(), k.id, absent)
	if err != nil {
		c.run.failed(err) // and so has the test
	}
	return k.wrote(&write{version: version, absent: absent, how: how, client: c.name, begun: begun})
}

// drops draws whether a change deletes the row.
func (c *client) drops(k *key) bool { return k.kind.rows && c.rng.IntN(3) == 0 }

// ran tells whether a command was answered as one that has run.
func ran(replies []harness.Value) bool {
	for _, v := range replies {
		if v.Err() != nil || slices.ContainsFunc(v.Elems, func(e harness.Value) bool { return e.Err() != nil }) {
			return false
		}
		if v.Type == '*' && v.Null {
			return false // EXEC did not
		}
	}
	return len(replies) > 0
}

// tell sends the commands that tell Redis of a write, and records the outcome. Commands that are harmless at any time, such as DEL of
// keys that may be evicted, are sent again until they are acknowledged, over other connections.
func (c *client) tell(ctx context.Context, k *key, w *write, repeat bool, commands ...[]string) bool {
	for try := 0; ; try++ {
		ok := ran(c.exchange(ctx, commands...))
		if ok || !repeat || try == 5 || ctx.Err() != nil {
			c.settle(k, w, ok)
			return ok
		}
		c.seen["writes sent again"]++
		c.disconnect() // a MULTI might be open
	}
}

func (c *client) settle(k *key, w *write, ok bool) {
	if ok {
		k.settled(w, c.via, c.run.ticks.next())
		c.seen["writes acknowledged: "+w.how]++
		return
	}
	k.settled(w, c.via, 0)
	c.disconnect()
	c.seen["writes unknown: "+w.how]++
}

// commands changes the row and then sends commands.
func (c *client) commands(ctx context.Context, s *subject, how string, commands func(k *key) [][]string) {
	c.exclusively(s, func(k *key) bool {
		w := c.change(k, how, c.drops(k))
		return c.tell(ctx, k, w, !s.kind.locked, commands(k)...)
	})
}

// exclusively has a writing work on a subject's key, and gives the key up if it is of a locked kind and the outcome is not known.
func (c *client) exclusively(s *subject, do func(k *key) (known bool)) {
	if !s.kind.locked {
		do(s.key.Load())
		return
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if do(s.key.Load()) {
		return
	}
	c.seen["keys given up"]++
	k, err := c.run.newKey(s.kind, s.tag, c.drops(s.key.Load()))
	if err != nil {
		c.run.failed(err)
		return
	}
	s.key.Store(k)
}

func (c *client) del(ctx context.Context, s *subject, how string) {
	c.commands(ctx, s, how, func(k *key) [][]string { return [][]string{{"DEL", k.name}} })
}

func (c *client) unlink(ctx context.Context, s *subject, how string) {
	c.commands(ctx, s, how, func(k *key) [][]string { return [][]string{{"UNLINK", k.name}} })
}

func (c *client) getdel(ctx context.Context, s *subject, how string) {
	c.commands(ctx, s, how, func(k *key) [][]string { return [][]string{{"GETDEL", k.name}} })
}

func (c *client) expire(ctx context.Context, s *subject, how string) {
	c.commands(ctx, s, how, func(k *key) [][]string { return [][]string{{"PEXPIRE", k.name, "0"}} })
}

func (c *client) multi(ctx context.Context, s *subject, how string) {
	c.commands(ctx, s, how, func(k *key) [][]string { return [][]string{{"MULTI"}, {"DEL", k.name}, {"EXEC"}} })
}

func (c *client) script(ctx context.Context, s *subject, how string) {
	c.commands(ctx, s, how, func(k *key) [][]string {
		return [][]string{{"EVAL", "return redis.call('DEL', KEYS[1])", "1", k.name}}
	})
}

// pipelined reads the key before and after it deletes it.
func (c *client) pipelined(ctx context.Context, s *subject, how string) {
	k := s.key.Load()
	w := c.change(k, how, c.drops(k))
	get := []string{"GET", k.name}
	sent := c.run.ticks.next()
	replies := c.exchange(ctx, get, []string{"DEL", k.name}, get)
	done := c.run.ticks.next()
	if replies == nil {
		c.settle(k, w, false)
		return
	}
	c.settle(k, w, ran(replies[1:2]))
	c.record(k, replies[0], read{how: "GET before DEL", sent: sent, done: done})
	after := read{how: "GET after DEL", sent: sent, done: done}
	if ran(replies[1:2]) {
		after.own = w.version
	}
	c.record(k, replies[2], after)
}

// pair deletes two keys, mostly of two slots, by one command.
func (c *client) pair(ctx context.Context, s *subject, how string) {
	first := s.key.Load()
	other := c.pick()
	if other.kind.locked || other == s {
		c.del(ctx, s, how)
		return
	}
	second := other.key.Load()
	w1, w2 := c.change(first, how, c.drops(first)), c.change(second, how, c.drops(second))
	ok := ran(c.exchange(ctx, []string{"DEL", first.name, second.name}))
	c.settle(first, w1, ok)
	c.settle(second, w2, ok)
}

// setTo is a value as the query makes it.
func setTo(k *key, version int) []string { return []string{"SET", k.name, "v" + strconv.Itoa(version)} }

// setAfter sets the key to what was committed.
func (c *client) setAfter(ctx context.Context, s *subject, how string) {
	c.exclusively(s, func(k *key) bool {
		w := c.change(k, how, false)
		return c.tell(ctx, k, w, false, setTo(k, w.version))
	})
}

func (c *client) setMulti(ctx context.Context, s *subject, how string) {
	c.exclusively(s, func(k *key) bool {
		w := c.change(k, how, false)
		return c.tell(ctx, k, w, false, []string{"MULTI"}, setTo(k, w.version), []string{"EXEC"})
	})
}

// setByRename and setByCopy have another key's value become the key's.
func (c *client) setByRename(ctx context.Context, s *subject, how string) {
	c.exclusively(s, func(k *key) bool {
		w := c.change(k, how, false)
		made := setTo(k, w.version)
		made[1] = k.other()
		return c.tell(ctx, k, w, false, made, []string{"RENAME", k.other(), k.name})
	})
}

func (c *client) setByCopy(ctx context.Context, s *subject, how string) {
	c.exclusively(s, func(k *key) bool {
		w := c.change(k, how, false)
		made := setTo(k, w.version)
		made[1] = k.other()
		return c.tell(ctx, k, w, false, made, []string{"COPY", k.other(), k.name, "REPLACE"})
	})
}

// setBefore sets the key to what it commits afterwards. It is acknowledged when both are done.
func (c *client) setBefore(ctx context.Context, s *subject, how string) {
	c.exclusively(s, func(k *key) bool { return c.setAndCommit(ctx, k, how) })
}

func (c *client) setAndCommit(ctx context.Context, k *key, how string) (known bool) {
	// Nobody else changes the row, nor the version, meanwhile.
	w := k.wrote(&write{version: k.version + 1, how: how, client: c.name, begun: c.run.ticks.next()})
	if !ran(c.exchange(ctx, setTo(k, w.version))) {
		c.settle(k, w, false)
		return false
	}
	version, err := c.run.world.change(context.Background(), k.id, false)
	if err != nil || version != w.version {
		c.run.failed(fmt.Errorf("%s is now v%d and not v%d: %w", k.name, version, w.version, err))
	}
	c.settle(k, w, true)
	return true
}

// renewBefore deletes the key after a change and sets it to what it commits next.
func (c *client) renewBefore(ctx context.Context, s *subject, how string) {
	c.exclusively(s, func(k *key) bool {
		return c.tell(ctx, k, c.change(k, how, false), false, []string{"DEL", k.name}) && c.setAndCommit(ctx, k, how)
	})
}

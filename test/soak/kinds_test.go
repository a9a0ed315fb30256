package soak

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"readthrough/test/harness"
)

// kind is a kind of load. What it reads tells of itself: a value carries its key and a version.
type kind struct {
	name  string
	do    func(c *client) error
	old   bool // in RESP2 only
	loses bool // its connection may be closed when Redis fails in the middle
}

var kinds = []kind{
	{name: "get", do: (*client).get},
	{name: "many", do: (*client).many},
	{name: "renew", do: (*client).renew},
	{name: "own", do: (*client).own},
	{name: "pipeline", do: (*client).pipeline},
	{name: "transaction", do: (*client).transaction},
	{name: "publish", do: (*client).publish, old: true, loses: true},
	{name: "block", do: (*client).block},
	{name: "script", do: (*client).script},
	{name: "scan", do: (*client).scan},
	{name: "large", do: (*client).large, loses: true},
	{name: "run away", do: (*client).runAway},
}

func (c *client) tag() string { return tags[c.rng.IntN(len(tags))] }

// item is a key with or without a row.
func (c *client) item() (key, tag string, id int) {
	tag, id = c.tag(), c.rng.IntN(rows+5)
	return fmt.Sprintf("item:{%s}:%d", tag, id), tag, id
}

// checkItem says what is wrong with the value of an item, and returns its version.
func (c *client) checkItem(v harness.Value, tag string, id int) (version int64, err error) {
	if id >= rows {
		if !v.Null {
			return 0, fmt.Errorf("%q for item %d, which has no row", v.Str, id)
		}
		return 0, nil
	}
	text, is := strings.CutPrefix(v.Str, fmt.Sprintf("item|%s|%d|", tag, id))
	if !is {
		return 0, fmt.Errorf("%q for item %d with tag %s", v.Str, id, tag)
	}
	version, err = strconv.ParseInt(text, 10, 64)
	if most := c.world.versions[id].Load(); err == nil && (version < 0 || version > most) {
		err = fmt.Errorf("%q for item %d, whose latest version is %d", v.Str, id, most)
	}
	return version, err
}

func (c *client) get() error {
	key, tag, id := c.item()
	command := []string{"GET", key}
	if c.rng.IntN(4) == 0 {
		command = []string{"GETEX", key, "EX", "5"}
	}
	v, err := c.ask(command...)
	if err == nil {
		_, err = c.checkItem(v, tag, id)
	}
	return err
}

func (c *client) many() error {
	command := []string{"MGET"}
	var named []string
	var ids []int
	for range 1 + c.rng.IntN(10) {
		key, tag, id := c.item()
		command, named, ids = append(command, key), append(named, tag), append(ids, id)
	}
	v, err := c.ask(command...)
	if err != nil {
		return err
	}
	if len(v.Elems) != len(ids) {
		return fmt.Errorf("%q: %d elements", command, len(v.Elems))
	}
	for i, e := range v.Elems {
		if _, err := c.checkItem(e, named[i], ids[i]); err != nil {
			return fmt.Errorf("%q, element %d: %w", command, i, err)
		}
	}
	return nil
}

// renew changes a row, deletes its keys, and then reads nothing older.
func (c *client) renew() error {
	id := c.rng.IntN(rows)
	kept := c.world.keeps()
	version, err := c.world.change(id)
	if err != nil {
		if c.calm {
			return err
		}
		return fmt.Errorf("%w: %w", errSaid, err)
	}
	for _, tag := range tags {
		if _, err := c.ask("UNLINK", fmt.Sprintf("item:{%s}:%d", tag, id)); err != nil {
			return err
		}
	}
	tag := c.tag()
	v, err := c.ask("GET", fmt.Sprintf("item:{%s}:%d", tag, id))
	if err != nil {
		return err
	}
	read, err := c.checkItem(v, tag, id)
	if err == nil && read < version && kept() {
		err = fmt.Errorf("item %d with tag %s has version %d after version %d was written", id, tag, read, version)
	}
	return err
}

// ownKey is a key of this client's alone, and value its next value.
func (c *client) ownKey(what string) string { return what + ":{" + c.tag() + "}" + c.name }

func (c *client) value(key string) string {
	c.count++
	return key + "|" + strconv.Itoa(c.count)
}

// own writes and reads what it wrote.
func (c *client) own() error {
	key := c.ownKey("own")
	want := c.value(key)
	kept := c.world.keeps()
	if _, err := c.ask("SET", key, want, "EX", "60"); err != nil {
		return err
	}
	v, err := c.ask("GET", key)
	if err == nil && v.Str != want && (kept() || !strings.HasPrefix(v.Str, key+"|") && !v.Null) {
		err = fmt.Errorf("GET %s: %q, want %q", key, v.Str, want)
	}
	return err
}

// pipeline sends many commands at once, and each reply is that of its command.
func (c *client) pipeline() error {
	var all []byte
	var want []string
	kept := c.world.keeps()
	for range 1 + c.rng.IntN(50) {
		key := c.ownKey("pipe")
		value := c.value(key)
		all = append(all, harness.Command("SET", key, value, "EX", "60")...)
		all = append(all, harness.Command("GET", key)...)
		want = append(want, "OK", value)
	}
	if err := c.conn.Send(all); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	for i, text := range want {
		v, err := c.read()
		if err != nil {
			return err // what comes after it is of no use
		}
		if v.Str != text && kept() {
			return fmt.Errorf("reply %d of a pipeline: %q, want %q", i, v.Str, text)
		}
	}
	return nil
}

func (c *client) transaction() error {
	key := c.ownKey("tx")
	value := c.value(key)
	if c.rng.IntN(2) == 0 {
		if _, err := c.ask("WATCH", key); err != nil {
			return err
		}
	}
	for _, command := range [][]string{{"MULTI"}, {"SET", key, value, "EX", "60"}, {"GET", key}, {"APPEND", key, "+"}} {
		if _, err := c.ask(command...); err != nil {
			return err
		}
	}
	v, err := c.ask("EXEC")
	if err == nil && (len(v.Elems) != 3 || v.Elems[1].Str != value) && (c.calm || !v.Null) { // null where the slot moved under WATCH
		err = fmt.Errorf("EXEC: %+v, want %q", v, value)
	}
	return err
}

// publish publishes to a subscriber of its own, which may miss something while Redis fails, and hears nothing of others.
func (c *client) publish() error {
	channel := "channel:" + c.name
	subscriber, err := harness.Dial(c.world.ctx, c.addr, nil)
	if err != nil {
		return err
	}
	defer subscriber.Close()
	subscriber.Timeout = 5 * time.Second
	raw, err := subscriber.Do("SUBSCRIBE", channel)
	if err != nil {
		return fmt.Errorf("SUBSCRIBE: %w: %w", errGone, err)
	}
	if raw[0] == '-' {
		return fmt.Errorf("SUBSCRIBE: %w: %q", errSaid, raw)
	}
	for range 5 {
		c.count++
		text := strconv.Itoa(c.count)
		if _, err := c.ask("PUBLISH", channel, text); err != nil {
			return err
		}
		raw, err := subscriber.ReadReply()
		if err != nil {
			return fmt.Errorf("a message: %w: %w", errGone, err)
		}
		if want := "*3\r\n$7\r\nmessage\r\n" + bulk(channel) + bulk(text); string(raw) != want {
			return fmt.Errorf("a message: %q, want %q", raw, want)
		}
	}
	return nil
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

// block waits for what another connection of its gives.
func (c *client) block() error {
	key := c.ownKey("queue")
	value := c.value(key)
	other, err := harness.Dial(c.world.ctx, c.addr, nil)
	if err != nil {
		return err
	}
	defer other.Close()
	other.Timeout = c.conn.Timeout
	if err := c.send("BLPOP", key, "1"); err != nil {
		return err
	}
	raw, err := other.Do("RPUSH", key, value)
	if err != nil {
		return fmt.Errorf("RPUSH: %w", err)
	}
	v, err := c.read()
	switch {
	case err != nil:
		return err
	case raw[0] == '-' || v.Null && !c.calm:
		return fmt.Errorf("%w: RPUSH: %q, BLPOP: %+v", errSaid, raw, v)
	case len(v.Elems) != 2 || v.Elems[0].Str != key || !strings.HasPrefix(v.Elems[1].Str, key+"|"):
		return fmt.Errorf("BLPOP %s: %+v", key, v)
	}
	_, err = c.ask("DEL", key) // what is left of times that failed
	return err
}

func (c *client) script() error {
	key := c.ownKey("script")
	value := c.value(key)
	v, err := c.ask("EVAL", "redis.call('SET', KEYS[1], ARGV[1], 'EX', 60) return {KEYS[1], redis.call('GET', KEYS[1])}", "1", key, value)
	if err == nil && (len(v.Elems) != 2 || v.Elems[0].Str != key || v.Elems[1].Str != value) {
		err = fmt.Errorf("EVAL: %+v, want %q and %q", v, key, value)
	}
	return err
}

// scan walks through all keys, among which are none of the sidecar's.
func (c *client) scan() error {
	cursor := "0"
	for range 1000 {
		v, err := c.ask("SCAN", cursor, "COUNT", "500")
		if err != nil {
			return err
		}
		if len(v.Elems) != 2 {
			return fmt.Errorf("SCAN: %+v", v)
		}
		for _, e := range v.Elems[1].Elems {
			if strings.HasPrefix(e.Str, "readthrough:") {
				return fmt.Errorf("SCAN shows %q", e.Str)
			}
		}
		if cursor = v.Elems[0].Str; cursor == "0" {
			return nil
		}
	}
	return fmt.Errorf("SCAN does not end: %s", cursor)
}

// large writes and reads a value of some MiB.
func (c *client) large() error {
	key := c.ownKey("large")
	head := c.value(key)
	value := head + strings.Repeat(string(rune('a'+c.count%26)), c.rng.IntN(3<<20))
	kept := c.world.keeps()
	if _, err := c.ask("SET", key, value, "EX", "60"); err != nil {
		return err
	}
	v, err := c.ask("GET", key)
	if err == nil && v.Str != value && kept() {
		err = fmt.Errorf("GET %s: %d bytes, %.80q, want %d, %.80q", key, len(v.Str), v.Str, len(value), value)
	}
	if err != nil {
		return err
	}
	_, err = c.ask("UNLINK", key)
	return err
}

// runAway sends commands and leaves before they are answered.
func (c *client) runAway() error {
	for range 1 + c.rng.IntN(20) {
		key, _, _ := c.item()
		if err := c.send("GET", key); err != nil {
			return err
		}
	}
	if c.rng.IntN(2) == 0 {
		if err := c.send("BLPOP", c.ownKey("nothing"), "0"); err != nil {
			return err
		}
	}
	c.leave()
	conn, err := harness.Dial(c.world.ctx, c.addr, nil)
	if err != nil {
		return err
	}
	conn.Timeout = 40 * time.Second
	c.conn = conn
	return nil
}

package rules

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"readthrough/internal/lease"
	"readthrough/test/harness"
	"readthrough/upstream"
)

// leaseOf is a key's lease key.
func leaseOf(t testing.TB, key string) string {
	t.Helper()
	name, ok := lease.AppendKey(nil, []byte(key))
	if !ok {
		t.Fatalf("%q can have no lease", key)
	}
	return string(name)
}

// monitor hears what a node is asked.
type monitor struct {
	node *harness.Redis
	conn *harness.Conn
	n    int
}

func newMonitor(t testing.TB, node *harness.Redis) *monitor {
	t.Helper()
	m := &monitor{node: node, conn: harness.NewConn(t, node.Addr())}
	do(t, m.conn, "MONITOR", ok)
	return m
}

// heard is a command that a node was asked.
type heard struct{ from, text string }

// heard returns the commands since the last call.
func (m *monitor) heard(t testing.TB) (all []heard) {
	t.Helper()
	m.n++
	marker := fmt.Sprint("marker-", m.n)
	m.node.MustDo(t, "ECHO", marker)
	for {
		line := read(t, m.conn)
		if strings.Contains(line, marker) {
			return all
		}
		// +1700000000.123456 [0 127.0.0.1:4000] "SET" "k" "v"
		_, rest, _ := strings.Cut(line, "[")
		from, text, _ := strings.Cut(rest, "] ")
		all = append(all, heard{from, strings.TrimSpace(text)})
	}
}

// find returns the first command at or behind from with a word as an argument, or -1.
func find(all []heard, from int, words ...string) int {
	for i := from; i < len(all); i++ {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(all[i].text, `"`+w+`"`) }) {
			return i
		}
	}
	return -1
}

// ways are the ways to write a mapped key.
var ways = []struct {
	name  string
	setup []string // before it, past the relay's voids
	send  []string
	want  []string // replies
	keys  []string // whose leases it voids
	last  string   // the name of that which writes; empty: one of several
	apart bool     // the voids need not come over the write's connection
}{
	{name: "DEL", send: []string{"DEL map:k"}, want: []string{":0\r\n"}, keys: []string{"map:k"}, last: "DEL"},
	{name: "DEL of one that is there", setup: []string{"SET map:k v"}, send: []string{"DEL map:k"}, want: []string{":1\r\n"}, keys: []string{"map:k"}, last: "DEL"},
	{name: "UNLINK", send: []string{"UNLINK map:k"}, want: []string{":0\r\n"}, keys: []string{"map:k"}, last: "UNLINK"},
	{name: "SET", send: []string{"SET map:k v"}, want: []string{ok}, keys: []string{"map:k"}, last: "SET"},
	{name: "SET NX", setup: []string{"SET map:k v"}, send: []string{"SET map:k w NX"}, want: []string{"$-1\r\n"}, keys: []string{"map:k"}, last: "SET"},
	{name: "EXPIRE", setup: []string{"SET map:k v"}, send: []string{"EXPIRE map:k 100"}, want: []string{":1\r\n"}, keys: []string{"map:k"}, last: "EXPIRE"},
	{name: "GETDEL", setup: []string{"SET map:k v"}, send: []string{"GETDEL map:k"}, want: []string{bulk("v")}, keys: []string{"map:k"}, last: "GETDEL"},
	{name: "APPEND", send: []string{"APPEND map:k v"}, want: []string{":1\r\n"}, keys: []string{"map:k"}, last: "APPEND"},
	{name: "an error", setup: []string{"RPUSH map:k v"}, send: []string{"INCR map:k"}, want: []string{"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"}, keys: []string{"map:k"}, last: "INCR"},
	{name: "RENAME", setup: []string{"SET map:{a}1 v"}, send: []string{"RENAME map:{a}1 map:{a}2"}, want: []string{ok}, keys: []string{"map:{a}1", "map:{a}2"}, last: "RENAME"},
	{name: "RENAME to a mapped one", setup: []string{"SET {a}1 v"}, send: []string{"RENAME {a}1 map:{a}2"}, want: []string{ok}, keys: []string{"map:{a}2"}, last: "RENAME"},
	{name: "COPY", setup: []string{"SET map:{a}1 v"}, send: []string{"COPY map:{a}1 map:{a}2"}, want: []string{":1\r\n"}, keys: []string{"map:{a}1", "map:{a}2"}, last: "COPY"},
	{name: "SORT STORE", setup: []string{"RPUSH {a}1 3 2 1"}, send: []string{"SORT {a}1 STORE map:{a}2"}, want: []string{":3\r\n"}, keys: []string{"map:{a}2"}, last: "SORT"},
	{name: "EVAL", send: []string{"EVAL return(redis.call('SET',KEYS[1],'v')) 1 map:k"}, want: []string{ok}, keys: []string{"map:k"}, last: "EVAL"},
	{
		name: "EVALSHA", setup: []string{"EVAL return(1) 1 map:k"}, send: []string{fmt.Sprintf("EVALSHA %x 1 map:k", sha1.Sum([]byte("return(1)")))},
		want: []string{":1\r\n"}, keys: []string{"map:k"}, last: "EVALSHA",
	},
	{name: "FCALL", send: []string{"FCALL write 1 map:k"}, want: []string{ok}, keys: []string{"map:k"}, last: "FCALL"},
	{name: "MSET of one slot", send: []string{"MSET map:{a}1 v {a}2 v map:{a}3 v"}, want: []string{ok}, keys: []string{"map:{a}1", "map:{a}3"}, last: "MSET"},
	{name: "MSET over slots", send: []string{"MSET map:1 v map:2 v map:3 v map:4 v other v"}, want: []string{ok}, keys: []string{"map:1", "map:2", "map:3", "map:4"}, last: "MSET"},
	{name: "DEL over slots", setup: []string{"SET map:1 v"}, send: []string{"DEL map:1 other map:2 map:3"}, want: []string{":1\r\n"}, keys: []string{"map:1", "map:2", "map:3"}, last: "DEL"},
	{name: "in a pipeline", send: []string{"SET other v", "SET map:1 v", "DEL map:2", "GET other", "SET map:3 w"}, want: []string{ok, ok, ":0\r\n", bulk("v"), ok}, keys: []string{"map:1", "map:2", "map:3"}},
	{name: "behind a miss", send: []string{"GET map:k", "SET map:k v", "GET map:k"}, want: []string{bulk("loaded"), ok, bulk("v")}, keys: []string{"map:k"}, last: "SET"},
	{
		name: "in a transaction", send: []string{"MULTI", "SET map:{a}1 v", "GET {a}2", "DEL map:{a}2", "EXEC"},
		want: []string{ok, queued, queued, queued, "*3\r\n+OK\r\n$-1\r\n:0\r\n"}, keys: []string{"map:{a}1", "map:{a}2"}, apart: true,
	},
	{
		name: "in a transaction that watches", send: []string{"WATCH map:k", "GET map:k", "MULTI", "SET map:k v", "EXEC"},
		want: []string{ok, bulk("loaded"), ok, queued, "*1\r\n+OK\r\n"}, keys: []string{"map:k"}, last: "SET", apart: true,
	},
	{
		name: "in a transaction, with a large argument", send: []string{"MULTI", "SET map:{a}1 " + strings.Repeat("x", 2<<20), "DEL map:{a}2", "EXEC"},
		want: []string{ok, queued, queued, "*2\r\n+OK\r\n:0\r\n"}, keys: []string{"map:{a}1", "map:{a}2"}, apart: true,
	},
	{
		name: "in a transaction, with keys behind a large argument", send: []string{"MULTI", "MSET {a}1 " + strings.Repeat("x", 2<<20) + " map:{a}2 v", "EXEC"},
		want: []string{ok, queued, "*1\r\n+OK\r\n"}, keys: []string{"map:{a}2"}, last: "MSET", apart: true,
	},
	{
		name: "in a transaction that is too long to be kept",
		send: []string{
			"MULTI", "DEL map:{a}1", "SET {a}2 " + strings.Repeat("x", 900<<10), "SET {a}3 " + strings.Repeat("x", 900<<10),
			"SET {a}4 " + strings.Repeat("x", 900<<10), "SET {a}5 " + strings.Repeat("x", 900<<10), "SET {a}6 " + strings.Repeat("x", 900<<10), "DEL map:{a}7", "EXEC",
		},
		want: []string{ok, queued, queued, queued, queued, queued, queued, queued, "*7\r\n:0\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n:0\r\n"},
		keys: []string{"map:{a}1", "map:{a}7"}, apart: true,
	},
	{
		name: "behind a transaction with a wrong EXEC", send: []string{"MULTI", "EXEC now", "SET map:k v"},
		want: []string{ok, "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n", ok}, keys: []string{"map:k"}, last: "SET",
	},
	{
		name: "blocking, with many keys", setup: []string{"RPUSH map:{a}2 v"}, send: []string{"BLPOP {a}1" + strings.Repeat("x", 2<<20) + " map:{a}2 0"},
		want: []string{"*2\r\n" + bulk("map:{a}2") + bulk("v")}, keys: []string{"map:{a}2"}, last: "BLPOP", apart: true,
	},
	{
		name: "blocking", setup: []string{"RPUSH {a}1 v"}, send: []string{"BLMOVE {a}1 map:{a}2 LEFT RIGHT 0"},
		want: []string{bulk("v")}, keys: []string{"map:{a}2"}, last: "BLMOVE", apart: true,
	},
	{name: "large", send: []string{"SET map:k " + strings.Repeat("x", 2<<20)}, want: []string{ok}, keys: []string{"map:k"}, last: "SET", apart: true},
	{
		name: "large, with keys behind the large argument", send: []string{"MSET {a}1 " + strings.Repeat("x", 2<<20) + " map:{a}2 v"},
		want: []string{ok}, keys: []string{"map:{a}2"}, last: "MSET", apart: true,
	},
	{
		name: "large, with an argument of a script", send: []string{"EVAL return(redis.call('SET',KEYS[1],ARGV[1])) 1 map:k " + strings.Repeat("x", 5<<20)},
		want: []string{ok}, keys: []string{"map:k"}, last: "EVAL", apart: true,
	},
	{name: "with replies off", send: []string{"CLIENT REPLY OFF", "DEL map:k", "CLIENT REPLY ON"}, want: []string{ok}, keys: []string{"map:k"}, last: "DEL"},
	{name: "without a lease", send: []string{"SET map:a}b v", "DEL map:k"}, want: []string{ok, ":0\r\n"}, keys: []string{"map:k"}, last: "DEL"},
}

// Whoever writes a mapped key, and however, ends the leases of those who load it: before the write runs, and before it is acknowledged.
func TestWritesVoidLeases(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{
		"user with on >secret ~* &* +@all", "user without on >secret ~map:* ~{a}* ~other &* +@all",
	}}})
	masters, err := w.cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var monitors []*monitor
	for _, m := range masters {
		m.MustDo(t, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('write',function(keys) return redis.call('SET',keys[1],'v') end)")
		monitors = append(monitors, newMonitor(t, m))
	}
	for _, user := range []string{"", "with", "without"} {
		for _, way := range ways {
			for _, protocol := range []string{"2", "3"} {
				t.Run(user+" "+way.name+" RESP"+protocol, func(t *testing.T) {
					c := w.connect(t)
					if protocol == "3" {
						c.MustDo(t, "HELLO", protocol)
					}
					if user != "" {
						do(t, c, "AUTH "+user+" secret", ok)
					}
					for _, m := range masters {
						m.MustDo(t, "FLUSHALL")
					}
					for _, command := range way.setup {
						words := strings.Fields(command)
						key := words[1]
						if words[0] == "EVAL" {
							key = words[3]
						}
						w.master(t, key).MustDo(t, words...)
					}
					for _, key := range way.keys {
						w.master(t, key).MustDo(t, "SET", leaseOf(t, key), "ttoken", "PX", "100000")
						o.forgot(key)
					}
					for _, m := range monitors {
						m.heard(t)
					}
					send(t, c, way.send...)
					for _, want := range way.want {
						if got := read(t, c); got != want && got != strings.ReplaceAll(want, "$-1\r\n", "_\r\n") {
							t.Fatalf("%.200q, want %.200q", got, want)
						}
					}
					for i, m := range monitors {
						m.check(t, w, masters[i], way.keys, way.last, way.apart || user == "without")
					}
					for _, key := range way.keys {
						if got := w.master(t, key).MustDo(t, "EXISTS", leaseOf(t, key)).Str; got != "0" {
							t.Errorf("the lease of %s is still there", key)
						}
						if !o.forgot(key) {
							t.Errorf("the origin has not heard of the write of %s", key)
						}
					}
				})
			}
		}
	}
}

// check finds on a node the voids of the keys that are its own, each before the write, and, unless they go apart, over its connection and with
// nothing in between.
func (m *monitor) check(t *testing.T, w *world, node *harness.Redis, keys []string, last string, apart bool) {
	t.Helper()
	all := m.heard(t)
	for _, key := range keys {
		if w.master(t, key) != node {
			continue
		}
		void := find(all, 0, "UNLINK", leaseOf(t, key))
		if void < 0 {
			t.Errorf("no void of %s in %.2000q", key, all)
			continue
		}
		write := slices.IndexFunc(all, func(h heard) bool {
			name, _, _ := strings.Cut(h.text, " ")
			return strings.Contains(h.text, `"`+key+`"`) && (strings.HasPrefix(name, `"`+last) && name != `"GET"` && name != `"WATCH"`)
		})
		switch {
		case write < 0:
			t.Errorf("no write of %s in %.2000q", key, all)
		case write < void:
			t.Errorf("%s was written before its void: %.2000q", key, all)
		case apart:
		case all[write-1].from != all[write].from || !strings.Contains(all[write-1].text, leaseOf(t, key)):
			// A user may have asked before whether he can.
			t.Errorf("the void of %s does not lead the write: %.2000q", key, all)
		}
	}
}

// A write of which not all keys can be known before it is sent is not sent, in a transaction neither. Where they can, it is as others are.
func TestAWriteThatHidesItsKeysIsRefused(t *testing.T) {
	w := newWorld(t, newOrigin(), harness.ClusterOptions{})
	c := w.connect(t)
	key := func(size int) string { return "map:{a}" + strings.Repeat("k", size<<20) }
	const hidden = "-ERR this command is larger than 4 MiB, and has keys in or behind a large argument: put keys first, or send several commands\r\n"
	node := w.master(t, "{a}")
	for _, command := range []string{
		"SET " + key(5) + " v", "APPEND " + key(5) + " v", "GETDEL " + key(5), "DEL " + key(5), "DEL {a} " + key(5), "MSET {a} " + key(5) + " map:{a} v",
		"RENAME {a} " + key(5), "EVAL return(1) 2 {a} " + key(5), "EVAL --" + key(5) + " 1 map:{a}",
	} {
		do(t, c, command, hidden)
		send(t, c, "MULTI", command, "EXEC")
		expect(t, c, ok, hidden, aborted)
		if got := node.MustDo(t, "DBSIZE").Str; got != "0" {
			t.Fatalf("after %.20q there are %s keys", command, got)
		}
	}
	for _, command := range []string{"SET " + key(2) + " v", "APPEND " + key(2) + " v", "DEL {a} " + key(2)} {
		name := leaseOf(t, key(2))
		node.MustDo(t, "SET", name, "ttoken")
		send(t, c, command)
		if got := read(t, c); got[0] == '-' {
			t.Errorf("%.20q: %.100q", command, got)
		}
		if got := node.MustDo(t, "EXISTS", name).Str; got != "0" {
			t.Errorf("%.20q: the lease is still there", command)
		}
	}
	do(t, c, "SET readthrough:lease:{a}:"+key(2)+" v", errLeaseKey)
	do(t, c, "SET map:{a} "+key(5), ok) // a value
}

// What changes no mapped key voids nothing.
func TestOthersVoidNothing(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, newOrigin(), redis.Addr())
	m := newMonitor(t, redis)
	c := r.connect(t)
	redis.MustDo(t, "SET", "map:k", "v")
	m.heard(t)
	for _, command := range []string{
		"GET map:k", "MGET map:k map:l", "EXISTS map:k", "EVAL_RO return(1) 1 map:k", "SET other v", "DEL other", "MSET a v b v", "PUBLISH map:k v", "SPUBLISH map:k v",
		"OBJECT ENCODING map:k", "TOUCH map:k", "PING", "MULTI", "GET map:k", "SET other v", "EXEC", "NONSENSE map:k", "SET map:k",
		"SELECT 1", "SET map:k v", "DEL map:k",
	} {
		send(t, c, command)
		read(t, c)
	}
	if all := m.heard(t); find(all, 0, "UNLINK") >= 0 || len(all) < 15 {
		t.Errorf("%q", all)
	}
}

// What cannot be carried out over several slots is Redis's error, whatever has become of the voids.
func TestAWriteOverSeveralSlotsIsRefused(t *testing.T) {
	w := newWorld(t, newOrigin(), harness.ClusterOptions{})
	c := w.connect(t)
	for range 3 {
		send(t, c, "RENAME map:{a}1 map:{b}2", "MSETNX map:{a}1 v map:{b}2 v", "SET map:k v")
		expect(t, c, crossSlot, crossSlot, ok)
	}
}

const crossSlot = "-CROSSSLOT Keys in request don't hash to the same slot\r\n"

// A slot on its way: the key and its lease key need not be on one node. Wherever they are, the lease is gone when the write is acknowledged.
func TestWritesVoidLeasesOfAMovingSlot(t *testing.T) {
	w := newWorld(t, newOrigin(), harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{
		"user without on >secret ~map:* &* +@all",
	}}})
	const key = "map:{m}k"
	name := leaseOf(t, key)
	m := w.begin(t, key)
	keys := func(t *testing.T, at *harness.Redis) []string {
		t.Helper()
		return at.MustDo(t, "CLUSTER", "GETKEYSINSLOT", fmt.Sprint(m.Slot), "100").Strings()
	}
	nodes := map[string]*harness.Redis{"source": m.From, "target": m.To}
	for _, user := range []string{"", "without"} {
		for at, node := range nodes {
			for leaseAt, leaseNode := range nodes {
				for command, want := range map[string]string{
					"SET " + key + " w": ok, "DEL " + key: ":1\r\n", "GETDEL " + key: bulk("v"),
					"EVAL return(redis.call('DEL',KEYS[1])) 1 " + key: ":1\r\n", "MULTI": "*1\r\n:1\r\n",
				} {
					if command == "MULTI" && at == "target" {
						continue // it waits until the slot has moved
					}
					t.Run(fmt.Sprintf("%s key at the %s, lease at the %s, %s", user, at, leaseAt, command), func(t *testing.T) {
						c := w.connect(t)
						if user != "" {
							do(t, c, "AUTH "+user+" secret", ok)
						}
						place(t, m, key, node)
						place(t, m, name, leaseNode)
						if command == "MULTI" {
							do(t, c, "MULTI", ok)
							do(t, c, "DEL "+key, queued)
							do(t, c, "EXEC", want)
						} else {
							do(t, c, command, want)
						}
						for where, node := range nodes {
							if got := keys(t, node); slices.Contains(got, name) {
								t.Errorf("the lease is still at the %s: %q", where, got)
							}
						}
					})
				}
			}
		}
	}
	if w.Stats(t).Settled == 0 {
		t.Error("nothing had to be settled")
	}
	finish(t, m)
}

// place has a key of a slot on its way at one of the nodes alone.
func place(t *testing.T, m *harness.Migration, key string, at *harness.Redis) {
	t.Helper()
	m.From.MustDo(t, "CLUSTER", "SETSLOT", fmt.Sprint(m.Slot), "STABLE") // while it is moving, nothing new can be put there
	m.From.MustDo(t, "DEL", key)
	if at == m.From {
		m.From.MustDo(t, "SET", key, "v")
	}
	m.From.MustDo(t, "CLUSTER", "SETSLOT", fmt.Sprint(m.Slot), "MIGRATING", m.To.ID())
	c := harness.NewConn(t, m.To.Addr())
	do(t, c, "ASKING", ok)
	c.MustDo(t, "DEL", key)
	if at == m.To {
		do(t, c, "ASKING", ok)
		do(t, c, "SET "+key+" v", ok)
	}
}

// Where Redis takes no writes at all it says so at once: a write that was refused as its void was has not run, and there is nothing to settle.
func TestAWriteThatRedisRefusesIsAnsweredSo(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"min-replicas-to-write 1"}})
	w := newRelay(t, newOrigin(), redis.Addr())
	c, direct := w.connect(t), harness.NewConn(t, redis.Addr())
	for _, command := range []string{"SET map:k v", "DEL map:k", "EVAL return(redis.call('SET',KEYS[1],'v')) 1 map:k", "MSET map:k v map:l v"} {
		send(t, direct, command)
		do(t, c, command, read(t, direct))
	}
	redis.MustDo(t, "CONFIG", "SET", "min-replicas-to-write", "0")
	redis.MustDo(t, "CONFIG", "SET", "busy-reply-threshold", "1")
	busy := harness.NewConn(t, redis.Addr())
	send(t, busy, "EVAL while(true)do(redis.pcall)('PING')end 0")
	poll(t, func() error {
		if got := direct.MustDo(t, "PING"); !strings.HasPrefix(got, "-BUSY ") {
			return errors.New("it is not busy yet")
		}
		return nil
	})
	send(t, direct, "SET map:k v")
	do(t, c, "SET map:k v", read(t, direct))
	do(t, direct, "SCRIPT KILL", ok)
	if got := read(t, busy); got[0] != '-' {
		t.Errorf("%q", got)
	}
	do(t, c, "SET map:k v", ok)
	if n := w.Stats(t).Settled; n != 0 {
		t.Errorf("%d writes were settled", n)
	}
}

// A user who loses the right to lease keys is told once that his write has voided nothing. From then on somebody else voids for him.
func TestALostRightToLeasesIsLearnt(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user app on >secret ~* &* +@all"}})
	r := newRelay(t, newOrigin(), redis.Addr())
	c, other := r.connect(t), r.connect(t)
	do(t, c, "AUTH app secret", ok)
	do(t, c, "SET map:k v", ok)
	redis.MustDo(t, "ACL", "SETUSER", "app", "resetkeys", "~map:*")
	name := leaseOf(t, "map:k")
	redis.MustDo(t, "SET", name, "ttoken")
	do(t, c, "INCR map:k", "-ERR value is not an integer or out of range\r\n") // it says enough, and it is learnt
	do(t, c, "SET map:k v", ok)
	if got := redis.MustDo(t, "EXISTS", name).Str; got != "0" {
		t.Error("the lease is still there")
	}
	// Where nothing has failed, the client hears of it.
	redis.MustDo(t, "ACL", "SETUSER", "second", "on", ">secret", "~*", "&*", "+@all")
	do(t, other, "AUTH second secret", ok)
	do(t, other, "SET map:k v", ok)
	redis.MustDo(t, "ACL", "SETUSER", "second", "resetkeys", "~map:*", "~other")
	send(t, other, "SET map:k v", "SET other v")
	if got := read(t, other); !strings.HasPrefix(got, "-NOPERM the command ran, but") {
		t.Errorf("%q", got)
	}
	expect(t, other, ok)
	redis.MustDo(t, "SET", name, "ttoken")
	do(t, other, "SET map:k v", ok)
	if got := redis.MustDo(t, "EXISTS", name).Str; got != "0" {
		t.Error("the lease is still there")
	}
}

// The sidecar's own user without the right to lease keys has no leases, and his writes go on. The log says once what is missing.
func TestTheSidecarsUserWithoutTheRightToLeases(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user app on >secret ~map:* &* +@all"}})
	core, logs := observer.New(zap.WarnLevel)
	r := newRelayWith(t, newOrigin(), upstream.Options{
		Logger:      zap.New(core),
		Addresses:   []string{redis.Addr()},
		Credentials: func(context.Context) (string, string, error) { return "app", "secret", nil },
	})
	c := r.connect(t)
	for range 3 {
		send(t, c, "SET map:k v", "DEL map:k", "MULTI", "SET map:k v", "EXEC", "DEL map:k")
		expect(t, c, ok, ":1\r\n", ok, queued, "*1\r\n+OK\r\n", ":1\r\n")
	}
	do(t, c, "SET map:k "+strings.Repeat("x", 2<<20), ok)
	said := logs.FilterFieldKey("rule").All()
	if len(said) != 1 || said[0].ContextMap()["rule"] != "~readthrough:lease:* +unlink" {
		t.Errorf("the log says %v", said)
	}
	refused := make(chan uint64, 1)
	r.Loop.Post(func() { refused <- r.Server.Stats(0).VoidsRefused })
	if n := <-refused; n != 13 {
		t.Errorf("%d voids were refused, want 13", n)
	}
}

// What has to be voided first and cannot be is not sent.
func TestAVoidThatFailsHoldsTheWriteBack(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{
		"user sidecar on >secret ~* &* +@all", "user app on >secret ~map:* ~{a}* &* +@all",
	}}})
	password := atomic.Pointer[string]{}
	right, wrong := "secret", "wrong"
	password.Store(&right)
	core, _ := observer.New(zap.WarnLevel) // it says that the password is wrong
	w := &world{newRelayWith(t, newOrigin(), upstream.Options{
		Logger:      zap.New(core),
		Addresses:   cluster.Addrs(),
		Credentials: func(context.Context) (string, string, error) { return "sidecar", *password.Load(), nil },
	}), cluster}
	// A master that the configured user has no connection to yet, and will get none to.
	masters, err := cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := ""
	for i := 0; key == ""; i++ {
		if k := fmt.Sprintf("map:{%d}k", i); w.master(t, k).Addr() != masters[0].Addr() {
			key = k
		}
	}
	node := w.master(t, key)
	c := w.connect(t)
	do(t, c, "AUTH app secret", ok)
	password.Store(&wrong)
	large := strings.Repeat("x", 2<<20)
	for _, commands := range [][]string{
		{"MULTI", "SET " + key + " v", "EXEC"}, {"SET " + key + " v"}, {"SET " + key + " " + large}, {"BLMOVE " + key + " " + key + " LEFT LEFT 0"},
	} {
		send(t, c, commands...)
		for range commands[1:] {
			if got := read(t, c); got[0] != '+' {
				t.Errorf("%.100q: %q", commands, got)
			}
		}
		got := read(t, c)
		prefix := "-UPSTREAMDOWN "
		if commands[0] == "MULTI" {
			prefix = "-EXECABORT Transaction discarded because the leases of its keys could not be removed: UPSTREAMDOWN "
		}
		if !strings.HasPrefix(got, prefix) {
			t.Errorf("%.100q: %q", commands, got)
		}
		if got := node.MustDo(t, "EXISTS", key).Str; got != "0" {
			t.Errorf("%.100q ran", commands)
		}
		// The transaction is over.
		do(t, c, "GET {a}1", "$-1\r\n")
		do(t, c, "EXEC", "-ERR EXEC without MULTI\r\n")
	}
	password.Store(&right)
	poll(t, func() error {
		if got, err := c.Do("SET", key, "v"); err != nil || string(got) != ok {
			return fmt.Errorf("%q, %w", got, err)
		}
		return nil
	})
}

// Where the voids of many keys go apart, few of them are on their way at a time: all at once they would take many times the memory of the
// command. None is left out.
func TestManyVoidsApartAreSentByAndBy(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{
		"user with on >secret ~* &* +@all", "user without on >secret ~map:* &* +@all",
	}})
	const count = 20_000
	var keys strings.Builder
	for i := range count {
		fmt.Fprint(&keys, " map:", i)
	}
	del, deleted := "DEL"+keys.String(), ":1\r\n"
	for name, test := range map[string]struct {
		before []string
		send   string
		want   string
	}{
		"a transaction":                      {[]string{"MULTI", del}, "EXEC", "*1\r\n" + deleted},
		"a command that blocks":              {nil, "BLPOP" + keys.String() + " 0", array(bulk("map:7"), bulk("v"))},
		"a user without the right to leases": {[]string{"AUTH without secret", "DEL map:k"}, del, deleted},
		"the first write of a user with it":  {[]string{"AUTH with secret"}, del, deleted},
		"the first write of a user without":  {[]string{"AUTH without secret"}, del, deleted},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin()
			w := newRelay(t, o, redis.Addr())
			redis.MustDo(t, "FLUSHALL")
			redis.MustDo(t, "RPUSH", "map:7", "v")
			for i := range count {
				if i%100 < 2 || i == count-1 {
					redis.MustDo(t, "SET", leaseOf(t, fmt.Sprint("map:", i)), "ttoken")
				}
			}
			c := w.connect(t)
			for _, command := range test.before {
				send(t, c, command)
				if got := read(t, c); got[0] == '-' {
					t.Fatalf("%.20s: %q", command, got)
				}
			}
			o.forgotten()
			if err := redis.Pause(); err != nil {
				t.Fatal(err)
			}
			send(t, c, test.send)
			var sent int
			poll(t, func() error {
				if sent += o.forgotten(); sent == 0 {
					return errors.New("no void is sent yet")
				}
				return nil
			})
			w.LoopStats(t) // when the loop comes to this, it has sent what it sends
			sent += o.forgotten()
			if err := redis.Resume(); err != nil {
				t.Fatal(err)
			}
			if sent > 1000 {
				t.Errorf("%d voids were sent at once", sent)
			}
			if got := read(t, c); got != test.want {
				t.Errorf("%.200q, want %q", got, test.want)
			}
			if sent += o.forgotten(); sent < count {
				t.Errorf("there were %d voids", sent)
			}
			if left := redis.MustDo(t, "KEYS", lease.Prefix+"*").Strings(); len(left) > 0 {
				t.Errorf("%d leases are left, such as %s", len(left), left[0])
			}
		})
	}
}

// CLIENT CACHING is about the very next command: no void may come between.
func TestAVoidDoesNotUseUpClientCaching(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, newOrigin(), redis.Addr())
	redis.MustDo(t, "MSET", "map:k", "v", "map:l", "v")
	c := r.connect3(t)
	do(t, c, "CLIENT TRACKING ON OPTIN", ok)
	do(t, c, "CLIENT CACHING YES", ok)
	do(t, c, "EVAL return(redis.call('GET',KEYS[1])) 1 map:k", bulk("v"))
	redis.MustDo(t, "SET", "map:k", "w")
	untilIn(t, c, "map:k")
}

// forgetful is an origin that does not mind writes.
type forgetful struct{ *origin }

func (forgetful) Forget([]byte) {}

// At steady state a write with its void allocates as little as without.
func TestVoidsAllocateNothing(t *testing.T) {
	w := newWorld(t, forgetful{newOrigin()}, harness.ClusterOptions{})
	for _, protocol := range []string{"2", "3"} {
		c := w.connect(t)
		c.MustDo(t, "HELLO", protocol)
		var commands []string
		var answer []byte
		for i := range 50 {
			commands = append(commands, fmt.Sprint("SET map:", i, " value"), fmt.Sprint("EXPIRE map:", i, " 100"))
			answer = append(answer, ok+":1\r\n"...)
		}
		batch, got := pipeline(commands...), make([]byte, len(answer))
		round := func() {
			if _, err := c.Write(batch); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c.Conn, got); err != nil || !bytes.Equal(got, answer) {
				t.Fatalf("%v, %q", err, got)
			}
		}
		for range 100 { // to its steady state
			round()
		}
		const rounds = 500
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			round()
		}
		runtime.ReadMemStats(&after)
		// What runs beside, such as discovery and timers, allocates a little, whatever the number of commands.
		if n := after.Mallocs - before.Mallocs; n > rounds*uint64(len(commands))/20 {
			t.Errorf("RESP%s: %d allocations for %d writes", protocol, n, rounds*len(commands))
		}
	}
}

package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"readthrough/internal/slot"
	"readthrough/test/harness"
)

// move gives the slot of a key to another master. A slot is to be moved once: the nodes may disagree for long about one that goes to
// and fro within their gossip's period.
func (w *world) move(t testing.TB, key string) {
	t.Helper()
	if err := w.cluster.MigrateSlot(t.Context(), int(slot.Of([]byte(key))), w.other(t, key)); err != nil {
		t.Fatal(err)
	}
}

// begin begins to move the slot of a key, and moves the keys that there are.
func (w *world) begin(t testing.TB, key string) *harness.Migration {
	t.Helper()
	m, err := w.cluster.BeginMigration(t.Context(), int(slot.Of([]byte(key))), w.other(t, key))
	if err == nil {
		_, err = m.MoveKeys(t.Context(), 100)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func finish(t testing.TB, m *harness.Migration) {
	t.Helper()
	if err := m.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
}

const queued, ok = "+QUEUED\r\n", "+OK\r\n"

// A transaction whose slot moves runs on the new node, once and whole, and its client does not notice.
func TestATransactionFollowsItsSlot(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c := w.connect(t)
	for i, test := range []struct {
		name string
		// do moves the slot around the two commands of the transaction.
		do func(t *testing.T, tag string, first, second, exec func())
	}{
		{"before EXEC", func(t *testing.T, tag string, first, second, exec func()) {
			first()
			second()
			w.move(t, tag)
			exec()
		}},
		{"between the commands", func(t *testing.T, tag string, first, second, exec func()) {
			first()
			w.move(t, tag)
			second()
			exec()
		}},
		{"before the first command", func(t *testing.T, tag string, first, second, exec func()) {
			w.move(t, tag)
			first()
			second()
			exec()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tag := fmt.Sprintf("{%d}", i)
			do(t, c, "MULTI", ok)
			test.do(t, tag,
				func() { do(t, c, "SET "+tag+"s v", queued) },
				func() { do(t, c, "INCR "+tag+"n", queued) },
				func() { do(t, c, "EXEC", "*2\r\n+OK\r\n:1\r\n") })
			do(t, c, "MGET "+tag+"s "+tag+"n", "*2\r\n$1\r\nv\r\n$1\r\n1\r\n")
		})
	}
	// While the keys are on their way no node has all of them: the client waits.
	do(t, c, "MSET {t}s v {t}n 1", ok)
	do(t, c, "MULTI", ok)
	m := w.begin(t, "{t}")
	send(t, c, "SET {t}s w", "INCR {t}n", "EXEC")
	do(t, w.connect(t), "GET {t}s", "$1\r\nv\r\n")
	finish(t, m)
	expect(t, c, queued, queued, "*2\r\n+OK\r\n:2\r\n")
}

// What was watched counts as changed when its slot moves, since the new node cannot tell.
func TestWatchedKeysThatMoveCountAsChanged(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	tags := 0
	for i := range 4 {
		protocol, null, learns := 2, "*-1\r\n", i >= 2
		if i%2 == 1 {
			protocol, null = 3, "_\r\n"
		}
		for _, moves := range []string{"before WATCH", "before MULTI", "before SET", "before EXEC"} {
			c := w.connect(t)
			if protocol == 3 {
				c = w.connect3(t)
			}
			tags++
			key := fmt.Sprintf("{%d}k", tags)
			step := func(when, command, want string) {
				t.Helper()
				if when == moves {
					w.move(t, key)
					if learns {
						w.connect(t).MustDo(t, "GET", key) // by a redirect, and for all on the lane
					}
				}
				do(t, c, command, want)
			}
			do(t, c, "SET "+key+" old", ok)
			step("before WATCH", "WATCH "+key, ok)
			step("before MULTI", "MULTI", ok)
			step("before SET", "SET "+key+" moved", queued)
			if moves == "before WATCH" { // where the sidecar has learnt of that, nothing has changed since
				if got := c.MustDo(t, "EXEC"); got != null && got != "*1\r\n+OK\r\n" {
					t.Errorf("EXEC: %q", got)
				}
			} else {
				step("before EXEC", "EXEC", null)
				do(t, c, "GET "+key, bulk("old"))
			}
			send(t, c, "WATCH "+key, "MULTI", "SET "+key+" new", "EXEC")
			expect(t, c, ok, ok, queued, "*1\r\n+OK\r\n")
		}
	}
}

// A key that another node has is refused where it is named, and the transaction is not carried out in part.
func TestKeysOfOtherNodesAbortATransaction(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	keys := w.keysOfAll(t, "k")
	c := w.connect(t)
	const crossSlot = "-CROSSSLOT Keys in request don't hash to the same slot\r\n"
	send(t, c, "MULTI", "SET "+keys[0]+" v", "SET "+keys[1]+" v", "GET "+keys[0], "EXEC", "EXISTS "+keys[0])
	expect(t, c, ok, queued, crossSlot, queued, aborted, ":0\r\n")
	send(t, c, "WATCH "+keys[0], "WATCH "+keys[1], "MULTI", "SET "+keys[2]+" v", "EXEC", "EXISTS "+keys[2])
	expect(t, c, ok, crossSlot, ok, crossSlot, aborted, ":0\r\n")
	send(t, c, "MULTI", "PING", "SET "+keys[2]+" v", "EXEC", "GET "+keys[2])
	expect(t, c, ok, queued, queued, "*2\r\n+PONG\r\n+OK\r\n", "$1\r\nv\r\n")
}

// WATCH watches, until EXEC, DISCARD, UNWATCH, RESET or the end of the connection, and its node is left as if there had been none.
func TestWhatEndsAWatch(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	other := r.connect(t)
	for command, test := range map[string]struct{ reply, exec string }{
		"PING":                                  {"+PONG\r\n", "*-1\r\n"},
		"UNWATCH":                               {ok, "*1\r\n+OK\r\n"},
		"RESET":                                 {"+RESET\r\n", "*1\r\n+OK\r\n"},
		"HELLO 3":                               {"", "_\r\n"},
		"HELLO 2":                               {"", "*-1\r\n"},
		"SET k mine":                            {ok, "*-1\r\n"},
		"EVAL return(redis.error_reply('x')) 0": {"-ERR x\r\n", "*-1\r\n"},
	} {
		c := r.connect(t)
		do(t, c, "WATCH k", ok)
		send(t, c, command)
		if got := read(t, c); test.reply != "" && got != test.reply {
			t.Fatalf("%s: %q", command, got)
		}
		do(t, other, "SET k theirs", ok)
		send(t, c, "MULTI", "SET k mine", "EXEC")
		expect(t, c, ok, queued, test.exec)
	}
	c := r.connect(t)
	send(t, c, "WATCH k", "MULTI", "INCR n", "DISCARD")
	expect(t, c, ok, ok, queued, ok)
	do(t, other, "SET k theirs", ok)
	send(t, c, "MULTI", "SET k mine", "EXEC")
	expect(t, c, ok, queued, "*1\r\n+OK\r\n")
	do(t, c, "WATCH k", ok)
	await(t, redis, "cmd=watch", 1)
	_ = c.Close()
	await(t, redis, "cmd=watch", 0)
}

// WATCH goes on over a change of user, protocol and database, as in Redis, and the transaction is the new user's, in the new database.
func TestAWatchOutlivesAChangeOfIdentity(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{
		"user app on >secret ~* &* +@all", "user few on >secret ~* +@all -set", "user none on >secret ~* +@all -multi -hello -select",
	}})
	r := newRelay(t, nil, redis.Addr())
	other := harness.NewConn(t, redis.Addr())
	for _, changes := range [][]string{
		{"SELECT 1"},
		{"AUTH app secret"},
		{"AUTH default x"},
		{"HELLO 3"},
		{"HELLO 3 AUTH app secret"},
		{"HELLO 2"},
		{"AUTH few secret"},
		{"AUTH app wrong"},
		{"SELECT 99"},
		{"SELECT x"},
		{"HELLO 4"},
		{"AUTH none secret"},
		{"HELLO 3 SETNAME x", "SELECT 3", "AUTH app secret"},
		{"AUTH app secret", "HELLO 3", "HELLO 2", "SELECT 2", "SELECT 0"},
		{"AUTH none secret", "SELECT 2"},
	} {
		for _, written := range []bool{false, true} {
			var replies [2][]string
			for i, c := range []*harness.Conn{harness.NewConn(t, redis.Addr()), r.connect(t)} {
				redis.MustDo(t, "FLUSHALL")
				do(t, c, "WATCH k l", ok)
				for _, command := range changes {
					send(t, c, command)
					got := read(t, c)
					if strings.HasPrefix(command, "HELLO") && got[0] != '-' {
						got = got[:1] // it has an id
					}
					replies[i] = append(replies[i], got)
				}
				if written {
					do(t, other, "SET k theirs", ok)
				}
				for _, command := range []string{"MULTI", "SET k mine", "EXEC", "GET k", "WATCH k", "UNWATCH"} {
					send(t, c, command)
					replies[i] = append(replies[i], read(t, c))
				}
				replies[i] = append(replies[i], redis.MustDo(t, "INFO", "keyspace").Str)
				_ = c.Close()
			}
			if !slices.Equal(replies[0], replies[1]) {
				t.Errorf("%q, written %v: %q, want %q", changes, written, replies[1], replies[0])
			}
		}
	}
	// The connection is left to nobody.
	c := r.connect(t)
	for range 10 {
		send(t, c, "WATCH k", "AUTH app secret", "SELECT 5", "UNWATCH", "RESET", "MULTI", "ACL WHOAMI", "EXEC")
		expect(t, c, ok, ok, ok, ok, "+RESET\r\n", ok, queued, "*1\r\n"+bulk("default"))
	}
}

// A transaction and a failover: it is carried out by the new master, or not at all and its client is told.
func TestATransactionAndAFailover(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{Replicas: 1})
	c, watcher := w.connect(t), w.connect(t)
	send(t, c, "MULTI", "SET {t}k v")
	expect(t, c, ok, queued)
	send(t, watcher, "WATCH {t}w", "MULTI", "SET {t}w v")
	expect(t, watcher, ok, ok, queued)
	w.failOver(t, "{t}")
	do(t, c, "EXEC", "*1\r\n+OK\r\n")
	do(t, watcher, "EXEC", "*-1\r\n")

	send(t, c, "MULTI", "SET {t}k w")
	expect(t, c, ok, queued)
	master := w.master(t, "{t}")
	replicas, err := w.cluster.ReplicasOf(t.Context(), master)
	if err != nil {
		t.Fatal(err)
	}
	master.Kill()
	if err := w.cluster.Failover(t.Context(), replicas[0], harness.Takeover); err != nil {
		t.Fatal(err)
	}
	do(t, c, "EXEC", aborted)
	do(t, c, "GET {t}k", "$1\r\nv\r\n")
	send(t, c, "MULTI", "SET {t}k w", "EXEC")
	expect(t, c, ok, queued, "*1\r\n+OK\r\n")
}

// failOver has a replica of a key's master take its place.
func (w *world) failOver(t testing.TB, key string) {
	t.Helper()
	replicas, err := w.cluster.ReplicasOf(t.Context(), w.master(t, key))
	if err == nil {
		err = w.cluster.Failover(t.Context(), replicas[0], harness.Coordinated)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A command that nobody knows is refused inside a transaction, also in one whose watched keys count as changed.
func TestAnUnknownCommandInATransactionOfChangedKeys(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	unknown := "-ERR unknown command 'NOSUCHCOMMAND', with args beginning with: \r\n"
	c := w.connect(t)
	do(t, c, "WATCH {identity}k", ok)
	send(t, c, "HELLO 3")
	read(t, c)
	send(t, c, "MULTI", "NOSUCHCOMMAND", "DISCARD", "PING")
	expect(t, c, ok, unknown, ok, "+PONG\r\n")

	do(t, c, "WATCH {slot}k", ok)
	w.move(t, "{slot}k")
	send(t, c, "MULTI", "SET {slot}k v", "NOSUCHCOMMAND", "DISCARD", "PING")
	expect(t, c, ok, queued, unknown, ok, "+PONG\r\n")
}

// A command that Redis refuses aborts a transaction, also one whose watched keys count as changed. One that Redis answers at once, and
// does not queue, does not abort it.
func TestARefusedCommandAbortsATransactionOfChangedKeys(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	const (
		arity  = "-ERR wrong number of arguments for 'get' command\r\n"
		nested = "-ERR MULTI calls can not be nested\r\n"
		null   = "*-1\r\n"
	)
	tags := 0
	for _, test := range []struct {
		commands, replies []string // between MULTI and EXEC
		exec, want        string
	}{
		{[]string{"SET %s v", "GET"}, []string{queued, arity}, "EXEC", aborted},
		{[]string{"GET", "SET %s v"}, []string{arity, queued}, "EXEC", aborted},
		{[]string{"SET %s v", "MULTI"}, []string{queued, nested}, "EXEC", null},
		{[]string{"SET %s v"}, []string{queued}, "EXEC", null},
		{
			[]string{"SET %s v"},
			[]string{queued},
			"EXEC now", "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n",
		},
	} {
		for _, pipelined := range []bool{false, true} {
			tags++
			key := fmt.Sprintf("{%d}k", tags)
			c := w.connect(t)
			do(t, c, "WATCH "+key, ok)
			w.move(t, key)
			commands, replies := []string{"MULTI"}, []string{ok}
			for i, command := range test.commands {
				commands = append(commands, strings.Replace(command, "%s", key, 1))
				replies = append(replies, test.replies[i])
			}
			commands, replies = append(commands, test.exec, "EXISTS "+key), append(replies, test.want, ":0\r\n")
			if pipelined {
				send(t, c, commands...)
				expect(t, c, replies...)
				continue
			}
			for i, command := range commands {
				do(t, c, command, replies[i])
			}
		}
	}
}

// A write of which the sidecar has to know the keys, and cannot, is refused, and aborts the transaction that it is in.
func TestAWriteWithHiddenKeysIsRefused(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, newOrigin(), redis.Addr())
	c := r.connect(t)
	const hidden = "-ERR this command is larger than 4 MiB, and has keys in or behind a large argument: put keys first, or send several commands\r\n"
	write := "MSET k " + strings.Repeat("x", 5<<20) + " map:k v"
	send(t, c, write, "MULTI", "DEL k", write, "EXEC", "EXISTS k map:k")
	expect(t, c, hidden, ok, queued, hidden, aborted, ":0\r\n")
}

// An EXEC with arguments ends the transaction: what comes after it is none of it.
func TestAWrongExecEndsATransaction(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	for _, c := range []*harness.Conn{harness.NewConn(t, redis.Addr()), r.connect(t)} {
		send(t, c, "MULTI", "EXEC now", "SET k v", "MULTI", "GET k", "EXEC", "EXEC", "DEL k")
		expect(t, c, ok, "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n",
			ok, ok, queued, "*1\r\n"+bulk("v"), "-ERR EXEC without MULTI\r\n", ":1\r\n")
	}
}

package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// A large command is queued as any other, and what is wrong with one aborts the transaction as it does in Redis; none of its bytes is
// taken for a command.
func TestALargeCommandInATransaction(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	large, larger := strings.Repeat("x", 2<<20), strings.Repeat("y", 9<<20)
	for _, commands := range [][]string{
		{"SET k " + large, "STRLEN k"},
		{"SET k " + larger, "GETRANGE k 0 2", "SET k " + large, "STRLEN k"},
		{"ECHO " + large},
		{"PING " + larger},
		{"INCR n", "MSET k " + larger + " l " + large, "INCR n"},
		{"EVAL return(#KEYS[1]) 1 " + large},
		{"FOO " + large},
		{"GET k " + large, "SET k " + large},
		{"EXEC " + large},
		{"DISCARD " + larger},
		{"MULTI " + large},
	} {
		for _, first := range [][]string{nil, {"WATCH k"}} {
			direct, c := harness.NewConn(t, redis.Addr()), r.connect(t)
			var replies [2][]string
			for i, conn := range []*harness.Conn{direct, c} {
				redis.MustDo(t, "FLUSHALL")
				for _, command := range slices.Concat(first, []string{"MULTI", "INCR n"}, commands, []string{"INCR n", "EXEC", "GET n"}) {
					send(t, conn, command)
					replies[i] = append(replies[i], read(t, conn))
				}
			}
			if !slices.Equal(replies[0], replies[1]) {
				t.Errorf("%.60q: %.300q, want %.300q", commands, replies[1], replies[0])
			}
		}
	}
	for _, command := range []string{"SUBSCRIBE ", "CLIENT SETNAME "} { // as short ones are
		c := r.connect(t)
		send(t, c, "MULTI", command+larger, "EXEC", "MULTI", "QUIT")
		expect(t, c, ok, "-ERR Command not allowed inside a transaction\r\n", aborted, ok, ok)
	}
}

const unkept = "-TRYAGAIN the transaction belongs to another node, and is too large to be kept for saying it again: repeat it\r\n"

// A large command is not kept, so that its transaction cannot follow its slot: the client is told, nothing of it has run, and it works
// when it is repeated.
func TestALargeTransactionDoesNotFollowItsSlot(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	large := strings.Repeat("x", 5<<20)
	const done = "*2\r\n:1\r\n+OK\r\n"
	for i, want := range [][]string{
		{queued, queued, done}, // it has followed before the large command came
		{queued, unkept, aborted},
		{queued, queued, unkept},
	} {
		c := w.connect(t)
		key := fmt.Sprintf("{%d}k", i)
		commands := []string{"INCR " + key + "n", "SET " + key + " " + large, "EXEC"}
		do(t, c, "MULTI", ok)
		for n, command := range commands {
			if n == i {
				w.move(t, key)
			}
			send(t, c, command)
			if got := read(t, c); got != want[n] {
				t.Fatalf("the slot moved before command %d: %.20q is answered %.200q, want %q", i, command, got, want[n])
			}
		}
		if want[2] != done {
			do(t, c, "EXISTS "+key+"n", ":0\r\n")
			send(t, c, "MULTI")
			send(t, c, commands...)
			expect(t, c, ok, queued, queued, done)
		}
	}
	for _, key := range w.keysOfAll(t, "k") { // its node is known late
		c := w.connect(t)
		send(t, c, "MULTI", "ECHO "+large[:3<<20], "SET "+key+" "+large, "EXEC", "STRLEN "+key)
		expect(t, c, ok, queued, queued, "*2\r\n"+bulk(large[:3<<20])+ok, ":5242880\r\n")
	}
}

// A transaction of many commands that is larger than what is kept of one runs all the same.
func TestALongTransaction(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c := w.connect(t)
	set := "SET k " + strings.Repeat("x", 900<<10)
	do(t, c, "MULTI", ok)
	for range 9 {
		do(t, c, set, queued)
	}
	do(t, c, "EXEC", "*9\r\n"+strings.Repeat(ok, 9))
	do(t, c, "MULTI", ok)
	for range 9 {
		do(t, c, set, queued)
	}
	w.move(t, "k")
	do(t, c, "EXEC", unkept)
	do(t, c, "MULTI", ok)
	do(t, c, "STRLEN k", queued)
	do(t, c, "EXEC", "*1\r\n:921600\r\n")
}

// Commands for a connection of their own may be large where they have many keys or channels, and so may those whose keys come after what
// is large.
func TestLargeCommandsOfManyKeys(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	const count = 50
	long := strings.Repeat("x", 40<<10)
	for _, key := range w.keysOfAll(t, "k") {
		tag := "{" + key + "}"
		var many strings.Builder
		for i := range count {
			fmt.Fprintf(&many, " %s%s%d", tag, long, i)
		}
		c := w.connect3(t)
		send(t, c, "WATCH"+many.String(), "MULTI", "SET "+tag+" v", "EXEC")
		expect(t, c, ok, ok, queued, "*1\r\n+OK\r\n")
		do(t, c, "RPUSH "+tag+long+"7 v", ":1\r\n")
		send(t, c, "BLPOP"+many.String()+" 0")
		expect(t, c, "*2\r\n"+bulk(tag+long+"7")+bulk("v"))
		send(t, c, "EVAL return'"+strings.Repeat("x", 2<<20)+"' 1 "+tag)
		expect(t, c, bulk(strings.Repeat("x", 2<<20)))
		do(t, c, "CLIENT TRACKING ON BCAST PREFIX "+strings.Repeat("x", 2<<20)+" PREFIX y", ok)
		for _, command := range []string{"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"} {
			c := w.connect3(t)
			send(t, c, command+many.String())
			for i := range count {
				if got := read(t, c); !strings.HasSuffix(got, fmt.Sprintf(":%d\r\n", i+1)) {
					t.Fatalf("%s: confirmation %d is %q", command, i, got)
				}
			}
			silent(t, c)
		}
	}
}

// A command that comes slowly holds nobody up, not those that go to the same node either.
func TestALargeCommandHoldsNobodyUp(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	c, other := r.connect(t), r.connect(t)
	command := harness.Command("SET", "k", strings.Repeat("x", 4<<20))
	if err := c.Send(command[:3<<20]); err != nil {
		t.Fatal(err)
	}
	await(t, redis, "cmd=NULL", 1) // it has begun to come
	for range 10 {
		send(t, other, "SET k v", "GET k", "MULTI", "GET k", "EXEC")
		expect(t, other, ok, bulk("v"), ok, queued, "*1\r\n"+bulk("v"))
	}
	if err := c.Send(command[3<<20:]); err != nil {
		t.Fatal(err)
	}
	expect(t, c, ok)
	do(t, other, "STRLEN k", ":4194304\r\n")
}

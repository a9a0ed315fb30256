package rules

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"readthrough/test/harness"
)

const aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n"

// passes waits until a relay has handled what it was sent before, and Redis has answered.
func passes(t testing.TB, other *harness.Conn) {
	t.Helper()
	for range 20 {
		silent(t, other)
	}
}

// Commands that arrive while a transaction waits for its slot to settle come after it.
func TestATransactionWaitsForItsSlot(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c, other := w.connect(t), w.connect(t)
	do(t, c, "MULTI", ok)
	m := w.begin(t, "{t}")
	var want []string
	for i := range 6 {
		send(t, c, fmt.Sprintf("SET {t}%d v", i))
		passes(t, other)
		want = append(want, queued)
	}
	finish(t, m)
	expect(t, c, want...)
	do(t, c, "EXEC", "*6\r\n"+strings.Repeat(ok, 6))
}

// A node that closes its connections while a transaction waits takes nothing of it along.
func TestAWaitingTransactionOutlivesItsLink(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c := w.connect(t)
	from := w.master(t, "{t}")
	m := w.begin(t, "{t}")
	send(t, c, "MULTI", "SET {t}k v")
	expect(t, c, ok)
	poll(t, func() error { // until it waits for long
		stats := from.MustDo(t, "INFO", "commandstats").Str
		var calls int
		if _, after, found := strings.Cut(stats, "cmdstat_multi:calls="); found {
			_, _ = fmt.Sscanf(after, "%d", &calls)
		}
		if calls < 6 {
			return fmt.Errorf("MULTI was said %d times", calls)
		}
		return nil
	})
	from.MustDo(t, "CLIENT", "KILL", "TYPE", "normal")
	finish(t, m)
	expect(t, c, queued)
	do(t, c, "EXEC", "*1\r\n+OK\r\n")
}

// A transaction whose slot does not settle is given up, and every command of it is answered.
func TestATransactionWhoseSlotDoesNotSettleIsAborted(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c := w.connect(t)
	w.begin(t, "{t}")
	const unsettled = "-TRYAGAIN the transaction's slot is moving: repeat it\r\n"
	send(t, c, "MULTI", "PING", "SET {t}1 v", "SET {t}2 v")
	expect(t, c, ok, queued, unsettled, unsettled)
	do(t, c, "SET {t}3 v", unsettled)
	do(t, c, "EXEC", aborted)
	do(t, c, "PING", "+PONG\r\n")
}

// A transaction that has followed its slot is bound to the new node.
func TestATransactionThatMovedIsBound(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	keys := w.keysOfAll(t, "k")
	c := w.connect(t)
	do(t, c, "MULTI", ok)
	do(t, c, "SET "+keys[0]+" v", queued)
	w.move(t, keys[0])
	do(t, c, "SET "+keys[0]+" v", queued)
	for _, key := range keys[1:] {
		if w.master(t, key) != w.master(t, keys[0]) {
			do(t, c, "SET "+key+" v", "-CROSSSLOT Keys in request don't hash to the same slot\r\n")
		}
	}
	do(t, c, "EXEC", aborted)
}

// A large command aborts its transaction, known to Redis or not, and none of its bytes is taken for a command.
func TestALargeCommandAbortsATransaction(t *testing.T) {
	r := newRelay(t, nil, harness.NewRedis(t, harness.RedisOptions{}).Addr())
	large := strings.Repeat("x", 2<<20)
	for _, command := range []string{"FOO", "SET k", "GET k", "EXEC"} {
		c := r.connect(t)
		do(t, c, "MULTI", ok)
		do(t, c, "INCR n", queued)
		do(t, c, command+" "+large, "-ERR this command is larger than it can be\r\n")
		do(t, c, "INCR n", queued)
		do(t, c, "EXEC", aborted)
		do(t, c, "GET n", "$-1\r\n")
	}
}

// The commands of a transaction are kept, but not without bounds: of one, and of all together.
func TestTransactionsAreBounded(t *testing.T) {
	r := newRelay(t, nil, harness.NewRedis(t, harness.RedisOptions{}).Addr())
	set := "SET k " + strings.Repeat("x", 900<<10)
	c := r.connect(t)
	for range 12 { // what is over is given back
		send(t, c, "MULTI", set, set, set, set, "EXEC")
		expect(t, c, ok, queued, queued, queued, queued, "*4\r\n"+strings.Repeat(ok, 4))
	}
	send(t, c, "MULTI", set, set, set, set, set, "EXEC")
	expect(t, c, ok, queued, queued, queued, queued, "-ERR the transaction is larger than 4 MiB: make several of it\r\n", aborted)

	open := map[*harness.Conn]bool{}
	for range 60 {
		c := r.connect(t)
		do(t, c, "MULTI", ok)
		if err := c.Send(pipeline(set)); err != nil {
			continue // closed already
		}
		if got, err := c.ReadReply(); err == nil && string(got) == queued {
			open[c] = true
		}
	}
	executed := 0
	for c := range open {
		if _, err := c.Do("EXEC"); err == nil {
			executed++
		}
	}
	if executed == 0 || executed > 40 {
		t.Errorf("%d transactions of 900 KiB were carried out, want as many as 32 MiB hold", executed)
	}
	do(t, r.connect(t), "GET n", "$-1\r\n")
}

// A link whose transaction Redis would not end is not given to others.
func TestATransactionThatDoesNotEndKeepsItsLink(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	redis.MustDo(t, "ACL", "SETUSER", "u", "on", "nopass", "~*", "+@all", "-discard", "-unwatch")
	redis.MustDo(t, "ACL", "SETUSER", "default", "-multi")
	r := newRelay(t, nil, redis.Addr())
	c := r.connect(t)
	do(t, c, "AUTH u x", ok)
	for range 2 {
		send(t, c, "MULTI", "SET k v", "DISCARD")
		expect(t, c, ok, queued)
		if got := read(t, c); !bytes.HasPrefix([]byte(got), []byte("-NOPERM")) {
			t.Fatalf("DISCARD: %q", got)
		}
		send(t, c, "WATCH k", "UNWATCH")
		expect(t, c, ok)
		if got := read(t, c); !bytes.HasPrefix([]byte(got), []byte("-NOPERM")) {
			t.Fatalf("UNWATCH: %q", got)
		}
	}
	send(t, c, "MULTI", "SET k v", "EXEC")
	expect(t, c, ok, queued, "*1\r\n+OK\r\n")
	c = r.connect(t) // who may not use MULTI
	do(t, c, "MULTI", ok)
	do(t, c, "SET k v", ok)
	do(t, c, "EXEC", aborted)
	send(t, c, "GET k")
	expect(t, c, bulk("v"))
}

// WAIT asks the master that a transaction wrote to.
func TestWaitIsForTransactionsToo(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c := w.connect(t)
	for _, key := range w.keysOfAll(t, "k") {
		send(t, c, "MULTI", "SET "+key+" v", "EXEC", "WAIT 0 10")
		expect(t, c, ok, queued, "*1\r\n+OK\r\n", ":0\r\n")
		if stats := w.master(t, key).MustDo(t, "INFO", "commandstats").Str; !strings.Contains(stats, "cmdstat_wait:") {
			t.Errorf("WAIT was not asked of the master of %s", key)
		}
	}
}

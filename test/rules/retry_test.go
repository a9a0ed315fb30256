package rules

import (
	"bytes"
	"fmt"
	"runtime"
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

// The commands of a transaction are kept, but not without bounds: of one, and of all together.
func TestTransactionsAreBounded(t *testing.T) {
	r := newRelay(t, nil, harness.NewRedis(t, harness.RedisOptions{}).Addr())
	set := "SET k " + strings.Repeat("x", 900<<10)
	c := r.connect(t)
	for range 12 { // what is over is given back
		send(t, c, "MULTI", set, set, set, set, "EXEC")
		expect(t, c, ok, queued, queued, queued, queued, "*4\r\n"+strings.Repeat(ok, 4))
	}
	send(t, c, "MULTI", set, set, set, set, set, "EXEC") // more than is kept
	expect(t, c, ok, queued, queued, queued, queued, queued, "*5\r\n"+strings.Repeat(ok, 5))

	short := "SET k " + strings.Repeat("x", 60<<10)
	const clients, commands = 60, 60
	var open []*harness.Conn
	for range clients {
		c := r.connect(t)
		do(t, c, "MULTI", ok)
		for range commands {
			do(t, c, short, queued)
		}
		open = append(open, c)
	}
	runtime.GC()
	var held runtime.MemStats
	runtime.ReadMemStats(&held)
	if held.HeapAlloc > 96<<20 {
		t.Errorf("%d MiB are in use, while clients have sent %d", held.HeapAlloc>>20, clients*commands*len(short)>>20)
	}
	for _, c := range open {
		do(t, c, "EXEC", fmt.Sprintf("*%d\r\n%s", commands, strings.Repeat(ok, commands)))
	}
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

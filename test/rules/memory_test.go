package rules

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// There is one bound of what all clients hold together. Past it the one that holds most is closed, and the others are not.
func TestTheClientThatHoldsMostIsClosed(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	keys := func(size int) string {
		var b strings.Builder
		for b.Len() < size {
			b.WriteString(" queue" + strings.Repeat("x", 50<<10))
		}
		return b.String()
	}
	largest, modest := r.connect(t), r.connect(t)
	send(t, modest, "BLPOP queue 0")
	send(t, largest, "BLPOP"+keys(3<<20)+" 0") // which is kept: its slot may move
	await(t, redis, "flags=b", 2)
	const count = 25 // of these, they hold some 50 MiB
	several := "BLPOP" + keys(2<<20) + " 0"
	var clients []*harness.Conn
	for range count {
		c := r.connect(t)
		send(t, c, several)
		clients = append(clients, c)
	}
	if got, err := largest.ReadReply(); !errors.Is(err, io.EOF) {
		t.Fatalf("the largest one is answered %q, %v", got, err)
	}
	silent(t, r.connect(t))
	left := 0
	for _, c := range clients {
		redis.MustDo(t, "RPUSH", "queue"+strings.Repeat("x", 50<<10), "v")
		if _, err := c.ReadReply(); err == nil {
			left++
		}
	}
	if left < 5 || left > 16 {
		t.Errorf("%d of %d clients are left, want what 32 MiB hold", left, count)
	}
	redis.MustDo(t, "RPUSH", "queue", "v")
	expect(t, modest, "*2\r\n"+bulk("queue")+bulk("v"))
}

// A command that announces a million arguments costs as much as has come of it.
func TestAnnouncedArgumentsTakeNothing(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, newOrigin(), redis.Addr())
	const clients = 20
	for _, name := range []string{"DEL", "MSET", "SUNIONSTORE", "EVAL", "GET", "MGET"} {
		before := allocated()
		for range clients {
			c := r.connect(t)
			begin := fmt.Sprintf("*1000001\r\n$%d\r\n%s\r\n$3\r\na:1\r\n$2000000\r\nx", len(name), name)
			if err := c.Send([]byte("PING begins\r\n" + begin)); err != nil {
				t.Fatal(err)
			}
			expect(t, c, bulk("begins"))
		}
		r.LoopStats(t) // when the loop comes to this, it has seen them all
		if n := allocated() - before; n > 8<<20 {
			t.Errorf("%d unfinished %s have taken %d MiB", clients, name, n>>20)
		}
	}
}

// allocated is the number of bytes that this process has ever allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// What a command of very many keys takes is given back, also while its client stays.
func TestManyArgumentsAreForgotten(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, newOrigin(), redis.Addr())
	const size = 4 << 20
	inUse := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc) - r.LoopStats(t).FreeBytes
	}
	command := func(name, argument string) []byte {
		n := (size - 100) / len(argument)
		return []byte(fmt.Sprintf("*%d\r\n$%d\r\n%s\r\n", n+1, len(name), name) + strings.Repeat(argument, n))
	}
	for _, name := range []string{"DEL", "EXISTS", "MGET", "SUNIONSTORE"} {
		raw := command(name, "$1\r\na\r\n")
		c := r.connect(t)
		do(t, c, "DEL a", ":0\r\n")
		before := inUse()
		if err := c.Send(raw); err != nil {
			t.Fatal(err)
		}
		if got := read(t, c); got[0] == '-' {
			t.Errorf("%s: %.100q", name, got)
		}
		if n := inUse() - before; n > 2<<20 {
			t.Errorf("%s: %d KiB are still in use", name, n>>10)
		}
		runtime.KeepAlive(raw)
	}
}

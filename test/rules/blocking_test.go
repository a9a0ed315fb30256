package rules

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"readthrough/test/harness"
)

// A client that leaves while it is blocked takes nothing with it, and its connection to Redis is free at once.
func TestABlockedClientThatLeavesTakesNothing(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	other := r.connect(t)
	for name, leave := range map[string]func(c *harness.Conn){
		"close":      func(c *harness.Conn) { _ = c.Close() },
		"half close": func(c *harness.Conn) { _ = c.Conn.(*net.TCPConn).CloseWrite() },
		"reset": func(c *harness.Conn) {
			_ = c.Conn.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		},
	} {
		for _, command := range []string{"BLPOP queue 0", "BLMOVE queue taken LEFT LEFT 0", "XREAD BLOCK 0 STREAMS queue $", "WAIT 1 0"} {
			t.Run(name+" "+command, func(t *testing.T) {
				redis.MustDo(t, "FLUSHALL")
				c := r.connect(t)
				send(t, c, command, "RPUSH behind x")
				await(t, redis, "flags=b", 1)
				leave(c)
				await(t, redis, "flags=b", 0)
				do(t, other, "RPUSH queue x", ":1\r\n")
				do(t, other, "LLEN queue", ":1\r\n")
				do(t, other, "EXISTS behind", ":0\r\n")
			})
		}
	}
}

// A client that closes its direction is answered what it has sent whole.
func TestAHalfClosedClientIsAnswered(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	open := o.hold()
	r := newRelay(t, o, redis.Addr())
	c := r.connect(t)
	send(t, c, "SET k v", "GET map:k", "MULTI", "GET k", "EXEC", "GET k")
	if err := c.Send([]byte("*2\r\n$3\r\nGET\r\n$1\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-o.asked
	open()
	expect(t, c, ok, bulk("loaded"), ok, queued, "*1\r\n$1\r\nv\r\n", bulk("v"))
	if got, err := c.ReadReply(); err == nil {
		t.Fatalf("then %q", got)
	}
}

// Blocked clients are served in their order, and do not slow the others.
func TestAThousandBlockedClients(t *testing.T) {
	const count = 1000
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	var blocked []*harness.Conn
	for i := range count {
		c := r.connect(t)
		send(t, c, fmt.Sprintf("BLPOP queue%d 0", i))
		blocked = append(blocked, c)
	}
	await(t, redis, "flags=b", count)
	other := r.connect(t)
	began := time.Now()
	for range 1000 {
		do(t, other, "GET none", "$-1\r\n")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("1000 commands beside them took %v", took)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range count {
			if raw, err := other.Do("RPUSH", fmt.Sprintf("queue%d", i), "x"); err != nil || string(raw) != ":1\r\n" {
				t.Errorf("RPUSH: %q, %v", raw, err)
				return
			}
		}
	})
	for i, c := range blocked {
		expect(t, c, fmt.Sprintf("*2\r\n%s%s", bulk(fmt.Sprintf("queue%d", i)), bulk("x")))
	}
	wg.Wait()
	for _, c := range blocked {
		_ = c.Close()
	}
	poll(t, func() error {
		if n := clientsOf(t, redis, "cmd="); n > 50 {
			return fmt.Errorf("%d connections to Redis", n)
		}
		return nil
	})
}

// A blocked client follows its slot, and waits on where a master fails over.
func TestABlockedClientFollowsItsSlot(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{Replicas: 1})
	c, other := w.connect(t), w.connect(t)
	send(t, c, "BLPOP {t}q 0")
	await(t, w.master(t, "{t}"), "flags=b", 1)
	w.move(t, "{t}")
	await(t, w.master(t, "{t}"), "flags=b", 1)
	do(t, other, "RPUSH {t}q moved", ":1\r\n")
	expect(t, c, "*2\r\n"+bulk("{t}q")+bulk("moved"))

	do(t, other, "SET {u}k v", ok)
	m := w.begin(t, "{u}")
	send(t, c, "BLPOP {u}q 0")
	finish(t, m)
	do(t, other, "RPUSH {u}q moving", ":1\r\n")
	expect(t, c, "*2\r\n"+bulk("{u}q")+bulk("moving"))

	send(t, c, "BLPOP {t}q 0")
	await(t, w.master(t, "{t}"), "flags=b", 1)
	w.failOver(t, "{t}")
	await(t, w.master(t, "{t}"), "flags=b", 1)
	do(t, other, "RPUSH {t}q failed", ":1\r\n")
	expect(t, c, "*2\r\n"+bulk("{t}q")+bulk("failed"))
}

// CLIENT UNBLOCK finds the client by the id that it was told.
func TestUnblock(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	c, other := r.connect(t), r.connect(t)
	id := idOf(t, c)
	do(t, other, "CLIENT UNBLOCK "+id, ":0\r\n")
	for reason, want := range map[string]string{
		"": "*-1\r\n", " TIMEOUT": "*-1\r\n", " ERROR": "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n",
	} {
		send(t, c, "BLPOP queue 0")
		await(t, redis, "flags=b", 1)
		do(t, other, "CLIENT UNBLOCK "+id+reason, ":1\r\n")
		expect(t, c, want)
	}
}

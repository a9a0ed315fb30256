package rules

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
	"readthrough/upstream"
)

// A node that hangs holds nobody for ever whom it owes a reply, over a connection of their own too; but who waits may wait on.
func TestAHungNodeHoldsNobodyForEver(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelayWith(t, nil, upstream.Options{Addresses: []string{redis.Addr()}, Silence: time.Second})
	subscriber, watcher, waiter := r.connect3(t), r.connect(t), r.connect(t)
	send(t, subscriber, "SUBSCRIBE a")
	expect(t, subscriber, message(3, "subscribe", "a", ":1\r\n"))
	do(t, watcher, "WATCH k", ok)
	send(t, waiter, "BLPOP queue 0")
	await(t, redis, "flags=b", 1)
	if err := redis.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = redis.Resume() }()
	send(t, subscriber, "SUBSCRIBE b")
	send(t, watcher, "WATCH l")
	if got := read(t, watcher); !strings.HasPrefix(got, "-UPSTREAMLOST ") {
		t.Errorf("WATCH: %q", got)
	}
	if got, err := subscriber.ReadReply(); !errors.Is(err, io.EOF) {
		t.Errorf("SUBSCRIBE: %q, %v", got, err)
	}
	if err := redis.Resume(); err != nil {
		t.Fatal(err)
	}
	redis.MustDo(t, "RPUSH", "queue", "x")
	expect(t, waiter, "*2\r\n"+bulk("queue")+bulk("x"))
}

// A client whose blocking command failed is no longer blocked: it is answered what it sends whole after that.
func TestAClientIsNotBlockedBehindALostConnection(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	open := o.hold()
	r := newRelay(t, o, redis.Addr())
	c, other := r.connect(t), r.connect(t)
	send(t, c, "BLPOP queue 0")
	await(t, redis, "flags=b", 1)
	redis.MustDo(t, "CLIENT", "KILL", "TYPE", "normal")
	if got := read(t, c); !strings.HasPrefix(got, "-UPSTREAMLOST ") {
		t.Fatalf("%q", got)
	}
	send(t, c, "GET map:k", "MULTI", "EXEC")
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-o.asked
	silent(t, other) // by then it has been noticed
	silent(t, other)
	open()
	expect(t, c, bulk("loaded"), ok, "*0\r\n")
}

// Who waits for as long as it likes does not hold up the end.
func TestBlockedClientsDoNotHoldUpTheEnd(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	for _, command := range []string{"BLPOP queue 0", "WAIT 1 0"} {
		send(t, r.connect(t), command)
	}
	await(t, redis, "flags=b", 2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.Server.Close(ctx); err != nil {
		t.Error(err)
	}
}

// A client that leaves while it is blocked has the replies to what it sent before.
func TestABlockedClientThatLeavesIsAnsweredWhatCameBefore(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	for _, command := range []string{"BLPOP queue 0", "WAIT 1 0"} {
		c := r.connect(t)
		if err := c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
			t.Fatal(err)
		}
		// Not all of them fit in the sockets, and the rest is less than what the relay keeps for one client.
		const echoes = 8
		text := strings.Repeat("x", 512<<10)
		for range echoes {
			send(t, c, "ECHO "+text)
		}
		send(t, c, command)
		await(t, redis, "flags=b", 1)
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		await(t, redis, "flags=b", 0)
		for range echoes {
			expect(t, c, bulk(text))
		}
		if got, err := c.ReadReply(); !errors.Is(err, io.EOF) {
			t.Errorf("then %q, %v", got, err)
		}
	}
}

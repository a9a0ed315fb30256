package rules

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"readthrough/internal/slot"
	"readthrough/test/harness"
)

// A large command of a subscriber over RESP2 is refused as a short one is, and what it brings is not taken for commands.
func TestALargeCommandOfASubscriberIsRefused(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	direct := harness.NewConn(t, redis.Addr())
	c := r.connect(t)
	for _, conn := range []*harness.Conn{c, direct} {
		send(t, conn, "SUBSCRIBE a")
		expect(t, conn, message(2, "subscribe", "a", ":1\r\n"))
	}
	large := strings.Repeat("x", 2<<20)
	for _, command := range []string{"GET ", "SET k ", "GET k "} {
		send(t, c, command+large)
		send(t, direct, command+large)
		if got, want := read(t, c), read(t, direct); got != want {
			t.Errorf("%s: %.200q, want %.200q", command, got, want)
		}
	}
	send(t, c, "PING "+large)
	expect(t, c, "*2\r\n"+bulk("pong")+bulk(large))
	for _, command := range []string{"FOO ", "PING " + large + large} {
		send(t, c, command+large)
		if got := read(t, c); got[0] != '-' {
			t.Errorf("%s: %.200q", command, got)
		}
	}
	send(t, c, "PING")
	expect(t, c, "*2\r\n"+bulk("pong")+bulk(""))
	redis.MustDo(t, "PUBLISH", "a", "text")
	expect(t, c, message(2, "message", "a", bulk("text")))
}

// A subscriber over RESP2 is one also while its subscription is on its way to another node.
func TestASubscriberWhoseChannelMovesCanDoNothingElse(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	owner, other := w.master(t, "c"), w.other(t, "c")
	direct := harness.NewConn(t, owner.Addr())
	c := w.connect(t)
	send(t, c, "SSUBSCRIBE c")
	expect(t, c, message(2, "ssubscribe", "c", ":1\r\n"))
	at := fmt.Sprint(slot.Of([]byte("c")))
	other.MustDo(t, "CLUSTER", "SETSLOT", at, "IMPORTING", owner.ID())
	owner.MustDo(t, "CLUSTER", "SETSLOT", at, "MIGRATING", other.ID())
	other.MustDo(t, "CLUSTER", "SETSLOT", at, "NODE", other.ID())
	dials := w.Stats(t).Dials
	if err := other.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Resume() }()
	do(t, direct, "CLUSTER SETSLOT "+at+" NODE "+other.ID(), ok)
	poll(t, func() error { // the relay has heard of it
		if w.Stats(t).Dials == dials {
			return errors.New("no connection was made for the subscription")
		}
		return nil
	})
	send(t, c, "SET c v", "SUNSUBSCRIBE c")
	if err := other.Resume(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c); !strings.HasPrefix(got, "-ERR Can't execute 'set': only ") {
		t.Errorf("%q", got)
	}
	expect(t, c, message(2, "sunsubscribe", "c", ":0\r\n"))
	do(t, c, "EXISTS c", ":0\r\n")
}

// What a subscriber over RESP2 may not do is not done either where some of its subscriptions have just moved to another connection.
func TestASubscriberOfAShardedChannelCanDoNothingElse(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c := w.connect(t)
	for i := range 20 {
		channel := fmt.Sprintf("{%d}c", i)
		send(t, c, "SSUBSCRIBE "+channel)
		expect(t, c, message(2, "ssubscribe", channel, ":1\r\n"))
		w.move(t, channel)
		poll(t, func() error { return w.subscribed(t, channel) })
		send(t, c, "SET "+channel+" v")
		if got := read(t, c); !strings.HasPrefix(got, "-ERR Can't execute 'set': only ") {
			t.Fatalf("%q", got)
		}
		send(t, c, "SUNSUBSCRIBE "+channel)
		expect(t, c, message(2, "sunsubscribe", channel, ":0\r\n"))
	}
}

// RESET ends the subscriptions of a user who may not end them by a command.
func TestResetOfASubscriberWithoutTheRightToUnsubscribe(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	redis.MustDo(t, "ACL", "SETUSER", "bob", "on", ">p", "&*", "~*", "+@all", "-unsubscribe", "-punsubscribe", "-sunsubscribe")
	r := newRelay(t, nil, redis.Addr())
	for _, protocol := range []string{"2", "3"} {
		c := r.connect(t)
		c.MustDo(t, "HELLO", protocol, "AUTH", "bob", "p")
		send(t, c, "SUBSCRIBE a", "RESET", "GET k")
		read(t, c)
		expect(t, c, "+RESET\r\n", "$-1\r\n")
		await(t, redis, "flags=P", 0)
	}
}

// CLIENT REPLY SKIP before a command that is answered by confirmations is spent on it, not on what comes after.
func TestSkipIsSpentOnSubscribe(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	for _, c := range []*harness.Conn{harness.NewConn(t, redis.Addr()), r.connect(t)} {
		c.MustDo(t, "HELLO", "3")
		send(t, c, "CLIENT REPLY SKIP", "SUBSCRIBE a", "PING one", "PING two")
		expect(t, c, message(3, "subscribe", "a", ":1\r\n"), bulk("one"), bulk("two"))
	}
}

// Two nodes that each say that the other serves a slot are not asked for ever: the client sees the redirect, and goes on.
func TestRedirectsOfASubscriptionEnd(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c := w.connect3(t)
	owner, other := w.master(t, "c"), w.other(t, "c")
	owner.MustDo(t, "CLUSTER", "SETSLOT", fmt.Sprint(slot.Of([]byte("c"))), "NODE", other.ID())
	send(t, c, "SSUBSCRIBE c", "PING")
	if got := read(t, c); !strings.HasPrefix(got, "-MOVED ") {
		t.Errorf("%q", got)
	}
	expect(t, c, "+PONG\r\n")
}

// The same where a subscription that there is follows its slot: the client is closed, since it misses messages.
func TestASubscriptionThatNoNodeTakesClosesItsClient(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c := w.connect3(t)
	owner, other := w.master(t, "c"), w.other(t, "c")
	send(t, c, "SSUBSCRIBE c")
	expect(t, c, message(3, "ssubscribe", "c", ":1\r\n"))
	owner.MustDo(t, "CLUSTER", "SETSLOT", fmt.Sprint(slot.Of([]byte("c"))), "NODE", other.ID())
	if got, err := c.ReadReply(); !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v", got, err)
	}
}

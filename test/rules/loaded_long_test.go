//go:build long

package rules

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// These need a machine that has nothing else to do, and belong to make test-long.

// Keyspace notifications of all masters come to a subscriber of theirs, each once; so do messages and confirmations.
func TestNotificationsOfAllMastersComeOnce(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{"notify-keyspace-events KEA"}}})
	keys := w.keysOfAll(t, "k")
	other := w.connect(t)
	for _, protocol := range []int{2, 3} {
		c := w.connect(t)
		if protocol == 3 {
			c = w.connect3(t)
		}
		send(t, c, "PSUBSCRIBE __keyevent@0__:set news*")
		expect(t, c, message(protocol, "psubscribe", "__keyevent@0__:set", ":1\r\n"), message(protocol, "psubscribe", "news*", ":2\r\n"))
		send(t, c, "SUBSCRIBE __keyspace@0__:"+keys[1])
		expect(t, c, message(protocol, "subscribe", "__keyspace@0__:"+keys[1], ":3\r\n"))
		head := map[int]string{2: "*4\r\n", 3: ">4\r\n"}[protocol]
		for i, key := range keys {
			do(t, other, "SET "+key+" v", ok)
			event := head + bulk("pmessage") + bulk("__keyevent@0__:set") + bulk("__keyevent@0__:set") + bulk(key)
			if i != 1 {
				expect(t, c, event)
				continue
			}
			both := []string{read(t, c), read(t, c)} // in the node's order
			if space := message(protocol, "message", "__keyspace@0__:"+key, bulk("set")); both[0] != space || both[1] != event {
				t.Fatalf("%q", both)
			}
		}
		other.MustDo(t, "PUBLISH", "news1", "text")
		expect(t, c, head+bulk("pmessage")+bulk("news*")+bulk("news1")+bulk("text"))
		send(t, c, "PUNSUBSCRIBE __keyevent@0__:set")
		expect(t, c, message(protocol, "punsubscribe", "__keyevent@0__:set", ":2\r\n"))
		for _, key := range keys {
			do(t, other, "SET "+key+" v", ok)
		}
		expect(t, c, message(protocol, "message", "__keyspace@0__:"+keys[1], bulk("set")))
		send(t, c, "PING")
		if got := read(t, c); !strings.Contains(strings.ToLower(got), "pong") {
			t.Fatalf("after that: %q", got)
		}
	}
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

// A client that leaves while it is blocked has the replies to what it sent before.
func TestABlockedClientThatLeavesIsAnsweredWhatCameBefore(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	for _, command := range []string{"BLPOP queue 0", "WAIT 1 0"} {
		c := r.connect(t)
		if err := c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat("x", 512<<10) // of these, not all fit in the sockets
		for range 10 {
			send(t, c, "ECHO "+text)
		}
		send(t, c, command)
		await(t, redis, "flags=b", 1)
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		await(t, redis, "flags=b", 0)
		for range 10 {
			expect(t, c, bulk(text))
		}
		if got, err := c.ReadReply(); !errors.Is(err, io.EOF) {
			t.Errorf("then %q, %v", got, err)
		}
	}
}

package rules

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"readthrough/internal/slot"
	"readthrough/test/harness"
)

// message is a message of a channel, as RESP2 and RESP3 have it; kind is message, smessage, subscribe and so on.
func message(protocol int, kind, channel, text string) string {
	head := "*3\r\n"
	if protocol == 3 {
		head = ">3\r\n"
	}
	return head + bulk(kind) + bulk(channel) + text
}

// A master that takes over or is new has sent nothing of what happened before it was noticed: who wants its notifications is closed, and
// subscribes again.
func TestNotificationsEndWhereAMasterIsNew(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{Replicas: 1, RedisOptions: harness.RedisOptions{Config: []string{"notify-keyspace-events KEA"}}})
	keys := w.keysOfAll(t, "k")
	c, plain, other := w.connect3(t), w.connect3(t), w.connect(t)
	send(t, c, "SUBSCRIBE __keyevent@0__:set")
	read(t, c)
	send(t, plain, "SUBSCRIBE news")
	read(t, plain)
	w.failOver(t, keys[2])
	do(t, other, "SET "+keys[2]+" v", ok) // by which the new one is noticed
	for {
		if _, err := c.ReadReply(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	other.MustDo(t, "PUBLISH", "news", "text")
	expect(t, plain, message(3, "message", "news", bulk("text")))
}

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

// What is confirmed holds for all masters.
func TestNotificationsOfAllMastersAreConfirmedTogether(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{"notify-keyspace-events KEA"}}})
	masters, err := w.cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var direct []*harness.Conn
	for _, m := range masters {
		direct = append(direct, harness.NewConn(t, m.Addr()))
	}
	const channel = "__keyevent@0__:set"
	for i := range 50 {
		protocol, c := 2, w.connect(t)
		if i%2 == 1 {
			protocol, c = 3, w.connect3(t)
		}
		for _, step := range []struct{ kind, subscribers string }{{"subscribe", ":1\r\n"}, {"unsubscribe", ":0\r\n"}} {
			send(t, c, step.kind+" "+channel)
			expect(t, c, message(protocol, step.kind, channel, step.subscribers))
			for _, d := range direct {
				do(t, d, "PUBSUB NUMSUB "+channel, "*2\r\n"+bulk(channel)+step.subscribers)
			}
		}
		_ = c.Close()
	}
}

// No message comes before the client knows that it is subscribed, nor any after it knows that it is not.
func TestNotificationsComeBetweenTheirConfirmations(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{"notify-keyspace-events KEA"}}})
	keys := w.keysOfAll(t, "k")
	stop, stopped := make(chan struct{}), make(chan error, 1)
	writer := w.connect(t)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if _, err := writer.Do("SET", keys[i%len(keys)], "v"); err != nil {
				stopped <- err
				return
			}
		}
	}()
	const channel = "__keyevent@0__:set"
	for range 30 {
		c := w.connect3(t)
		send(t, c, "SUBSCRIBE "+channel)
		expect(t, c, message(3, "subscribe", channel, ":1\r\n"))
		send(t, c, "UNSUBSCRIBE "+channel, "GET none")
		until(t, c, message(3, "unsubscribe", channel, ":0\r\n"))
		expect(t, c, "_\r\n")
		silent(t, c)
		_ = c.Close()
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A lost connection with subscriptions closes the client, which cannot know what it has missed; nobody else is.
func TestALostSubscriptionClosesItsClient(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	masters, err := w.cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := w.connect(t)
	for name, command := range map[string]string{"channel": "SUBSCRIBE c", "sharded channel": "SSUBSCRIBE c", "notifications": "SUBSCRIBE __keyevent@0__:set"} {
		for _, node := range masters {
			c := w.connect3(t)
			send(t, c, command)
			read(t, c)
			if name == "notifications" {
				await(t, node, "flags=P", 1)
			}
			subscribed := clientsOf(t, node, "flags=P") > 0
			node.MustDo(t, "CLIENT", "KILL", "TYPE", "pubsub")
			if !subscribed {
				silent(t, c)
				_ = c.Close()
			} else if got, err := c.ReadReply(); err == nil {
				t.Errorf("%s: %q", name, got)
			}
			for _, m := range masters {
				await(t, m, "flags=P", 0)
			}
		}
	}
	silent(t, other)
}

// subscribed is nil when a node of a sharded channel's shard has a subscriber of it.
func (w *world) subscribed(t testing.TB, channel string) error {
	master := w.master(t, channel)
	shard, err := w.cluster.ReplicasOf(t.Context(), master)
	if err != nil {
		return err
	}
	for _, node := range append(shard, master) {
		if v := node.MustDo(t, "PUBSUB", "SHARDNUMSUB", channel); v.Elems[1].Str == "1" {
			return nil
		}
	}
	return fmt.Errorf("nobody subscribes to %s", channel)
}

// A sharded subscription follows its slot, and its client sees no more of that than the messages.
func TestAShardedSubscriptionFollowsItsSlot(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{Replicas: 1})
	for _, protocol := range []int{2, 3} {
		a, b := fmt.Sprintf("{%d}a", protocol), fmt.Sprintf("{%d}b", protocol)
		c, other := w.connect(t), w.connect(t)
		if protocol == 3 {
			c = w.connect3(t)
		}
		send(t, c, "SSUBSCRIBE "+a+" "+b, "SSUBSCRIBE c")
		expect(t, c, message(protocol, "ssubscribe", a, ":1\r\n"), message(protocol, "ssubscribe", b, ":2\r\n"),
			message(protocol, "ssubscribe", "c", ":3\r\n"))
		publish := func(what string) {
			t.Helper()
			for _, channel := range []string{a, b} {
				poll(t, func() error { return w.subscribed(t, channel) })
				other.MustDo(t, "SPUBLISH", channel, what)
				expect(t, c, message(protocol, "smessage", channel, bulk(what)))
			}
		}
		publish("here")
		w.move(t, a)
		publish("moved")
		w.failOver(t, a)
		// The subscription stays where it was: a replica gets the messages of its shard.
		send(t, other, "SPUBLISH "+a+" failed-over")
		read(t, other)
		expect(t, c, message(protocol, "smessage", a, bulk("failed-over")))
		send(t, c, "SUNSUBSCRIBE")
		for range 3 {
			read(t, c)
		}
		send(t, c, "PING")
		expect(t, c, "+PONG\r\n")
	}
}

// A subscriber over RESP3 goes on with everything else on the shared connections; over RESP2 Redis refuses it.
func TestWhatASubscriberMayDo(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	direct := harness.NewConn(t, redis.Addr())
	c := r.connect(t)
	for _, command := range []string{
		"SUBSCRIBE c", "GET k", "PING", "PING x", "MULTI", "NOSUCH", "GET", "CLIENT ID", "BLPOP k 0", "SUBSCRIBE d",
		"HELLO 3 SETNAME", "UNSUBSCRIBE d", "SSUBSCRIBE c", "SUNSUBSCRIBE c", "UNSUBSCRIBE c", "GET k", "UNSUBSCRIBE", "PING",
	} {
		send(t, c, command)
		send(t, direct, command)
		if got, want := read(t, c), read(t, direct); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}

	c3, other := r.connect3(t), r.connect(t)
	send(t, c3, "SUBSCRIBE c")
	expect(t, c3, message(3, "subscribe", "c", ":1\r\n"))
	silent(t, c3)
	links := clientsOf(t, redis, "flags=")
	send(t, c3, "SET k v", "GET k", "MULTI", "GET k", "EXEC", "BLPOP none 0.01", "GET k")
	expect(t, c3, ok, bulk("v"), ok, queued, "*1\r\n"+bulk("v"), "_\r\n", bulk("v"))
	if n := clientsOf(t, redis, "cmd=get"); n == 0 || clientsOf(t, redis, "flags=P") != 1 {
		t.Errorf("GET went by no shared connection, of %d", links)
	}
	do(t, other, "PUBLISH c m", ":1\r\n")
	expect(t, c3, message(3, "message", "c", bulk("m")))
}

// A large message comes whole, between replies and not within, and they not within it.
func TestALargeMessageComesWhole(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	c, other := r.connect3(t), r.connect(t)
	send(t, c, "SUBSCRIBE c d", "SET k v")
	expect(t, c, message(3, "subscribe", "c", ":1\r\n"), message(3, "subscribe", "d", ":2\r\n"), ok)
	const rounds = 20
	text := strings.Repeat("x", 3<<20)
	done := make(chan error, 1)
	go func() {
		for range rounds {
			if _, err := other.Do("PUBLISH", "c", text); err != nil {
				done <- err
				return
			}
		}
		_, err := other.Do("PUBLISH", "d", "end")
		done <- err
	}()
	messages := 0
	want := message(3, "message", "c", bulk(text))
	for {
		send(t, c, "GET k")
		got := read(t, c)
		for got[0] == '>' {
			if got == message(3, "message", "d", bulk("end")) {
				break
			}
			if messages++; got != want {
				t.Fatalf("message %d is %.100q", messages, got)
			}
			got = read(t, c)
		}
		if got[0] == '>' {
			break
		}
		if got != bulk("v") {
			t.Fatalf("GET: %.100q", got)
		}
	}
	if err := <-done; err != nil || messages != rounds {
		t.Fatalf("%d messages, %v", messages, err)
	}
}

// The same where two nodes send large messages at once.
func TestLargeMessagesOfSeveralNodesComeWhole(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	channels := w.keysOfAll(t, "c")
	for _, protocol := range []int{2, 3} {
		c := w.connect(t)
		if protocol == 3 {
			c = w.connect3(t)
		}
		for i, channel := range channels {
			send(t, c, "SSUBSCRIBE "+channel)
			expect(t, c, message(protocol, "ssubscribe", channel, fmt.Sprintf(":%d\r\n", i+1)))
		}
		const rounds = 10
		text := strings.Repeat("x", 1<<20)
		var wg sync.WaitGroup
		for _, channel := range channels {
			publisher := w.connect(t)
			wg.Go(func() {
				for range rounds {
					if _, err := publisher.Do("SPUBLISH", channel, text); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range rounds * len(channels) {
			got := read(t, c)
			if !slices.ContainsFunc(channels, func(channel string) bool { return got == message(protocol, "smessage", channel, bulk(text)) }) {
				t.Fatalf("%.100q", got)
			}
		}
		wg.Wait()
	}
}

// A push that nobody has asked for reaches nobody, and an attribute stays with its reply.
func TestPushesOnSharedConnectionsReachNobody(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"enable-debug-command yes"}})
	r := newRelay(t, nil, redis.Addr())
	c, other := r.connect3(t), r.connect3(t)
	send(t, c, "DEBUG PROTOCOL PUSH", "DEBUG PROTOCOL ATTRIB")
	send(t, other, "GET none")
	expect(t, other, "_\r\n")
	expect(t, c, bulk("Some real reply following the push reply"),
		"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n"+bulk("Some real reply following the attribute"))
	if n := r.Stats(t).PushesDropped; n != 1 {
		t.Errorf("%d pushes were counted", n)
	}
}

// A channel's slot is its own, whatever the keys are.
func TestShardedChannelsGoToTheirSlots(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c, other := w.connect3(t), w.connect(t)
	for i, channel := range w.keysOfAll(t, "c") {
		send(t, c, "SSUBSCRIBE "+channel)
		expect(t, c, message(3, "ssubscribe", channel, fmt.Sprintf(":%d\r\n", i+1)))
		v := w.master(t, channel).MustDo(t, "PUBSUB", "SHARDCHANNELS")
		if len(v.Elems) != 1 || v.Elems[0].Str != channel {
			t.Errorf("the node of slot %d has %v", slot.Of([]byte(channel)), v.Strings())
		}
		do(t, other, "SPUBLISH "+channel+" m", ":1\r\n")
		expect(t, c, message(3, "smessage", channel, bulk("m")))
	}
}

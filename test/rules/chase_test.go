package rules

import (
	"fmt"
	"strings"
	"testing"

	"readthrough/internal/slot"
	"readthrough/test/harness"
)

// unserved has nobody serve the slot of a key, until the returned function is called.
func (w *world) unserved(t testing.TB, key string) (served func()) {
	t.Helper()
	owner, at := w.master(t, key), fmt.Sprint(slot.Of([]byte(key)))
	owner.MustDo(t, "CLUSTER", "DELSLOTS", at)
	return func() {
		t.Helper()
		owner.MustDo(t, "CLUSTER", "ADDSLOTS", at)
	}
}

// refused waits until a master has refused so many commands of a kind more.
func refused(t testing.TB, node *harness.Redis, name string, count int) {
	t.Helper()
	poll(t, func() error {
		if n := rejected(t, node, name); n < count {
			return fmt.Errorf("%s was refused %d times", name, n)
		}
		return nil
	})
}

// rejected is how many commands of a kind a node has refused.
func rejected(t testing.TB, node *harness.Redis, name string) (count int) {
	t.Helper()
	for line := range strings.Lines(node.MustDo(t, "INFO", "commandstats").Str) {
		if _, after, found := strings.Cut(line, "cmdstat_"+name+":"); found {
			_, calls, _ := strings.Cut(after, "rejected_calls=")
			_, _ = fmt.Sscanf(calls, "%d", &count)
		}
	}
	return count
}

// keyOfSlot0 is a key of slot 0.
var keyOfSlot0 = func() string {
	for i := 0; ; i++ {
		if key := fmt.Sprint(i); slot.Of([]byte(key)) == 0 {
			return key
		}
	}
}()

// A sharded channel whose slot nobody serves for a moment is waited for: where it is new, and where it was subscribed to before.
func TestASubscriptionWaitsForItsSlot(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	for _, protocol := range []int{2, 3} {
		channel := fmt.Sprintf("c%d", protocol)
		c, other := w.connect(t), w.connect(t)
		if protocol == 3 {
			c = w.connect3(t)
		}
		owner := w.master(t, channel)
		served := w.unserved(t, channel)
		send(t, c, "SSUBSCRIBE "+channel)
		refused(t, owner, "ssubscribe", rejected(t, owner, "ssubscribe")+3)
		served()
		expect(t, c, message(protocol, "ssubscribe", channel, ":1\r\n"))

		before := rejected(t, owner, "ssubscribe")
		served = w.unserved(t, channel)
		refused(t, owner, "ssubscribe", before+3)
		served()
		poll(t, func() error { return w.subscribed(t, channel) })
		other.MustDo(t, "SPUBLISH", channel, "text")
		expect(t, c, message(protocol, "smessage", channel, bulk("text")))
		send(t, c, "SUNSUBSCRIBE "+channel)
		expect(t, c, message(protocol, "sunsubscribe", channel, ":0\r\n"))
		do(t, c, "PING", "+PONG\r\n")
	}
}

// A channel that is left while its slot is not served is left for good; one that is not, is not.
func TestAChannelIsLeftWhileItsSlotIsNotServed(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c, other := w.connect3(t), w.connect(t)
	owner := w.master(t, "c")
	send(t, c, "SSUBSCRIBE c {c}2")
	expect(t, c, message(3, "ssubscribe", "c", ":1\r\n"), message(3, "ssubscribe", "{c}2", ":2\r\n"))
	served := w.unserved(t, "c")
	refused(t, owner, "ssubscribe", 8)
	send(t, c, "SUNSUBSCRIBE c")
	refused(t, owner, "sunsubscribe", 2)
	served()
	expect(t, c, message(3, "sunsubscribe", "c", ":1\r\n"))
	poll(t, func() error { return w.subscribed(t, "{c}2") })
	before := len(w.master(t, "c").MustDo(t, "PUBSUB", "SHARDCHANNELS").Elems)
	do(t, other, "SPUBLISH c text", ":0\r\n")
	do(t, other, "SPUBLISH {c}2 text", ":1\r\n")
	expect(t, c, message(3, "smessage", "{c}2", bulk("text")))
	if before != 1 {
		t.Errorf("%d channels are subscribed to", before)
	}
	silent(t, c)
}

// A session whose channel waits for its slot is a subscriber all the same, and one that has so many channels.
func TestAChannelThatWaitsForItsSlotCounts(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	for _, protocol := range []int{2, 3} {
		channel, second := fmt.Sprintf("c%d", protocol), fmt.Sprintf("d%d", protocol)
		c := w.connect(t)
		if protocol == 3 {
			c = w.connect3(t)
		}
		owner := w.master(t, channel)
		send(t, c, "SSUBSCRIBE "+channel)
		expect(t, c, message(protocol, "ssubscribe", channel, ":1\r\n"))
		for _, command := range []string{"SET " + second + " v", "SSUBSCRIBE " + second} {
			before := rejected(t, owner, "ssubscribe")
			served := w.unserved(t, channel)
			refused(t, owner, "ssubscribe", before+3)
			send(t, c, command)
			refused(t, owner, "ssubscribe", rejected(t, owner, "ssubscribe")+1)
			served()
			switch {
			case strings.HasPrefix(command, "SSUBSCRIBE"):
				expect(t, c, message(protocol, "ssubscribe", second, ":2\r\n"))
			case protocol == 3: // which lets a subscriber do anything
				expect(t, c, ok)
			default:
				if got := read(t, c); !strings.HasPrefix(got, "-ERR Can't execute 'set': only ") {
					t.Errorf("%q", got)
				}
			}
			poll(t, func() error { return w.subscribed(t, channel) })
		}
	}
}

// Nodes that each say that the other one serves a slot are not asked as fast as they answer.
func TestRedirectsArePaced(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	owner, other := w.master(t, "c"), w.other(t, "c")
	owner.MustDo(t, "CLUSTER", "SETSLOT", fmt.Sprint(slot.Of([]byte("c"))), "NODE", other.ID())
	for name, commands := range map[string][]string{
		"ssubscribe": {"SSUBSCRIBE c"}, "blpop": {"BLPOP c 0"}, "set": {"MULTI", "SET c v", "EXEC"},
	} {
		c := w.connect3(t)
		before := rejected(t, owner, name) + rejected(t, other, name)
		send(t, c, commands...)
		for range commands {
			read(t, c)
		}
		if n := rejected(t, owner, name) + rejected(t, other, name) - before; n < 4 || n > 60 {
			t.Errorf("%s was said %d times", name, n)
		}
	}
}

// The channels of a session stay together, when another node becomes the one for what has no key.
func TestChannelsStayOnTheirNode(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c, other := w.connect(t), w.connect(t)
	send(t, c, "SUBSCRIBE a")
	expect(t, c, message(2, "subscribe", "a", ":1\r\n"))
	first, err := w.cluster.MasterOf(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var to *harness.Redis
	for _, node := range w.cluster.Nodes() {
		if node != first {
			to = node
		}
	}
	if err := w.cluster.MigrateSlot(t.Context(), 0, to); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		_, _ = other.Do("GET", keyOfSlot0) // by which the change is noticed
		got := make(chan string, 1)
		w.Loop.Post(func() { got <- w.Upstream.Side(0).Nodes()[0].Addr })
		if at := <-got; at != to.Addr() {
			return fmt.Errorf("the first node is %s", at)
		}
		return nil
	})
	send(t, c, "SUBSCRIBE b", "UNSUBSCRIBE a", "UNSUBSCRIBE b", "PING")
	expect(t, c, message(2, "subscribe", "b", ":2\r\n"), message(2, "unsubscribe", "a", ":1\r\n"), message(2, "unsubscribe", "b", ":0\r\n"), "+PONG\r\n")
}

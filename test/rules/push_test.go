package rules

import (
	"fmt"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// kept waits until a relay keeps replies or pushes for a client that wait for a reply before them.
func kept(t testing.TB, other *harness.Conn, id string) {
	t.Helper()
	poll(t, func() error {
		if got := other.MustDo(t, "CLIENT", "LIST", "ID", id); strings.Contains(got, " omem=0 ") {
			return fmt.Errorf("nothing is kept: %s", got)
		}
		return nil
	})
}

// What a node sends by itself, more than is kept for a client, comes before the reply that it owes: they must not wait for each other.
// Here a later reply of another node waits meanwhile, so that what is sent has to stand behind that.
func TestPushesDoNotHoldUpTheReplyBehindThem(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c, other := w.connect3(t), w.connect(t)
	keys := w.keysOfAll(t, "k")
	tag := "{" + keys[0] + "}"
	node := w.master(t, tag)
	const count = 12
	long := strings.Repeat("x", 900<<10)
	do(t, c, "CLIENT TRACKING ON", ok)
	for i := range count {
		do(t, c, fmt.Sprint("GET ", tag, i, long), "_\r\n")
	}
	do(t, c, "GET "+keys[1], "_\r\n")
	id := idOf(t, c)
	writer, err := node.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	for range 3 { // so that the node looks at this connection first when it goes on
		do(t, writer, "PING", "+PONG\r\n")
	}
	if err := node.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Resume() }()
	script := fmt.Sprintf("for i=0,%d do redis.call('set',KEYS[1]..i..string.rep('x',%d),'v') end", count-1, len(long))
	if err := writer.Send(harness.Command("EVAL", script, "1", tag)); err != nil {
		t.Fatal(err)
	}
	send(t, c, "GET "+tag, "GET "+keys[1], "PING")
	kept(t, other, id)
	if err := node.Resume(); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "_\r\n", "_\r\n", "+PONG\r\n")
	for i := range count {
		expect(t, c, ">2\r\n$10\r\ninvalidate\r\n*1\r\n"+bulk(fmt.Sprint(tag, i, long)))
	}
	silent(t, c)
}

// A subscriber with a reply due from a slow node is sent more messages than are kept for it: they come after the reply, and the
// connection that brings them goes on.
func TestMessagesBehindASlowReply(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c, other := w.connect3(t), w.connect(t)
	keys := w.keysOfAll(t, "k")
	slow := w.master(t, keys[0])
	channel := "{" + keys[1] + "}c"
	send(t, c, "SSUBSCRIBE "+channel)
	expect(t, c, message(3, "ssubscribe", channel, ":1\r\n"))
	do(t, c, "GET "+keys[0], "_\r\n")
	do(t, c, "GET "+keys[2], "_\r\n")
	id := idOf(t, c)
	if err := slow.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Resume() }()
	send(t, c, "GET "+keys[0], "GET "+keys[2]) // the second one is answered, and messages wait behind it
	kept(t, other, id)
	text := strings.Repeat("x", 1<<20)
	publisher := harness.NewConn(t, w.master(t, keys[1]).Addr())
	const count = 24
	for range count {
		do(t, publisher, "SPUBLISH "+channel+" "+text, ":1\r\n")
	}
	if err := slow.Resume(); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "_\r\n", "_\r\n")
	for range count {
		expect(t, c, message(3, "smessage", channel, bulk(text)))
	}
	do(t, publisher, "SPUBLISH "+channel+" last", ":1\r\n")
	expect(t, c, message(3, "smessage", channel, bulk("last")))
	silent(t, c)
}

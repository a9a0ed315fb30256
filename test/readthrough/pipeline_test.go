package readthrough

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// TestBehindMiss holds that what a client sends behind a miss that is being loaded is answered after it, also where it changes
// the client's connections to Redis.
func TestBehindMiss(t *testing.T) {
	w := newWorld(t)
	large := strings.Repeat("v", 2<<20)
	for i, behind := range [][][2]string{ // command and reply
		{{"AUTH default x", "+OK\r\n"}, {"ACL WHOAMI", bulk("default")}},
		{{"SELECT 0", "+OK\r\n"}, {"GET nothing", "$-1\r\n"}},
		{{"RESET", "+RESET\r\n"}, {"PING", "+PONG\r\n"}},
		{{"SET large " + large, "+OK\r\n"}, {"STRLEN large", ":2097152\r\n"}, {"GET large", bulk(large)}},
		{{"BLPOP nothing 0.01", "*-1\r\n"}, {"PING", "+PONG\r\n"}},
		{{"MULTI", "+OK\r\n"}, {"SET {t}k v", "+QUEUED\r\n"}, {"EXEC", "*1\r\n+OK\r\n"}, {"GET {t}k", bulk("v")}},
		{{"GET user:7", bulk(user7)}, {"GET nothing", "$-1\r\n"}},
		{{"QUIT", "+OK\r\n"}},
	} {
		c := harness.NewConn(t, w.sidecar.Addr())
		what := fmt.Sprint("n", i)
		raw := harness.Command("GET", "slow:"+what)
		want := []string{bulk(what)}
		for _, b := range behind {
			raw = append(raw, harness.Command(strings.Split(b[0], " ")...)...)
			want = append(want, b[1])
		}
		if err := c.Send(raw); err != nil {
			t.Fatal(err)
		}
		for j, reply := range want {
			got, err := c.ReadReply()
			if err != nil {
				t.Fatalf("%.50q, reply %d: %v", behind[0][0], j, err)
			}
			if string(got) != reply {
				t.Errorf("%.50q, reply %d: %.100q, want %.100q", behind[0][0], j, got, reply)
			}
		}
	}
}

// TestHalfClose holds that a client that has said all it has to say is still answered.
func TestHalfClose(t *testing.T) {
	w := newWorld(t)
	c := harness.NewConn(t, w.sidecar.Addr())
	if err := c.Send(append(harness.Command("GET", "slow:half"), harness.Command("PING")...)); err != nil {
		t.Fatal(err)
	}
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{bulk("half"), "+PONG\r\n"} {
		if got, err := c.ReadReply(); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if _, err := c.ReadReply(); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end", err)
	}
}

// TestColdPipeline holds that a pipeline of more misses than loads may wait is answered in order, each by its value or by an
// error that says so.
func TestColdPipeline(t *testing.T) {
	w := newWorld(t)
	c := harness.NewConn(t, w.sidecar.Addr())
	const many = 20_000
	var raw []byte
	for i := range many {
		raw = append(raw, harness.Command("GET", fmt.Sprintf("{user:%d}:name", 1+i%2000))...)
		raw = append(raw, harness.Command("ECHO", fmt.Sprint(i))...)
	}
	sent := make(chan error, 1)
	go func() { sent <- c.Send(raw) }()
	values := 0
	for i := range many {
		got, err := c.ReadReply()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case string(got) == bulk(fmt.Sprint("user ", 1+i%2000)):
			values++
		case !strings.HasPrefix(string(got), "-ORIGINBUSY map tagged: "):
			t.Fatalf("reply %d: %q", i, got)
		}
		if got, err = c.ReadReply(); err != nil || string(got) != bulk(fmt.Sprint(i)) {
			t.Fatalf("reply %d: %q, %v", i, got, err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if values < 1024 { // so many loads may wait
		t.Errorf("only %d of %d were answered by a value", values, many)
	}
}

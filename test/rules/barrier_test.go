package rules

import (
	"strings"
	"testing"

	"readthrough/test/harness"
)

// What a client has sent before it changes to another connection is done before: the shared connection is slow here, and the others
// are not. And the other way round.
func TestNoCommandOvertakesAnotherWhereTheConnectionChanges(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user app on >secret ~* &* +@all"}})
	r := newRelay(t, nil, newLaggard(t, redis.Addr()))
	large := strings.Repeat("x", 2<<20)
	for name, test := range map[string]struct {
		protocol int
		commands []string
		want     []string
	}{
		"WATCH":          {2, []string{"SET k late", "WATCH k", "MULTI", "GET k", "EXEC"}, []string{"+OK\r\n", "+OK\r\n", "+OK\r\n", "+QUEUED\r\n", "*1\r\n$4\r\nlate\r\n"}},
		"MULTI":          {2, []string{"SET k late", "MULTI", "GET k", "EXEC"}, []string{"+OK\r\n", "+OK\r\n", "+QUEUED\r\n", "*1\r\n$4\r\nlate\r\n"}},
		"EXEC":           {2, []string{"MULTI", "SET k late", "EXEC", "GET k"}, []string{"+OK\r\n", "+QUEUED\r\n", "*1\r\n+OK\r\n", "$4\r\nlate\r\n"}},
		"UNWATCH":        {2, []string{"WATCH k", "MULTI", "SET k late", "DISCARD", "SET k late", "UNWATCH", "GET k"}, []string{"+OK\r\n", "+OK\r\n", "+QUEUED\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n", "$4\r\nlate\r\n"}},
		"before BLPOP":   {2, []string{"SET k late", "BLPOP k 0.2"}, []string{"+OK\r\n", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"}},
		"after BLMOVE":   {2, []string{"RPUSH l 1", "BLMOVE l k LEFT LEFT 0", "LLEN k"}, []string{":1\r\n", "$1\r\n1\r\n", ":1\r\n"}},
		"SUBSCRIBE":      {3, []string{"PUBLISH c late", "SUBSCRIBE c", "PING"}, []string{":0\r\n", ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", "+PONG\r\n"}},
		"HELLO":          {2, []string{"SET k late", "HELLO 3 AUTH app secret", "GET k"}, []string{"+OK\r\n", "%", "$4\r\nlate\r\n"}},
		"HELLO alone":    {2, []string{"SET k late", "HELLO 3", "GET k"}, []string{"+OK\r\n", "%", "$4\r\nlate\r\n"}},
		"AUTH":           {2, []string{"SET k late", "AUTH app secret", "GET k"}, []string{"+OK\r\n", "+OK\r\n", "$4\r\nlate\r\n"}},
		"SELECT":         {2, []string{"SET k late", "SELECT 1", "SWAPDB 0 1", "GET k"}, []string{"+OK\r\n", "+OK\r\n", "+OK\r\n", "$4\r\nlate\r\n"}},
		"RESET":          {3, []string{"SET k late", "RESET", "GET k"}, []string{"+OK\r\n", "+RESET\r\n", "$4\r\nlate\r\n"}},
		"TRACKING":       {3, []string{"SET k late", "CLIENT TRACKING ON", "GET k"}, []string{"+OK\r\n", "+OK\r\n", "$4\r\nlate\r\n"}},
		"a large APPEND": {2, []string{"SET k late", "APPEND k " + large, "STRLEN k"}, []string{"+OK\r\n", ":2097156\r\n", ":2097156\r\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			redis.MustDo(t, "FLUSHALL")
			c := r.connect(t)
			if test.protocol == 3 {
				c = r.connect3(t)
			}
			send(t, c, test.commands...)
			for i, want := range test.want {
				got, err := c.ReadReply()
				if err != nil || string(got) != want && (want != "%" || got[0] != '%') {
					t.Fatalf("%.40s: %.300q, %v, want %q", test.commands[i], got, err, want)
				}
			}
		})
	}
}

// MONITOR does not show what its client has sent before.
func TestMonitorBeginsWhereItStands(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, newLaggard(t, redis.Addr()))
	c := r.connect(t)
	send(t, c, "SET k late", "MONITOR")
	expect(t, c, "+OK\r\n", "+OK\r\n")
	do(t, r.connect(t), "SET k end", "+OK\r\n")
	line, err := c.ReadReply()
	if err != nil || !strings.HasSuffix(string(line), `"SET" "k" "end"`+"\r\n") {
		t.Fatalf("the first line is %q, %v", line, err)
	}
}

// A command behind a blocking one is held until that is answered.
func TestNothingRunsBehindABlockingCommand(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	c, other := r.connect(t), r.connect(t)
	send(t, c, "BLPOP queue 0", "SET behind 1", "XREAD BLOCK 0 STREAMS stream $", "INCR behind")
	await(t, redis, "flags=b", 1)
	do(t, other, "EXISTS behind", ":0\r\n")
	do(t, other, "RPUSH queue x", ":1\r\n")
	expect(t, c, "*2\r\n$5\r\nqueue\r\n$1\r\nx\r\n", "+OK\r\n")
	await(t, redis, "cmd=xread", 1)
	do(t, other, "GET behind", "$1\r\n1\r\n")
	do(t, other, "XADD stream 1-1 f v", "$3\r\n1-1\r\n")
	expect(t, c, "*1\r\n*2\r\n$6\r\nstream\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n", ":2\r\n")
}

// No line of MONITOR comes before its answer, whichever node is first.
func TestMonitorIsAnsweredFirst(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	masters, err := w.cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := w.master(t, keyOfSlot0)
	for _, node := range masters {
		c := w.connect(t)
		if err := first.Pause(); err != nil {
			t.Fatal(err)
		}
		send(t, c, "MONITOR")
		if node != first {
			await(t, node, "flags=O", 1)
			node.MustDo(t, "ECHO", "early")
		}
		if err := first.Resume(); err != nil {
			t.Fatal(err)
		}
		expect(t, c, ok)
		node.MustDo(t, "ECHO", "late")
		untilIn(t, c, `"late"`)
		_ = c.Close()
		await(t, node, "flags=O", 0)
	}
}

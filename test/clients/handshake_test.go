package clients

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// TestHandshakes plays how newer clients begin, whose programs these tests do not run: each line of a script is what the client
// sends at once, and what it must be able to read. Between < and > stands a regular expression, since some answers are never
// the same. CLIENT SETINFO and CLIENT MAINT_NOTIFICATIONS are newer than Redis 7.0; the clients go on without them.
func TestHandshakes(t *testing.T) {
	const (
		anything = `<(?s:.*)>`
		maybe    = `<(-ERR .*|\+OK)>` + "\r\n"
	)
	hello3 := "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n<.*>\r\n<.*>\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:<[0-9]+>\r\n" +
		"$4\r\nmode\r\n<.*>\r\n<.*>\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
	hello2 := strings.NewReplacer("%7", "*14", ":3\r\n", ":2\r\n").Replace(hello3)

	type step struct{ send, want string }
	clients := map[string][]step{
		"redis-py 5, RESP2": {
			{"CLIENT SETINFO LIB-NAME redis-py; CLIENT SETINFO LIB-VER 5.0.8", maybe + maybe},
			{"PING", "+PONG\r\n"},
		},
		"redis-py 5, RESP3 with a user, a name and a database": {
			{"HELLO 3 AUTH app app-secret", hello3},
			{"CLIENT SETNAME tester", "+OK\r\n"},
			{"CLIENT SETINFO LIB-NAME redis-py", maybe},
			{"CLIENT SETINFO LIB-VER 5.0.8", maybe},
			{"SELECT 0", "+OK\r\n"},
			{"GET app:nothing", "_\r\n"},
		},
		"redis-py 6, RESP3, maintenance notifications": {
			{"HELLO 3", hello3},
			{"CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip", maybe},
			{"CLIENT SETINFO LIB-NAME redis-py; CLIENT SETINFO LIB-VER 6.4.0", maybe + maybe},
			{"CLIENT TRACKING ON", "+OK\r\n"},
			{"GET nothing", "_\r\n"},
		},
		"Lettuce 6": {
			{"HELLO 3", hello3},
			{"CLIENT SETINFO lib-name Lettuce; CLIENT SETINFO lib-ver 6.5.0.RELEASE/abcdef0", maybe + maybe},
			{"PING", "+PONG\r\n"},
			{"GET nothing", "_\r\n"},
		},
		"Lettuce 6 with a user and a name": {
			{"HELLO 3 AUTH app app-secret SETNAME tester", hello3},
			{"CLIENT SETINFO lib-name Lettuce; CLIENT SETINFO lib-ver 6.5.0.RELEASE/abcdef0; CLIENT GETNAME", maybe + maybe + "$6\r\ntester\r\n"},
		},
		"Jedis 5": {
			{"CLIENT SETINFO LIB-NAME jedis; CLIENT SETINFO LIB-VER 5.1.0", maybe + maybe},
			{"PING", "+PONG\r\n"},
			{"GET nothing", "$-1\r\n"},
		},
		"Jedis 5 with a user and a name": {
			{"AUTH app app-secret", "+OK\r\n"},
			{"CLIENT SETNAME tester; CLIENT SETINFO LIB-NAME jedis; CLIENT SETINFO LIB-VER 5.1.0; SELECT 0", "+OK\r\n" + maybe + maybe + "+OK\r\n"},
			{"CLIENT GETNAME", "$6\r\ntester\r\n"},
		},
		"Jedis 5, RESP3": {
			{"HELLO 3 AUTH app app-secret", hello3},
			{"CLIENT SETINFO LIB-NAME jedis; CLIENT SETINFO LIB-VER 5.1.0", maybe + maybe},
			{"GET app:nothing", "_\r\n"},
		},
		"an explicit RESP2": {
			{"HELLO 2", hello2},
			{"GET nothing", "$-1\r\n"},
		},
	}
	ofCluster := map[string][]step{
		"redis-py 5, RedisCluster":          {{"CLUSTER SLOTS", "ONE"}, {"COMMAND", anything}, {"READONLY", "+OK\r\n"}},
		"Jedis 5, JedisCluster":             {{"CLUSTER SLOTS", "ONE"}},
		"Lettuce 6, RedisClusterClient":     {{"HELLO 3", hello3}, {"CLUSTER MYID", "$40\r\n<[0-9a-f]{40}>\r\n"}, {"CLUSTER NODES; INFO", "NODES" + anything}},
		"Lettuce 7, RedisClusterClient":     {{"HELLO 3", hello3}, {"CLUSTER NODES", "NODES"}},
		"a client that asks CLUSTER SHARDS": {{"CLUSTER SHARDS", "*1\r\n*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:16383\r\n" + anything}},
	}
	onEach(t, func(t *testing.T, to target) {
		scripts := clients
		for _, more := range []bool{false, true} {
			if more && !to.cluster {
				break
			}
			if more {
				scripts = ofCluster
			}
			for name, script := range scripts {
				t.Run(name, func(t *testing.T) {
					c := harness.NewConn(t, to.addr())
					for _, s := range script {
						want := strings.NewReplacer(
							"ONE", fmt.Sprintf("*1\r\n*3\r\n:0\r\n:16383\r\n*4\r\n$%d\r\n%s\r\n:%s\r\n$40\r\n<[0-9a-f]{40}>\r\n*0\r\n", len(to.host), to.host, to.port),
							"NODES", fmt.Sprintf("=<[0-9]+>\r\ntxt:<[0-9a-f]{40}> %s:%s@%s myself,master - 0 0 1 connected 0-16383\n\r\n", to.host, to.port, to.port),
						).Replace(s.want)
						got, err := exchange(c, s.send)
						if err != nil {
							t.Fatal(err)
						}
						if !pattern(want).MatchString(got) {
							t.Fatalf("%s is answered\n%.1000q, want\n%q", s.send, got, want)
						}
					}
				})
			}
		}
	})
}

// exchange sends commands that are separated by semicolons, at once, and returns their replies.
func exchange(c *harness.Conn, commands string) (string, error) {
	var raw []byte
	list := strings.Split(commands, "; ")
	for _, command := range list {
		raw = append(raw, harness.Command(strings.Split(command, " ")...)...)
	}
	err := c.Send(raw)
	var replies strings.Builder
	for range list {
		reply, err1 := c.ReadReply()
		err = errors.Join(err, err1)
		replies.Write(reply)
	}
	return replies.String(), err
}

// pattern is a text with regular expressions between < and >.
func pattern(text string) *regexp.Regexp {
	var b strings.Builder
	for i, part := range regexp.MustCompile(`[<>]`).Split(text, -1) {
		if i%2 == 0 {
			part = regexp.QuoteMeta(part)
		}
		b.WriteString(part)
	}
	return regexp.MustCompile(`\A` + b.String() + `\z`)
}

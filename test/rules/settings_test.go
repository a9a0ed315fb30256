package rules

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	relayed "readthrough/internal/relay"
	"readthrough/test/harness"
)

// A setting may change while the session has connections of its own in use. Those of its subscriptions and of MONITOR stay; a WATCH
// counts as changed.
func TestSettingsChangeWhileConnectionsAreInUse(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	other := r.connect(t)
	for _, setting := range []string{"CLIENT NO-EVICT", "CLIENT TRACKING"} {
		for _, turns := range [][]string{{" ON", " OFF"}, {" ON", " ON"}, {" OFF", " ON"}} {
			for _, state := range []string{"SUBSCRIBE a", "MONITOR", "WATCH k"} {
				t.Run(setting+turns[0]+turns[1]+" "+state, func(t *testing.T) {
					c := r.connect3(t)
					do(t, c, setting+turns[0], ok)
					send(t, c, state)
					read(t, c)
					send(t, c, setting+turns[1])
					until(t, c, ok)
					switch {
					case strings.HasPrefix(state, "SUBSCRIBE"):
						do(t, other, "PUBLISH a text", ":1\r\n")
						until(t, c, message(3, "message", "a", bulk("text")))
					case state == "MONITOR":
						do(t, other, "ECHO marked", bulk("marked"))
						untilIn(t, c, `"marked"`)
					default:
						do(t, c, "MULTI", ok)
						send(t, c, "PING")
						until(t, c, "+QUEUED\r\n")
						send(t, c, "EXEC")
						until(t, c, "_\r\n")
					}
					send(t, c, "PING")
					until(t, c, "+PONG\r\n")
				})
			}
		}
	}
	do(t, other, "PING", "+PONG\r\n")
}

// To turn off what is off already changes no connection: WATCH watches on.
func TestSettingsThatAreOffAlreadyChangeNothing(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	other := r.connect(t)
	for _, setting := range []string{"CLIENT NO-EVICT OFF", "CLIENT TRACKING OFF"} {
		c := r.connect(t)
		send(t, c, "WATCH k", setting, "MULTI", "SET k mine", "EXEC")
		expect(t, c, ok, ok, ok, queued, "*1\r\n+OK\r\n")
		send(t, c, "WATCH k", setting)
		expect(t, c, ok, ok)
		do(t, other, "SET k theirs", ok)
		send(t, c, "MULTI", "SET k mine", "EXEC")
		expect(t, c, ok, queued, "*-1\r\n")
	}
}

// A client may leave while Redis judges what it wants: no connection stays behind, not that on which it was to be judged, nor those
// that would have been told in the place of the client's own.
func TestSettingsLeaveNoConnectionsBehind(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	told := r.connect(t)
	for name, setting := range map[string]string{"NO-EVICT": "CLIENT NO-EVICT ON", "REDIRECT": "CLIENT TRACKING ON REDIRECT " + idOf(t, told)} {
		t.Run(name, func(t *testing.T) {
			wires := r.Stats(t).Wires
			for i := range 100 {
				c := r.connect(t)
				send(t, c, setting)
				for range i % 10 { // it takes longer and longer to leave
					do(t, told, "PING", "+PONG\r\n")
				}
				_ = c.Conn.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
			poll(t, func() error {
				if n := r.Stats(t).Wires; n != wires {
					return fmt.Errorf("%d wires, want %d", n, wires)
				}
				return nil
			})
		})
	}
	await(t, redis, "cmd=client", 1) // the test's own
}

// A session that goes on over other connections than those over which it has read is told of no change to that any more, and so to keep
// nothing of it.
func TestTrackedKeysAreForgottenWithTheirConnections(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user app on >secret ~* &* +@all"}})
	r := newRelay(t, nil, redis.Addr())
	const all = ">2\r\n$10\r\ninvalidate\r\n_\r\n"
	for _, options := range []string{"", " BCAST", " NOLOOP"} {
		for command, reply := range map[string]string{
			"AUTH app secret": ok, "SELECT 1": ok, "CLIENT TRACKING ON" + options: ok, "CLIENT NO-EVICT ON": ok,
			"HELLO 3 AUTH app secret": "%7\r\n", "HELLO 2": "*14\r\n",
		} {
			t.Run(command+options, func(t *testing.T) {
				c := r.connect3(t)
				do(t, c, "SET k v", ok)
				do(t, c, "CLIENT TRACKING ON"+options, ok)
				do(t, c, "GET k", bulk("v"))
				send(t, c, command)
				expect(t, c, all)
				if got := read(t, c); !strings.HasPrefix(got, reply) {
					t.Fatalf("%q", got)
				}
			})
		}
		t.Run("the same again"+options, func(t *testing.T) { // which changes no connection
			c := r.connect3(t)
			do(t, c, "CLIENT TRACKING ON"+options, ok)
			send(t, c, "HELLO 3")
			if got := read(t, c); got[0] != '%' {
				t.Fatalf("%q", got)
			}
		})
	}
	t.Run("redirected", func(t *testing.T) {
		told, c := r.connect3(t), r.connect(t)
		do(t, c, "CLIENT TRACKING ON REDIRECT "+idOf(t, told), ok)
		do(t, c, "GET k", bulk("v"))
		do(t, c, "SELECT 1", ok)
		expect(t, told, all)
	})
	t.Run("redirected over RESP2", func(t *testing.T) {
		told, c := r.connect(t), r.connect(t)
		id := idOf(t, told)
		send(t, told, "SUBSCRIBE __redis__:invalidate")
		read(t, told)
		do(t, c, "CLIENT TRACKING ON REDIRECT "+id, ok)
		do(t, c, "GET k", bulk("v"))
		do(t, c, "SELECT 1", ok)
		expect(t, told, message(2, "message", "__redis__:invalidate", "$-1\r\n"))
	})
}

// A client that reads slowly is told of changes to what it has read, over the connection that waited for it.
func TestSlowClientsAreToldOfChanges(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	other, c := r.connect(t), r.connect3(t)
	text := strings.Repeat("x", 1<<20)
	other.MustDo(t, "SET", "large", text)
	do(t, c, "CLIENT TRACKING ON", ok)
	do(t, c, "GET k", "_\r\n")
	const count = 48 // of these, not all fit in the sockets
	for range count {
		send(t, c, "GET large")
	}
	poll(t, func() error {
		for line := range strings.Lines(redis.MustDo(t, "CLIENT", "LIST").Str) {
			if strings.Contains(line, " flags=t ") && !strings.Contains(line, " oll=0 ") {
				return nil
			}
		}
		return errors.New("nothing waits for the client")
	})
	for range count {
		expect(t, c, bulk(text))
	}
	do(t, c, "GET none", "_\r\n")
	do(t, other, "SET k v", ok)
	expect(t, c, ">2\r\n$10\r\ninvalidate\r\n*1\r\n"+bulk("k"))
}

// CLIENT CACHING is about the next command, whichever way that goes, and about no other.
func TestCachingIsAboutTheNextCommand(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	keys := w.keysOfAll(t, "k")
	other, c := w.connect(t), w.connect3(t)
	do(t, c, "CLIENT TRACKING ON OPTIN", ok)
	do(t, c, "CLIENT CACHING YES", ok)
	do(t, c, "MGET "+keys[0]+" "+keys[1], "*2\r\n_\r\n_\r\n")
	for _, key := range keys[:2] {
		do(t, other, "SET "+key+" v", ok)
		expect(t, c, ">2\r\n$10\r\ninvalidate\r\n*1\r\n"+bulk(key))
	}
	for _, between := range []string{"DBSIZE", "BLPOP none 0.01", "MGET " + keys[1] + " " + keys[2], "PUBLISH a b"} {
		do(t, c, "CLIENT CACHING YES", ok)
		send(t, c, between)
		read(t, c)
		do(t, c, "GET "+keys[0], bulk("v"))
		do(t, other, "SET "+keys[0]+" v", ok)
		silent(t, c)
	}
}

// What was read from a master that has become a replica is still told of: the connection to it stays.
func TestTrackedKeysAreToldOfAfterAFailover(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{Replicas: 1})
	key := w.keysOfAll(t, "k")[2]
	other, c := w.connect(t), w.connect3(t)
	do(t, c, "CLIENT TRACKING ON", ok)
	do(t, c, "GET "+key, "_\r\n")
	was := w.master(t, key).Addr()
	w.failOver(t, key)
	poll(t, func() error {
		master := make(chan bool, 1)
		w.Loop.Post(func() {
			master <- slices.ContainsFunc(w.Upstream.Side(0).Nodes(), func(n relayed.Node) bool { return n.Addr == was && n.Slot != relayed.AnyNode })
		})
		do(t, other, "GET "+key, "$-1\r\n") // by which the new one is noticed
		if <-master {
			return errors.New("the old master still counts as one")
		}
		return nil
	})
	do(t, other, "SET "+key+" v", ok)
	expect(t, c, ">2\r\n$10\r\ninvalidate\r\n*1\r\n"+bulk(key))
}

// until reads replies and pushes up to one.
func until(t *testing.T, c *harness.Conn, want string) {
	t.Helper()
	for read(t, c) != want {
	}
}

// untilIn reads replies and pushes up to one that contains a text.
func untilIn(t *testing.T, c *harness.Conn, want string) {
	t.Helper()
	for !strings.Contains(read(t, c), want) {
	}
}

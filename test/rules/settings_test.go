package rules

import (
	"strings"
	"testing"

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

package rules

import (
	"net"
	"strings"
	"testing"
)

// Without Redis every command is an error, also one that needs a connection of its own, and the client stays.
func TestWithoutRedisEveryCommandIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // nobody listens there now
	r := newRelay(t, nil, l.Addr().String())
	for _, command := range []string{
		"GET k", "WATCH k", "BLPOP k 0", "WAIT 1 0", "MONITOR", "CLIENT TRACKING ON", "CLIENT NO-EVICT ON", "AUTH secret", "DBSIZE",
		"MGET a b", "SCAN 0", "SCRIPT KILL", "APPEND k " + strings.Repeat("x", 2<<20),
	} {
		t.Run(command[:min(len(command), 18)], func(t *testing.T) {
			c := r.connect(t)
			send(t, c, command)
			if got := read(t, c); !strings.HasPrefix(got, "-UPSTREAMDOWN ") {
				t.Errorf("%q", got)
			}
			do(t, c, "CLIENT GETNAME", "$-1\r\n")
		})
	}
	c := r.connect(t)
	send(t, c, "MULTI", "SET k v", "EXEC", "MULTI", "DISCARD")
	if got := []string{read(t, c), read(t, c), read(t, c), read(t, c), read(t, c)}; !strings.HasPrefix(got[1], "-UPSTREAMDOWN ") ||
		got[2][0] != '-' || got[3] != ok || got[4] != ok {
		t.Errorf("a transaction: %q", got)
	}
	c = r.connect(t)
	send(t, c, "SUBSCRIBE c")
	if got, err := c.ReadReply(); err == nil && got[0] != '-' {
		t.Errorf("SUBSCRIBE: %q", got)
	}
}

package commands

import (
	"strings"
	"testing"

	"readthrough/test/harness"
)

func denied(name string) string {
	return "-NOPERM " + name + " is denied by the configuration of the sidecar, Readthrough (deny)\r\n"
}

const abort = "-EXECABORT Transaction discarded because of previous errors.\r\n"

// TestDeny holds that what is denied never reaches Redis, however it is written, and that the rest does.
func TestDeny(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	sidecar := newSidecar(t, []string{redis.Addr()}, `deny: [FlushAll, "config|SET", script, subscribe, set, nonesuch]`)
	inBoth(t, func(t *testing.T, protocol int) {
		c := newConn(t, sidecar.Addr(), protocol)
		redis.MustDo(t, "SET", "k", "v")
		for _, name := range []string{"FLUSHALL", "flushall", "fLuShAlL"} {
			want(t, c, denied("FLUSHALL"), name)
		}
		want(t, c, denied("CONFIG SET"), "config", "Set", "maxmemory", "1")
		want(t, c, denied("SCRIPT LOAD"), "SCRIPT", "LOAD", "return 1")
		want(t, c, denied("SCRIPT"), "SCRIPT")
		want(t, c, denied("SUBSCRIBE"), "SUBSCRIBE", "c")
		want(t, c, denied("NONESUCH"), "NoneSuch", "a")
		want(t, c, denied("SET"), "SET", "k") // the arity is Redis's affair, and does not get there
		want(t, c, denied("SET"), "SET", "k", strings.Repeat("v", 2<<20))
		want(t, c, "+PONG\r\n", "PING")
		want(t, c, "$1\r\nv\r\n", "GET", "k")
		if reply := c.MustDo(t, "CONFIG", "GET", "maxmemory"); strings.HasPrefix(reply, "-") || !strings.Contains(reply, "maxmemory") {
			t.Errorf("CONFIG GET, which nobody denies: %q", reply)
		}
		want(t, c, "-ERR unknown command 'NoneSuch2', with args beginning with: 'a' \r\n", "NoneSuch2", "a")
	})
}

// TestDenyInTransaction holds that a denied command aborts its transaction, as Redis's NOPERM does, also where it comes first or
// when something was queued before it.
func TestDenyInTransaction(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	sidecar := newSidecar(t, []string{redis.Addr()}, "deny: [flushall]")
	inBoth(t, func(t *testing.T, protocol int) {
		c := newConn(t, sidecar.Addr(), protocol)
		for _, before := range [][]string{nil, {"SET", "k", "v"}} {
			redis.MustDo(t, "DEL", "k")
			want(t, c, "+OK\r\n", "MULTI")
			if before != nil {
				want(t, c, "+QUEUED\r\n", before...)
			}
			want(t, c, denied("FLUSHALL"), "FLUSHALL")
			want(t, c, "+QUEUED\r\n", "SET", "k", "w")
			want(t, c, abort, "EXEC")
			if v := redis.MustDo(t, "EXISTS", "k"); v.Str != "0" {
				t.Error("a transaction with a denied command has run")
			}
		}
		want(t, c, "+OK\r\n", "MULTI")
		want(t, c, "+QUEUED\r\n", "GET", "k")
		if got := c.MustDo(t, "EXEC"); !strings.HasPrefix(got, "*1\r\n") {
			t.Errorf("the next transaction: %q", got)
		}
	})
}

// TestDenyOrder holds that refusals keep their place among the replies of a pipeline.
func TestDenyOrder(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	sidecar := newSidecar(t, cluster.Addrs(), "deny: [flushall]")
	c := newConn(t, sidecar.Addr(), 2)
	var raw []byte
	var replies []string
	for range 100 {
		raw = append(raw, harness.Command("INCRBY", "k", "0")...)
		raw = append(raw, harness.Command("FLUSHALL")...)
		raw = append(raw, harness.Command("ECHO", "e")...)
		replies = append(replies, ":0\r\n", denied("FLUSHALL"), "$1\r\ne\r\n")
	}
	if err := c.Send(raw); err != nil {
		t.Fatal(err)
	}
	for i, want := range replies {
		if got, err := c.ReadReply(); err != nil || string(got) != want {
			t.Fatalf("reply %d: %q, %v, want %q", i, got, err, want)
		}
	}
}

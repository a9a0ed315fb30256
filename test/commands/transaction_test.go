package commands

import (
	"testing"

	"readthrough/test/harness"
)

// TestTransactionOfItsUser holds that a client's own user decides whether it may use MULTI, and that where it may not, nothing is taken for
// queued that is not.
func TestTransactionOfItsUser(t *testing.T) {
	users := []string{"user may on >secret ~* +@all", "user not on >secret ~* +@all -multi"}
	cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: users}})
	sidecar := newSidecar(t, cluster.Addrs())
	inBoth(t, func(t *testing.T, protocol int) {
		c := newConn(t, sidecar.Addr(), protocol)
		want(t, c, "+OK\r\n", "AUTH", "not", "secret")
		want(t, c, "-NOPERM this user has no permissions to run the 'multi' command\r\n", "MULTI")
		want(t, c, "+OK\r\n", "SET", "a", "1")
		want(t, c, "-ERR EXEC without MULTI\r\n", "EXEC")

		want(t, c, "+OK\r\n", "AUTH", "may", "secret")
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} { // of all masters, and MULTI went to one
			want(t, c, "+OK\r\n", "MULTI")
			want(t, c, "-ERR MULTI calls can not be nested\r\n", "MULTI")
			want(t, c, "+QUEUED\r\n", "PING")
			want(t, c, "+QUEUED\r\n", "SET", key, "2")
			want(t, c, "+QUEUED\r\n", "GET", key)
			want(t, c, "*3\r\n+PONG\r\n+OK\r\n$1\r\n2\r\n", "EXEC")
		}
		want(t, c, "+OK\r\n", "MULTI")
		want(t, c, "*0\r\n", "EXEC")
		want(t, c, "+OK\r\n", "MULTI")
		want(t, c, "+OK\r\n", "DISCARD")
		want(t, c, "$1\r\n2\r\n", "GET", "a")
	})
}

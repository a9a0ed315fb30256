package commands

import (
	"fmt"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// read fails where the next thing that a client is told is not what it should be.
func read(t *testing.T, c *harness.Conn, want string) {
	t.Helper()
	if got, err := c.ReadReply(); err != nil || string(got) != want {
		t.Errorf("%.300q, %v, want %q", got, err, want)
	}
}

// TestTrackingRedirected holds that what one client reads is invalidated to another, as in Redis and over any mix of protocols, by
// each of several masters; and that it ends with CLIENT TRACKING OFF and with either of the clients.
func TestTrackingRedirected(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	sidecar := newSidecar(t, cluster.Addrs())
	idle := connections(t, cluster)
	for _, to := range []int{2, 3} {
		for _, from := range []int{2, 3} {
			t.Run(fmt.Sprintf("RESP%d to RESP%d", from, to), func(t *testing.T) {
				reader, told, writer := newConn(t, sidecar.Addr(), from), newConn(t, sidecar.Addr(), to), newConn(t, sidecar.Addr(), 2)
				id := strings.Trim(told.MustDo(t, "CLIENT", "ID"), ":\r\n")
				message := func(key string) string {
					return fmt.Sprintf(">2\r\n$10\r\ninvalidate\r\n*1\r\n$%d\r\n%s\r\n", len(key), key)
				}
				if to == 2 {
					told.MustDo(t, "SUBSCRIBE", "__redis__:invalidate")
					message = func(key string) string {
						return fmt.Sprintf("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$%d\r\n%s\r\n", len(key), key)
					}
				}
				want(t, reader, "+OK\r\n", "CLIENT", "TRACKING", "ON", "REDIRECT", id)
				want(t, reader, ":"+id+"\r\n", "CLIENT", "GETREDIR")
				for _, key := range []string{"a", "b", "c", "d", "e", "f"} { // of all masters
					want(t, writer, "+OK\r\n", "SET", key, "1")
					want(t, reader, "$1\r\n1\r\n", "GET", key)
					want(t, writer, "+OK\r\n", "SET", key, "2")
					read(t, told, message(key))
					want(t, reader, "$1\r\n2\r\n", "GET", key) // nothing came between
				}
				want(t, reader, "+OK\r\n", "CLIENT", "TRACKING", "OFF")
				want(t, reader, ":-1\r\n", "CLIENT", "GETREDIR")
				want(t, writer, "+OK\r\n", "SET", "a", "3")

				want(t, reader, "+OK\r\n", "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "p:", "REDIRECT", id)
				want(t, writer, "+OK\r\n", "SET", "p:1", "1")
				read(t, told, message("p:1"))
				if err := told.Close(); err != nil {
					t.Fatal(err)
				}
				want(t, writer, "+OK\r\n", "SET", "p:2", "1")
				if from == 3 {
					read(t, reader, ">2\r\n$21\r\ntracking-redir-broken\r\n:"+id+"\r\n")
					if got := reader.MustDo(t, "CLIENT", "TRACKINGINFO"); !strings.Contains(got, "broken_redirect") {
						t.Errorf("the redirection is broken: %q", got)
					}
				}
				if err := reader.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	// None of the connections to Redis that this took is left.
	err := harness.Poll(t.Context(), func() error {
		if n := connections(t, cluster); n > idle+2*3 { // the shared ones, over each protocol
			return fmt.Errorf("%d connections to Redis, before there were %d", n, idle)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// connections is how many there are to all masters.
func connections(t *testing.T, cluster *harness.Cluster) (n int) {
	for _, node := range cluster.Nodes() {
		n += strings.Count(node.MustDo(t, "CLIENT", "LIST", "TYPE", "normal").Str, "\n")
		n += strings.Count(node.MustDo(t, "CLIENT", "LIST", "TYPE", "pubsub").Str, "\n")
	}
	return n
}

// TestTrackingRedirectedToNobody holds that ids are those of the sidecar's clients, and that what is wrong is told in Redis's words.
func TestTrackingRedirectedToNobody(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	sidecar := newSidecar(t, []string{redis.Addr()})
	direct := harness.NewConn(t, redis.Addr())
	theirs := strings.Trim(direct.MustDo(t, "CLIENT", "ID"), ":\r\n")
	inBoth(t, func(t *testing.T, protocol int) {
		c := newConn(t, sidecar.Addr(), protocol)
		own := strings.Trim(c.MustDo(t, "CLIENT", "ID"), ":\r\n")
		for _, id := range []string{theirs, "0", "-5", "99999999999"} {
			want(t, c, "-ERR The client ID you want redirect to does not exist\r\n", "CLIENT", "TRACKING", "ON", "REDIRECT", id)
		}
		for _, args := range [][]string{{"REDIRECT", "x"}, {"REDIRECT"}, {"REDIRECT", "99999999999999999999"}} {
			args = append([]string{"CLIENT", "TRACKING", "ON"}, args...)
			want(t, c, direct.MustDo(t, args...), args...)
		}
		want(t, c, "-ERR A client can only redirect to a single other client\r\n", "CLIENT", "TRACKING", "ON", "REDIRECT", own, "redirect", own)
		want(t, c, ":-1\r\n", "CLIENT", "GETREDIR")
		want(t, c, "+OK\r\n", "SET", "k", "v")
	})
}

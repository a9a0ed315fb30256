package fanout

import (
	"strings"
	"testing"

	"readthrough/test/harness"
)

// Large replies from several nodes at once wait for each other's turn, and none for ever.
func TestLargeRepliesInOrder(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	c := newConn(t, newSidecar(t, cluster.Addrs()), 2)
	keys := []string{"{a}", "{b}", "{c}", "{d}", "{e}", "{f}"}
	const size = 12 << 20
	for _, key := range keys {
		if got := c.MustDo(t, "SET", key, strings.Repeat(key[1:2], size)); got != "+OK\r\n" {
			t.Fatal(got)
		}
	}
	for range 3 {
		var raw []byte
		for _, key := range keys {
			raw = append(raw, harness.Command("GET", key)...)
		}
		if err := c.Send(raw); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			reply, err := c.ReadReply()
			if err != nil {
				t.Fatal(err)
			}
			if v, err := harness.Decode(reply); err != nil || v.Str != strings.Repeat(key[1:2], size) {
				t.Fatalf("GET %s: %.20q, %v", key, reply, err)
			}
		}
	}
}

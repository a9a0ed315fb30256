package fanout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

// Commands for all nodes reach the replicas, and those for all masters the masters alone.
func TestReplicas(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{Masters: 2, Replicas: 1})
	c := newConn(t, newSidecar(t, cluster.Addrs()), 3)
	setting := func(n *harness.Redis) string {
		return n.MustDo(t, "CONFIG", "GET", "slowlog-max-len").Elems[1].Str
	}
	if got := c.MustDo(t, "CONFIG", "SET", "slowlog-max-len", "77"); got != "+OK\r\n" {
		t.Fatal(got)
	}
	sha := do(t, c, "SCRIPT", "LOAD", script).Str
	if sha != scriptSHA {
		t.Fatalf("SCRIPT LOAD answers %q", sha)
	}
	for _, n := range cluster.Nodes() {
		if got := setting(n); got != "77" {
			t.Errorf("%s has slowlog-max-len %s", n.Addr(), got)
		}
		if got := n.MustDo(t, "SCRIPT", "EXISTS", sha).Elems[0].Str; got != "1" {
			t.Errorf("%s has the script: %s", n.Addr(), got)
		}
	}
	c.MustDo(t, "MSET", "a", "1", "b", "2", "c", "3")
	if got := c.MustDo(t, "DBSIZE"); got != ":3\r\n" {
		t.Errorf("DBSIZE answers %q", got)
	}
	if got := do(t, c, "KEYS", "*").Strings(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"a", "b", "c"}) {
		t.Errorf("KEYS answers %q", got)
	}
}

// While a node does not answer, commands in which it has a part are errors, the other parts are done, and nothing else suffers.
func TestOneMasterDead(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{
		RedisOptions: harness.RedisOptions{Config: []string{"cluster-require-full-coverage no"}},
	})
	c := newConn(t, newSidecar(t, cluster.Addrs()), 2)
	masters, err := cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tags := make([]string, 3) // one of each master
	for i, master := range masters {
		tags[i] = "{" + tagOf(slotOf(t, cluster, master)) + "}"
	}
	live, dead, second := tags[0], tags[1], tags[2]
	c.MustDo(t, "MSET", live, "1", dead, "2", second, "3")
	masters[1].Kill()
	started := time.Now()
	const down = "-UPSTREAM"
	batch := [][]string{
		{"MGET", live, dead, second},
		{"GET", live},
		{"MSET", dead, "x", live, "new"},
		{"DBSIZE"},
		{"KEYS", "*"},
		{"GET", second},
		{"SCRIPT", "LOAD", script},
		{"MGET", live, second},
		{"EXISTS", live, second},
	}
	want := []string{down, "$1\r\n1\r\n", down, down, down, "$1\r\n3\r\n", down, "*2\r\n$3\r\nnew\r\n$1\r\n3\r\n", ":2\r\n"}
	for i, got := range pipelined(t, c, batch) {
		if got != want[i] && (want[i] != down || !strings.HasPrefix(got, down) || !strings.Contains(got, masters[1].Addr())) {
			t.Errorf("%q: %q, want %q", batch[i], got, want[i])
		}
	}
	if waited := time.Since(started); waited > 9*time.Second {
		t.Errorf("that took %s", waited)
	}
	if got := c.MustDo(t, "MGET", live, second); got != want[7] {
		t.Errorf("MGET of live masters: %q", got)
	}
}

// A script that does not end can be killed, although the connection that brought it waits for it.
func TestScriptKill(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	one := harness.NewRedis(t, harness.RedisOptions{})
	for _, addrs := range [][]string{cluster.Addrs(), {one.Addr()}} {
		sidecar := newSidecar(t, addrs)
		for _, protocol := range []int{2, 3} {
			busy, other := newConn(t, sidecar, protocol), newConn(t, sidecar, protocol)
			if got := other.MustDo(t, "CONFIG", "SET", "busy-reply-threshold", "10"); got != "+OK\r\n" {
				t.Fatal(got)
			}
			if got := other.MustDo(t, "SCRIPT", "KILL"); !strings.HasPrefix(got, "-NOTBUSY") {
				t.Errorf("SCRIPT KILL while none runs: %q", got)
			}
			if err := busy.Send(harness.Command("EVAL", "while true do end", "1", "key")); err != nil {
				t.Fatal(err)
			}
			err := harness.Poll(t.Context(), func() error {
				if got := other.MustDo(t, "SCRIPT", "KILL"); got != "+OK\r\n" {
					return fmt.Errorf("SCRIPT KILL: %q", got)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := busy.ReadReply(); err != nil || !strings.Contains(string(got), "killed") {
				t.Errorf("the killed script answers %q, %v", got, err)
			}
		}
	}
}

// A client that leaves in the middle takes nothing with it.
func TestClientLeaves(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	sidecar := newSidecar(t, cluster.Addrs())
	c := newConn(t, sidecar, 2)
	keys := setKeys(t, c, "", 1000)
	mget := append([]string{"MGET"}, slices.Collect(keysOf(keys))...)
	paused := cluster.Nodes()[1]
	if err := paused.Pause(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		leaver, err := harness.Dial(t.Context(), sidecar.Addr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var raw []byte
		for _, args := range [][]string{mget, {"KEYS", "*"}, {"SCAN", "0"}, {"RANDOMKEY"}, {"DBSIZE"}, mget} {
			raw = append(raw, harness.Command(args...)...)
		}
		if err := leaver.Send(raw); err != nil {
			t.Fatal(err)
		}
		if err := leaver.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := paused.Resume(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if v := do(t, c, mget...); len(v.Elems) != len(keys) || v.Elems[0].Str != "value" {
			t.Fatalf("MGET: %d elements", len(v.Elems))
		}
		if got := len(do(t, c, "KEYS", "*").Elems); got != len(keys) {
			t.Fatalf("KEYS: %d elements", got)
		}
	}
}

package fanout

import (
	"fmt"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// Replies that are many times as large as what the sidecar may hold pass through it, also when one node is late.
func TestMemory(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{
		RedisOptions: harness.RedisOptions{Config: []string{"enable-debug-command yes"}},
	})
	sidecar := newSidecarWith(t, harness.SidecarOptions{Plain: true}, cluster.Addrs())
	c, other := newConn(t, sidecar, 2), newConn(t, sidecar, 2)
	bounded := func(what string) {
		t.Helper()
		if rss, err := sidecar.RSS(); err != nil || rss > 100<<20 {
			t.Errorf("after %s the sidecar has %d MiB, %v", what, rss>>20, err)
		}
	}

	const keysOfNode = 200_000
	for i, n := range cluster.Nodes() {
		n.MustDo(t, "DEBUG", "POPULATE", fmt.Sprint(keysOfNode), fmt.Sprintf("a:key:with:a:name:%d", i))
	}
	for range 2 {
		if got := len(do(t, c, "KEYS", "*").Elems); got != 3*keysOfNode {
			t.Fatalf("KEYS: %d elements", got)
		}
		bounded("KEYS")
	}

	const values = 100 // of 1 MiB
	mget := []string{"MGET"}
	var live string // a key of a node that is not paused
	paused := cluster.Nodes()[1]
	for i := range values {
		key := fmt.Sprint("big", i)
		mget = append(mget, key)
		if got := c.MustDo(t, "SET", key, fmt.Sprint(i, strings.Repeat("v", 1<<20))); got != "+OK\r\n" {
			t.Fatal(got)
		}
		at, err := cluster.Slot(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if master, err := cluster.MasterOf(t.Context(), at); err != nil {
			t.Fatal(err)
		} else if master != paused {
			live = key
		}
	}
	for late := range 2 {
		if late == 1 {
			if err := paused.Pause(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Send(harness.Command(mget...)); err != nil {
			t.Fatal(err)
		}
		if late == 1 {
			for range 300 { // which takes a while
				if got := do(t, other, "STRLEN", live); got.Err() != nil {
					t.Fatal(got)
				}
			}
			if err := paused.Resume(); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := c.ReadReply()
		if err != nil {
			t.Fatal(err)
		}
		v, err := harness.Decode(raw)
		if err != nil || len(v.Elems) != values {
			t.Fatalf("%.100q: %v", raw, err)
		}
		for i, e := range v.Elems {
			if !strings.HasPrefix(e.Str, fmt.Sprint(i, "v")) || len(e.Str) < 1<<20 {
				t.Errorf("the value at %d is %.20q, of %d bytes", i, e.Str, len(e.Str))
			}
		}
		bounded("MGET")
	}
}

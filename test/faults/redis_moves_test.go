package faults

import (
	"testing"
	"time"

	"readthrough/test/harness"
)

// All of Redis restarts at other addresses, behind a seed that stays: the seed is asked again. First each node keeps its id, as pods of a
// StatefulSet do; then it is another cluster altogether.
func TestRedisMoves(t *testing.T) {
	t.Parallel()
	w := newRedisWorld(t, harness.ClusterOptions{})
	gate := newRedisGate(t, w.cluster.Addrs()[0])
	s := w.sidecar(t, gate.addr)
	for _, test := range []struct {
		name string
		move func()
	}{
		{"the nodes keep their ids", func() { redisMust(t, w.cluster.Readdress(t.Context())) }},
		{"another cluster", func() {
			for _, n := range w.cluster.Nodes() {
				n.Kill()
			}
			w.cluster = harness.NewCluster(t, harness.ClusterOptions{})
		}},
		{"and once more", func() { redisMust(t, w.cluster.Readdress(t.Context())) }},
	} {
		c := redisConn(t, s)
		redisBack(t, s)
		redisIs(t, c, redisRow(1), "GET", redisItem("b", 1))
		old := w.cluster.Addrs()
		gate.close(true)
		test.move()
		redisIs(t, c, redisRow(2), "GET", redisItem("b", 2)) // by the origin
		target := w.cluster.Addrs()[0]
		gate.target.Store(&target)
		gate.close(false)
		alone, through := w.recovery(t, s)
		t.Logf("%s: from %v to %v; Redis itself serves after %v, the sidecar after %v", test.name, old, w.cluster.Addrs(), alone, through)
		if through > alone+5*time.Second {
			t.Errorf("%s: it took too long", test.name)
		}
		redisIs(t, c, redisRow(3), "GET", redisItem("b", 3))
		if got := w.master(t, "b").MustDo(t, "GET", redisItem("b", 3)).Str; got != "row 3" {
			t.Errorf("%s: Redis has %q", test.name, got)
		}
	}
}

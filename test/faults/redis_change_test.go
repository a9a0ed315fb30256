package faults

import (
	"fmt"
	"testing"
	"time"

	"readthrough/test/harness"
)

// The cluster changes as its operators change it, under load: no client notices.
func TestRedisClusterChanges(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newRedisWorld(t, harness.ClusterOptions{Replicas: 1, RedisOptions: harness.RedisOptions{
		Config: []string{"cluster-allow-replica-migration no"}, // a master without slots stays one
	}})
	s := w.sidecar(t, w.cluster.Addrs()[0])
	crew := w.work(t, s)
	crew.progress(t)
	step := func(name string, f func()) {
		t.Helper()
		before := redisMetric(t, s, `readthrough_upstream_redirects_total{kind="moved"}`) + redisMetric(t, s, `readthrough_upstream_redirects_total{kind="ask"}`)
		began := time.Now()
		f()
		took := time.Since(began)
		crew.progress(t)
		after := redisMetric(t, s, `readthrough_upstream_redirects_total{kind="moved"}`) + redisMetric(t, s, `readthrough_upstream_redirects_total{kind="ask"}`)
		t.Logf("%s: took %v, %v redirects were followed", name, took, after-before)
	}
	var added *harness.Redis
	from := map[string]*harness.Redis{}
	step("a master is added", func() {
		var err error
		added, err = w.cluster.AddMaster(ctx)
		redisMust(t, err)
	})
	step("three slots in use move to it", func() {
		for _, tag := range redisTags {
			from[tag] = w.master(t, tag)
			redisMust(t, w.cluster.MigrateSlot(ctx, w.slot(t, tag), added))
		}
	})
	step("they move back", func() {
		for _, tag := range redisTags {
			redisMust(t, w.cluster.MigrateSlot(ctx, w.slot(t, tag), from[tag]))
		}
	})
	step("it is removed", func() { redisMust(t, w.cluster.RemoveMaster(ctx, added)) })
	step("a replica takes over gracefully", func() {
		replicas, err := w.cluster.ReplicasOf(ctx, w.master(t, "a"))
		redisMust(t, err)
		redisMust(t, w.cluster.Failover(ctx, replicas[0], harness.Coordinated))
	})
	rounds, errors := crew.stop(t, s, false)
	t.Logf("%d pipelines of six commands, %d errors", rounds, errors)
	if errors > 0 {
		t.Errorf("clients were told %d errors", errors)
	}
}

// A master dies, or hangs, and its replica takes over: there are errors for as long as Redis itself cannot serve, and a little longer.
func TestRedisMasterIsReplaced(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		t.Run(map[bool]string{false: "it dies", true: "it hangs"}[hangs], func(t *testing.T) {
			t.Parallel()
			w := newRedisWorld(t, harness.ClusterOptions{Replicas: 1, NodeTimeout: time.Second})
			s := w.sidecar(t)
			crew := w.work(t, s)
			crew.progress(t)
			gone := w.master(t, "a")
			began := time.Now()
			if hangs {
				redisMust(t, gone.Pause())
			} else {
				gone.Kill()
			}
			// Beside it, a client that knows the cluster finds out when Redis itself can serve again.
			var alone time.Duration
			served := make(chan error, 1)
			go func() {
				err := harness.Poll(t.Context(), func() error {
					for _, n := range w.cluster.Nodes() {
						if n == gone {
							continue
						}
						if _, err := n.Do(t.Context(), "SET", "direct:{a}", "v"); err == nil {
							return nil
						}
					}
					return fmt.Errorf("nobody takes it")
				})
				alone = time.Since(began)
				served <- err
			}()
			fresh := redisBack(t, s)
			crew.progress(t)
			all := time.Since(began)
			redisMust(t, <-served)
			rounds, errors := crew.stop(t, s, true)
			t.Logf("Redis itself served again after %v, new clients of the sidecar after %v, all of them after %v; %d errors in %d pipelines, over %v",
				alone, fresh, all, errors, rounds, crew.span)
			if fresh > alone+4*time.Second || all > alone+5*time.Second {
				t.Error("it took the sidecar too long")
			}
			if hangs {
				redisMust(t, gone.Resume())
			}
		})
	}
}

package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"readthrough/test/harness"
	"readthrough/upstream"
)

// Three hash tags that live on three masters, of equal shares of the slots each.
var tags = []string{"a", "b", "c"} // slots 15495, 3300, 7365

// ownerOf is the master of a tag.
func ownerOf(t *testing.T, c *harness.Cluster, tag string) (slot int, owner *harness.Redis) {
	t.Helper()
	slot, err := c.Slot(t.Context(), tag)
	if err != nil {
		t.Fatal(err)
	}
	if owner, err = c.MasterOf(t.Context(), slot); err != nil {
		t.Fatal(err)
	}
	return slot, owner
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A cluster in order gives no reason to warn, however often it is looked at.
func TestAHealthyClusterIsNotComplainedOf(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	core, logged := observer.New(zap.WarnLevel)
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs(), Logger: zap.New(core)})
	slot, owner := ownerOf(t, cluster, "a")
	nodes := cluster.Nodes()
	must(t, cluster.MigrateSlot(t.Context(), slot, nodes[(slices.Index(nodes, owner)+1)%len(nodes)]))
	recovered(t, r.Addr, tags...) // by a redirect, after which the topology is looked at again
	for _, entry := range logged.All() {
		t.Errorf("%s %v", entry.Message, entry.ContextMap())
	}
}

// A slot moves back and forth, key by key, while its keys are written and read: no client notices.
func TestASlotThatMoves(t *testing.T) {
	ctx := t.Context()
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	slot, _ := ownerOf(t, cluster, "a")
	crew := startWorkers(t, r.Addr, false, "a", "b")
	nodes := cluster.Nodes()
	for i := range 6 {
		_, owner := ownerOf(t, cluster, "a")
		to := nodes[(slices.Index(nodes, owner)+1+i%2)%len(nodes)]
		m, err := cluster.BeginMigration(ctx, slot, to)
		must(t, err)
		for {
			// Without a pause: a command with keys on both sides waits until all have moved.
			moved, err := m.MoveKeys(ctx, 1)
			must(t, err)
			if moved == 0 {
				break
			}
		}
		must(t, m.Finish(ctx))
		crew.progress(t, 2)
	}
	crew.stop(t, r.Addr)
	st := r.Stats(t)
	t.Logf("%+v", st)
	if st.Moved == 0 || st.Asked == 0 || st.Retried == 0 {
		t.Errorf("the clients met no MOVED, no ASK or no TRYAGAIN: %+v", st)
	}
}

// A new master gets slots that are in use.
func TestANodeIsAdded(t *testing.T) {
	ctx := t.Context()
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	crew := startWorkers(t, r.Addr, false, tags...)
	added, err := cluster.AddMaster(ctx)
	must(t, err)
	for _, tag := range tags {
		slot, _ := ownerOf(t, cluster, tag)
		must(t, cluster.MigrateSlot(ctx, slot, added))
		crew.progress(t, 2)
	}
	crew.stop(t, r.Addr)
}

// A graceful failover, in which no write is lost by Redis: no client notices.
func TestAGracefulFailover(t *testing.T) {
	ctx := t.Context()
	cluster := harness.NewCluster(t, harness.ClusterOptions{Replicas: 1})
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	crew := startWorkers(t, r.Addr, false, tags...)
	crew.progress(t, 2)
	for range 2 { // there and back
		_, owner := ownerOf(t, cluster, "a")
		replicas, err := cluster.ReplicasOf(ctx, owner)
		must(t, err)
		must(t, cluster.Failover(ctx, replicas[0], harness.Coordinated))
		crew.progress(t, 2)
	}
	crew.stop(t, r.Addr)
}

// A master dies and its replica takes over: errors say what happened, and all recovers by itself.
func TestAMasterDies(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{Replicas: 1, NodeTimeout: time.Second})
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	crew := startWorkers(t, r.Addr, true, tags...)
	crew.progress(t, 20)
	_, owner := ownerOf(t, cluster, "a")
	owner.Kill()
	took := recovered(t, r.Addr, tags...)
	t.Logf("recovered after %v", took)
	if took > 10*time.Second {
		t.Errorf("it took %v to recover", took)
	}
	crew.progress(t, 20)
	crew.stop(t, r.Addr)
	// The dead one comes back as a replica, and becomes the master again.
	must(t, owner.Restart(t.Context()))
	must(t, cluster.WaitAgreed(t.Context()))
	must(t, cluster.Failover(t.Context(), owner, harness.Coordinated))
	recovered(t, r.Addr, tags...)
}

// durable keeps the data of nodes that are restarted.
var durable = harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{"appendonly yes", "appendfsync no"}}}

// Nodes are restarted at their addresses, one and then all of them.
func TestNodesAreRestarted(t *testing.T) {
	ctx := t.Context()
	cluster := harness.NewCluster(t, durable)
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	for _, nodes := range [][]*harness.Redis{cluster.Nodes()[1:2], cluster.Nodes()} {
		for _, n := range nodes {
			n.Kill()
		}
		waiting := make([]*harness.Conn, len(tags))
		for i, tag := range tags {
			waiting[i] = harness.NewConn(t, r.Addr)
			must(t, waiting[i].Send(harness.Command("INCR", "{"+tag+"}:meanwhile")))
		}
		for _, c := range waiting {
			raw, err := c.ReadReply()
			must(t, err)
			if got := string(raw); strings.HasPrefix(got, "-") && !documented(got) {
				t.Fatalf("%q", got)
			}
		}
		for _, n := range nodes {
			must(t, n.Restart(ctx))
		}
		took := recovered(t, r.Addr, tags...)
		t.Logf("recovered %v after %d nodes were restarted", took, len(nodes))
		if took > 10*time.Second {
			t.Errorf("it took %v to recover", took)
		}
	}
	crew := startWorkers(t, r.Addr, false, tags...)
	crew.progress(t, 5)
	crew.stop(t, r.Addr)
}

// Of the seeds only one lives: the others refuse, hang or do not exist.
func TestOneSeedLives(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	dead := newProxy(t, "127.0.0.1:1")
	dead.refuse()
	r := newRelay(t, upstream.Options{Addresses: []string{dead.addr, "no-such-host.invalid:6379", cluster.Addrs()[2]}})
	crew := startWorkers(t, r.Addr, false, tags...)
	crew.progress(t, 5)
	crew.stop(t, r.Addr)
}

func TestAClusterOverIPv6(t *testing.T) {
	if !harness.HasIPv6() {
		t.Log("this machine has no ::1: the addresses are those of IPv4")
	}
	cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{IPv6: harness.HasIPv6()}})
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	crew := startWorkers(t, r.Addr, false, tags...)
	slot, owner := ownerOf(t, cluster, "a")
	nodes := cluster.Nodes()
	must(t, cluster.MigrateSlot(t.Context(), slot, nodes[(slices.Index(nodes, owner)+1)%len(nodes)]))
	crew.progress(t, 5)
	crew.stop(t, r.Addr)
	if st := r.Stats(t); st.Moved == 0 {
		t.Errorf("no redirect was followed: %+v", st)
	}
}

func TestAStandaloneRedis(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, upstream.Options{Addresses: []string{redis.Addr()}})
	crew := startWorkers(t, r.Addr, false, tags...)
	crew.progress(t, 5)
	must(t, redis.Pause()) // for a moment, in which commands wait
	must(t, redis.Resume())
	crew.progress(t, 5)
	crew.stop(t, r.Addr)
}

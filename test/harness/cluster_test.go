package harness

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestClusterServesEverySlot(t *testing.T) {
	cases := map[string]ClusterOptions{
		"one master":    {Masters: 1},
		"three masters": {},
		"replicas":      {Masters: 2, Replicas: 2},
		"TLS": {
			Replicas:     1,
			RedisOptions: RedisOptions{CA: MustCA(t), ClientCerts: true, Password: "sesame"},
		},
	}
	if HasIPv6() {
		cases["IPv6"] = ClusterOptions{Replicas: 1, RedisOptions: RedisOptions{IPv6: true}}
	}
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, o)
			masters, err := c.Masters(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := max(o.Masters, 1)
			if o.Masters == 0 {
				want = 3
			}
			if len(masters) != want || len(c.Nodes()) != want*(1+o.Replicas) {
				t.Errorf("%d masters, %d nodes", len(masters), len(c.Nodes()))
			}
			for i := range 100 {
				key := "k" + strconv.Itoa(i)
				masterOf(t, c, key).MustDo(t, "SET", key, "v")
			}
			for _, m := range masters {
				replicas, err := c.ReplicasOf(t.Context(), m)
				if err != nil || len(replicas) != o.Replicas {
					t.Errorf("%d replicas of %s: %v", len(replicas), m.Addr(), err)
				}
				if v := m.MustDo(t, "WAIT", strconv.Itoa(o.Replicas), "5000"); v.Str != strconv.Itoa(o.Replicas) {
					t.Errorf("WAIT = %s", v.Str)
				}
			}
			// What was needed to form the cluster quickly is gone.
			for _, n := range c.Nodes() {
				for setting, want := range map[string]string{
					"cluster-node-timeout": "5000", "cluster-require-full-coverage": "yes", "cluster-replica-no-failover": "no",
				} {
					if v := n.MustDo(t, "CONFIG", "GET", setting); v.Elems[1].Str != want {
						t.Errorf("%s = %v", setting, v.Strings())
					}
				}
				if v := n.MustDo(t, "CLUSTER", "NODES"); strings.Count(v.Str, "\n") != len(c.Nodes()) {
					t.Errorf("%s knows of\n%s", n.Addr(), v.Str)
				}
			}
		})
	}
}

func TestClusterOptionsWin(t *testing.T) {
	c := NewCluster(t, ClusterOptions{
		Masters: 1, NodeTimeout: time.Second,
		RedisOptions: RedisOptions{Config: []string{"cluster-require-full-coverage no", "maxmemory 10mb"}},
	})
	n := c.Nodes()[0]
	for range 2 { // as formed, and after a restart
		for setting, want := range map[string]string{
			"cluster-node-timeout": "1000", "cluster-require-full-coverage": "no", "maxmemory": "10485760",
		} {
			if v := n.MustDo(t, "CONFIG", "GET", setting); v.Elems[1].Str != want {
				t.Errorf("%s = %v", setting, v.Strings())
			}
		}
		if err := n.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFailover(t *testing.T) {
	c := NewCluster(t, ClusterOptions{Replicas: 1})
	master := masterOf(t, c, "k")
	master.MustDo(t, "SET", "k", "v")
	for _, mode := range []string{Coordinated, Takeover} {
		replicas, err := c.ReplicasOf(t.Context(), master)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Failover(t.Context(), replicas[0], mode); err != nil {
			t.Fatal(err)
		}
		if got := masterOf(t, c, "k"); got != replicas[0] {
			t.Errorf("%q: %s serves, want %s", mode, got.Addr(), replicas[0].Addr())
		}
		if v := replicas[0].MustDo(t, "GET", "k"); v.Str != "v" {
			t.Errorf("%q: GET = %+v", mode, v)
		}
		master = replicas[0]
	}
}

func TestKilledMasterIsReplacedAndReturns(t *testing.T) {
	c := NewCluster(t, ClusterOptions{Replicas: 1, NodeTimeout: 500 * time.Millisecond})
	old := masterOf(t, c, "k")
	old.Kill()
	if err := c.WaitAgreed(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := masterOf(t, c, "k")
	if now == old {
		t.Fatal("a killed master serves")
	}
	if err := old.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitAgreed(t.Context()); err != nil {
		t.Fatal(err)
	}
	replicas, err := c.ReplicasOf(t.Context(), now)
	if err != nil || len(replicas) != 1 || replicas[0] != old {
		t.Errorf("replicas %v, %v", replicas, err)
	}
}

func TestMigrateSlotToAnAddedMaster(t *testing.T) {
	c := NewCluster(t, ClusterOptions{Replicas: 1, RedisOptions: RedisOptions{Password: "sesame"}})
	to, err := c.AddMaster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slot, err := c.Slot(t.Context(), "{tag}")
	if err != nil {
		t.Fatal(err)
	}
	from := masterOf(t, c, "{tag}")
	const keys = 250
	for i := range keys {
		from.MustDo(t, "SET", fmt.Sprint("{tag}", i), "v")
	}
	m, err := c.BeginMigration(t.Context(), slot, to)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.MoveKeys(t.Context(), 10); err != nil || n != 10 {
		t.Fatalf("moved %d keys, %v", n, err)
	}
	_, err = from.Do(t.Context(), "GET", "{tag}none")
	var reply ReplyError
	if !errors.As(err, &reply) || string(reply) != fmt.Sprintf("ASK %d %s", slot, to.Addr()) {
		t.Errorf("in the middle: %v", err)
	}
	if err := m.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := masterOf(t, c, "{tag}"); got != to {
		t.Errorf("%s serves, want %s", got.Addr(), to.Addr())
	}
	if v := to.MustDo(t, "CLUSTER", "COUNTKEYSINSLOT", strconv.Itoa(slot)); v.Str != strconv.Itoa(keys) {
		t.Errorf("%s keys arrived", v.Str)
	}
	if _, err := c.BeginMigration(t.Context(), slot, to); err == nil {
		t.Error("a slot can be migrated to where it is")
	}
	// Back again, but called off.
	m, err = c.BeginMigration(t.Context(), slot, from)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := to.MustDo(t, "GET", "{tag}none"); !v.Null {
		t.Errorf("GET = %+v", v)
	}
}

func TestDoAllReachesTheLiving(t *testing.T) {
	c := NewCluster(t, ClusterOptions{})
	dead := c.Nodes()[0]
	dead.Kill()
	if err := c.DoAll(t.Context(), "CONFIG", "SET", "maxmemory", "10mb"); err != nil {
		t.Error(err)
	}
	if err := c.DoAll(t.Context(), "NOSUCH"); !errors.As(err, new(ReplyError)) {
		t.Errorf("an unknown command: %v", err)
	}
}

func masterOf(t *testing.T, c *Cluster, key string) *Redis {
	t.Helper()
	slot, err := c.Slot(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.MasterOf(t.Context(), slot)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

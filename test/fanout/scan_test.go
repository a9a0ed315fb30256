package fanout

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"readthrough/internal/slot"
	"readthrough/test/harness"
)

// scanAll scans to the end and returns how often each key came. between is called after each page, with its number.
func scanAll(t *testing.T, c *harness.Conn, between func(page int), options ...string) map[string]int {
	t.Helper()
	found := map[string]int{}
	cursor := "0"
	for page := 1; ; page++ {
		v := do(t, c, append([]string{"SCAN", cursor}, options...)...)
		if v.Err() != nil || len(v.Elems) != 2 {
			t.Fatalf("SCAN %s: %v", cursor, v)
		}
		for _, key := range v.Elems[1].Strings() {
			found[key]++
		}
		cursor = v.Elems[0].Str
		if n, err := strconv.ParseUint(cursor, 10, 64); err != nil || n >= 1<<53 {
			t.Fatalf("cursor %q, %v", cursor, err)
		}
		if cursor == "0" {
			return found
		}
		if page > 100000 {
			t.Fatal("the scan does not end")
		}
		if between != nil {
			between(page)
		}
	}
}

func setKeys(t *testing.T, c *harness.Conn, prefix string, count int) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	args := []string{"MSET"}
	for i := range count {
		key := fmt.Sprintf("%s%d", prefix, i)
		keys[key] = true
		args = append(args, key, "value")
	}
	if got := c.MustDo(t, args...); got != "+OK\r\n" {
		t.Fatal(got)
	}
	return keys
}

func TestScan(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	sidecar := newSidecar(t, cluster.Addrs())
	c := newConn(t, sidecar, 2)
	strs := setKeys(t, c, "str", 3000)
	lists := map[string]bool{}
	for i := range 30 {
		key := fmt.Sprintf("list%d", i)
		lists[key] = true
		c.MustDo(t, "RPUSH", key, "x")
	}
	for _, protocol := range []int{2, 3} {
		c := newConn(t, sidecar, protocol)
		for _, test := range []struct {
			options []string
			want    []map[string]bool
		}{
			{nil, []map[string]bool{strs, lists}},
			{[]string{"COUNT", "1"}, []map[string]bool{strs, lists}},
			{[]string{"COUNT", "100000"}, []map[string]bool{strs, lists}},
			{[]string{"MATCH", "list*", "COUNT", "77"}, []map[string]bool{lists}},
			{[]string{"count", "500", "TYPE", "string"}, []map[string]bool{strs}},
			{[]string{"MATCH", "nothing*"}, nil},
		} {
			want := map[string]int{}
			for _, keys := range test.want {
				for key := range keys {
					want[key] = 1 // nothing moves and no table is resized, so none comes twice
				}
			}
			if got := scanAll(t, c, nil, test.options...); !maps.Equal(got, want) {
				t.Errorf("RESP%d SCAN %q: %d keys, want %d", protocol, test.options, len(got), len(want))
			}
		}
		for want, args := range map[string][]string{
			"-ERR invalid cursor\r\n":                               {"SCAN", "x"},
			"-ERR syntax error\r\n":                                 {"SCAN", "0", "COUNT"},
			"-ERR value is not an integer or out of range\r\n":      {"SCAN", "0", "COUNT", "x"},
			"-ERR wrong number of arguments for 'scan' command\r\n": {"SCAN"},
		} {
			if got := c.MustDo(t, args...); got != want {
				t.Errorf("%q: %q, want %q", args, got, want)
			}
		}
	}
}

// A slot's way to another master while a scan is under way.
type move struct {
	name string
	// begin is done when half of the pages of a pass have come, end after the scan.
	begin, end func(t *testing.T, cluster *harness.Cluster, slot int, to *harness.Redis, c *harness.Conn) error
}

var moves = []move{
	{
		"whole, and the sidecar does not know",
		func(t *testing.T, cluster *harness.Cluster, slot int, to *harness.Redis, _ *harness.Conn) error {
			return cluster.MigrateSlot(t.Context(), slot, to)
		}, nil,
	},
	{
		"whole, and the sidecar knows",
		func(t *testing.T, cluster *harness.Cluster, at int, to *harness.Redis, c *harness.Conn) error {
			err := cluster.MigrateSlot(t.Context(), at, to)
			for i := 0; ; i++ {
				if key := strconv.Itoa(i); int(slot.Of([]byte(key))) == at {
					c.MustDo(t, "GET", key) // is redirected
					return err
				}
			}
		}, nil,
	},
	{
		"begun",
		func(t *testing.T, cluster *harness.Cluster, slot int, to *harness.Redis, _ *harness.Conn) error {
			m, err := cluster.BeginMigration(t.Context(), slot, to)
			if err == nil {
				_, err = m.MoveKeys(t.Context(), 1000)
			}
			return err
		},
		func(t *testing.T, cluster *harness.Cluster, slot int, to *harness.Redis, _ *harness.Conn) error {
			m, err := cluster.BeginMigration(t.Context(), slot, to)
			if err == nil {
				err = m.Finish(t.Context())
			}
			return err
		},
	},
}

// TestScanWhileSlotsMove moves slots full of keys from each master to each other one in the middle of scans, and adds keys.
func TestScanWhileSlotsMove(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	sidecar := newSidecar(t, cluster.Addrs())
	c, other := newConn(t, sidecar, 2), newConn(t, sidecar, 2)
	for _, move := range moves {
		t.Run(move.name, func(t *testing.T) {
			for pair := range 6 {
				c.MustDo(t, "FLUSHALL")
				masters, err := cluster.Masters(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				from, to := masters[pair/2], masters[(pair/2+1+pair%2)%3]
				at := slotOf(t, cluster, from)
				keys := setKeys(t, c, "", 3000)
				maps.Copy(keys, setKeys(t, c, "{"+tagOf(at)+"}", 300))
				found := scanAll(t, c, func(page int) {
					other.MustDo(t, "SET", fmt.Sprintf("new%d", page), "")
					if page == 17 { // of 33 and more
						if err := move.begin(t, cluster, at, to, other); err != nil {
							t.Fatal(err)
						}
					}
				}, "COUNT", "100")
				for key := range keys {
					if found[key] == 0 {
						t.Errorf("from %s to %s: %s was not found", from.Addr(), to.Addr(), key)
						break
					}
				}
				if move.end != nil {
					if err := move.end(t, cluster, at, to, other); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// slotOf returns a slot of a master.
func slotOf(t *testing.T, cluster *harness.Cluster, master *harness.Redis) int {
	t.Helper()
	members, err := cluster.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(members, func(m harness.Member) bool { return m.Node == master })
	return members[i].Slots[len(members[i].Slots)-1].Last
}

// tagOf returns a hash tag of a slot.
func tagOf(at int) string {
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); int(slot.Of([]byte(tag))) == at {
			return tag
		}
	}
}

// A scan without anything that moves goes through each master once.
func TestScanOnce(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	c := newConn(t, newSidecar(t, cluster.Addrs()), 2)
	setKeys(t, c, "", 100)
	if err := cluster.DoAll(t.Context(), "CONFIG", "RESETSTAT"); err != nil {
		t.Fatal(err)
	}
	pages := 1
	scanAll(t, c, func(int) { pages++ }, "COUNT", "1000")
	if pages != 3 {
		t.Errorf("%d pages, want one of each master", pages)
	}
}

// After a failover a scan that was under way still finds all keys.
func TestScanOverFailover(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{Replicas: 1})
	c := newConn(t, newSidecar(t, cluster.Addrs()), 2)
	keys := setKeys(t, c, "", 3000)
	masters, err := cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := scanAll(t, c, func(page int) {
		if page%12 != 4 || page > 30 { // one in each third of the first pass
			return
		}
		replicas, err := cluster.ReplicasOf(t.Context(), masters[page/12])
		if err == nil {
			err = cluster.Failover(t.Context(), replicas[0], harness.Coordinated)
		}
		if err != nil {
			t.Fatal(err)
		}
	}, "COUNT", "90")
	for key := range keys {
		if found[key] == 0 {
			t.Fatalf("%s was not found", key)
		}
	}
}

package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"readthrough/internal/lease"
	"readthrough/test/harness"
)

const errLeaseKey = "-ERR keys that begin with readthrough:lease: belong to Readthrough\r\n"

// Lease keys are the sidecars' own: clients may not name them.
func TestClientsMayNotNameLeaseKeys(t *testing.T) {
	w := newWorld(t, newOrigin(), harness.ClusterOptions{})
	c := w.connect(t)
	name := leaseOf(t, "map:k")
	for _, command := range []string{
		"GET " + name, "SET " + name + " v", "DEL a " + name, "MSET a v " + name + " v", "MGET a b " + name, "EXISTS " + name, "EVAL return(1) 1 " + name,
		"RENAME {map:k} " + name, "BLPOP " + name + " 0", "WATCH " + name, "OBJECT ENCODING " + name, "XREAD BLOCK 0 STREAMS " + name + " 0", "SORT {map:k} STORE " + name,
		"SET " + name + " " + strings.Repeat("x", 2<<20), "SUNIONSTORE x{map:k} y{map:k} z{map:k} u{map:k} " + name,
	} {
		do(t, c, command, errLeaseKey)
	}
	send(t, c, "MULTI", "SET {map:k} v", "DEL "+name, "EXEC", "GET {map:k}", "DEL xreadthrough:lease: readthrough:leasing", "PUBLISH "+name+" v")
	expect(t, c, ok, queued, errLeaseKey, aborted, "$-1\r\n", ":0\r\n", ":0\r\n")

	// Without maps they are keys like others.
	plain := newRelay(t, nil, w.cluster.Addrs()...).connect(t)
	do(t, plain, "SET "+name+" v", ok)
	do(t, plain, "DEL "+name, ":1\r\n")
}

// Lists of keys do not have lease keys, of a cluster and of a single Redis.
func TestListsOfKeysHideLeaseKeys(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	single := harness.NewCluster(t, harness.ClusterOptions{Masters: 1})
	redis := harness.NewRedis(t, harness.RedisOptions{})
	worlds := map[string]*world{
		"three masters": {newRelay(t, newOrigin(), cluster.Addrs()...), cluster},
		"one master":    {newRelay(t, newOrigin(), single.Addrs()...), single},
		"no cluster":    {newRelay(t, newOrigin(), redis.Addr()), nil},
	}
	for name, w := range worlds {
		for _, protocol := range []string{"2", "3"} {
			t.Run(name+" RESP"+protocol, func(t *testing.T) {
				node := func(key string) *harness.Redis {
					if w.cluster == nil {
						return redis
					}
					return w.master(t, key)
				}
				c := w.connect(t)
				c.MustDo(t, "HELLO", protocol)
				do(t, c, "FLUSHALL", ok)
				null := strings.Trim(c.MustDo(t, "GET", "none"), "\r\n")
				do(t, c, "RANDOMKEY", null+"\r\n")
				lease := func(i int) {
					key := fmt.Sprint("map:", i)
					node(key).MustDo(t, "SET", leaseOf(t, key), "ttoken")
				}
				for i := range 50 {
					lease(i)
				}
				do(t, c, "RANDOMKEY", null+"\r\n") // there are none but leases
				do(t, c, "KEYS *", "*0\r\n")
				var want []string
				for i := range 30 {
					key := fmt.Sprint("read", i)
					node(key).MustDo(t, "SET", key, "v")
					want = append(want, key)
				}
				slices.Sort(want)
				for _, pattern := range []string{"*", "r*", "read*", "?ead*", "[r]*", `\r*`, "readthrough:lease:*", "readthrough:lease:{map:1}:map:1", "x*", "read1"} {
					keys := list(t, c, "KEYS", pattern)
					count := map[string]int{"x*": 0, "read1": 1, "readthrough:lease:*": 0, "readthrough:lease:{map:1}:map:1": 0}
					n, special := count[pattern]
					if special && len(keys) != n || !special && !slices.Equal(keys, want) {
						t.Errorf("KEYS %s: %q", pattern, keys)
					}
				}
				for range 200 {
					got := c.MustDo(t, "RANDOMKEY")
					if strings.Contains(got, "lease") || !strings.Contains(got, "read") {
						t.Fatalf("RANDOMKEY: %q", got)
					}
				}
				var scanned []string
				for cursor := "0"; ; {
					v, err := harness.Decode([]byte(c.MustDo(t, "SCAN", cursor, "COUNT", "7")))
					if err != nil {
						t.Fatal(err)
					}
					scanned = append(scanned, v.Elems[1].Strings()...)
					if cursor = v.Elems[0].Str; cursor == "0" {
						break
					}
				}
				slices.Sort(scanned)
				if scanned = slices.Compact(scanned); !slices.Equal(scanned, want) {
					t.Errorf("SCAN: %q", scanned)
				}
				do(t, c, "SCAN x", "-ERR invalid cursor\r\n")
				send(t, c, "KEYS", "RANDOMKEY x", "SET other v", "KEYS oth*", "GET other")
				expect(t, c, "-ERR wrong number of arguments for 'keys' command\r\n", "-ERR wrong number of arguments for 'randomkey' command\r\n", ok, "*1\r\n"+bulk("other"), bulk("v"))
			})
		}
	}
}

// A list that is too large to be collected passes as it is.
func TestALargeListOfKeysPasses(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, newOrigin(), redis.Addr())
	redis.MustDo(t, "EVAL", "for i=1,6000 do redis.call('SET',string.rep('x',1000)..'-'..i,'v') end", "0")
	name := leaseOf(t, "map:k")
	redis.MustDo(t, "SET", name, "ttoken")
	c := r.connect(t)
	if keys := list(t, c, "KEYS", "*"); len(keys) != 6001 || !slices.ContainsFunc(keys, func(k string) bool { return lease.Is([]byte(k)) }) {
		t.Errorf("%d keys", len(keys))
	}
	if keys := list(t, c, "KEYS", "*-399*"); len(keys) != 11 {
		t.Errorf("%d keys", len(keys))
	}
	do(t, c, "PING", "+PONG\r\n")
}

// list is a reply of keys, in order.
func list(t testing.TB, c *harness.Conn, command ...string) []string {
	t.Helper()
	v, err := harness.Decode([]byte(c.MustDo(t, command...)))
	if err != nil {
		t.Fatal(err)
	}
	keys := v.Strings()
	slices.Sort(keys)
	return keys
}

package readthrough

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

// intercept has all commands read through that may.
const intercept = "intercept: [GET, MGET, GETEX]\n"

// user is a row of users as its map has it.
func user(n int) string {
	tier := "null"
	if n%2 == 0 {
		tier = `"gold"`
	}
	return bulk(fmt.Sprintf(`{"id":%d,"name":"user %d","tier":%s}`, n, n, tier))
}

// array is an array's reply.
func array(elements ...string) string {
	return fmt.Sprintf("*%d\r\n%s", len(elements), strings.Join(elements, ""))
}

// TestMGET holds that the misses of an MGET over several slots are answered from the database, among what is no miss.
func TestMGET(t *testing.T) {
	w := newWorldWith(t, harness.ClusterOptions{}, intercept)
	for protocol, null := range map[string]string{"2": "$-1\r\n", "3": "_\r\n"} {
		t.Run("RESP"+protocol, func(t *testing.T) {
			if err := w.cluster.DoAll(t.Context(), "FLUSHALL"); err != nil {
				t.Fatal(err)
			}
			c := harness.NewConn(t, w.sidecar.Addr())
			c.MustDo(t, "HELLO", protocol)
			replyIs(t, c, "+OK\r\n", "SET", "user:1", "mine")
			replyIs(t, c, "+OK\r\n", "SET", "other", "v")
			asked := w.queries(t, "FROM users WHERE id")
			keys := []string{"MGET", "user:2", "user:1", "nothing", "user:0", "user:3", "user:2", "other", "orders:8", "user:x", "{user:4}:name"}
			want := array(user(2), bulk("mine"), null, null, user(3), user(2), bulk("v"), bulk(`[{"id":3,"total":0.01}]`), null, bulk("user 4"))
			replyIs(t, c, want, keys...)
			if n := w.queries(t, "FROM users WHERE id") - asked; n != 4 { // 2, 0, 3 and 4
				t.Errorf("%d queries", n)
			}
			for key, value := range map[string]string{"user:1": bulk("mine"), "user:2": user(2), "user:3": user(3), "{user:4}:name": bulk("user 4")} {
				if got := w.redis(t, key, "GET", key).Str; bulk(got) != value {
					t.Errorf("Redis has %q of %s, want %q", got, key, value)
				}
			}
			replyIs(t, c, want, keys...)
			replyIs(t, c, "-ORIGINERR map broken: 22012 division_by_zero\r\n", "MGET", "user:5", "broken:1", "other")
			replyIs(t, c, array(user(5), bulk("v")), "MGET", "user:5", "other")
		})
	}
}

// TestOwnWriteAfterMGET holds that a client's own write behind its MGET does not come into its answer, nor is undone by the fill.
func TestOwnWriteAfterMGET(t *testing.T) {
	w := newWorldWith(t, harness.ClusterOptions{}, intercept)
	c := harness.NewConn(t, w.sidecar.Addr())
	var raw []byte
	for _, args := range [][]string{
		{"MGET", "slow:a", "slow:b"}, {"SET", "slow:b", "new"}, {"MGET", "slow:b", "slow:a"}, {"GETEX", "slow:c", "EX", "77"}, {"TTL", "slow:c"},
	} {
		raw = append(raw, harness.Command(args...)...)
	}
	if err := c.Send(raw); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{array(bulk("a"), bulk("b")), "+OK\r\n", array(bulk("new"), bulk("a")), bulk("c"), ":77\r\n"} {
		if got, err := c.ReadReply(); err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if got := w.redis(t, "slow:b", "GET", "slow:b").Str; got != "new" {
		t.Errorf("Redis has %q, want what was written last", got)
	}
}

// TestGETEX holds that a GETEX that misses sets the client's own expiry on what was filled in, or none.
func TestGETEX(t *testing.T) {
	w := newWorldWith(t, harness.ClusterOptions{}, intercept)
	c := harness.NewConn(t, w.sidecar.Addr())
	soon := time.Now().Add(100 * time.Second)
	for i, test := range []struct {
		options     []string
		least, most int // TTL in seconds afterwards
	}{
		{nil, 3000, 3600}, // the map's
		{[]string{"EX", "100"}, 50, 100},
		{[]string{"PX", "100000"}, 50, 100},
		{[]string{"EXAT", strconv.FormatInt(soon.Unix(), 10)}, 20, 100},
		{[]string{"PXAT", strconv.FormatInt(soon.UnixMilli(), 10)}, 20, 100},
		{[]string{"PERSIST"}, -1, -1},
	} {
		key := fmt.Sprint("user:", i+1)
		for range 2 { // a miss and a hit
			replyIs(t, c, user(i+1), append([]string{"GETEX", key}, test.options...)...)
			ttl, err := strconv.Atoi(w.redis(t, key, "TTL", key).Str)
			if err != nil || ttl < test.least || ttl > test.most {
				t.Errorf("%v: the TTL is %d, want %d to %d", test.options, ttl, test.least, test.most)
			}
		}
		replyIs(t, c, "$-1\r\n", append([]string{"GETEX", "user:0"}, test.options...)...)
	}
}

// TestFailOpen holds that while Redis, or a part of it, is gone, its mapped keys are answered from the database, but only for clients of
// the sidecar's own user; and that all is as before when Redis is back.
func TestFailOpen(t *testing.T) {
	w := newWorldWith(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{"user app on >secret ~* +@all"}}}, intercept)
	c, own := harness.NewConn(t, w.sidecar.Addr()), harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, own, "+OK\r\n", "AUTH", "app", "secret")
	replyIs(t, own, user(7), "GET", "user:7")
	answers := func() { // each soon: the origin does not wait for Redis
		t.Helper()
		before := time.Now()
		replyIs(t, c, user(7), "GET", "user:7")
		replyIs(t, c, user(8), "GETEX", "user:8", "EX", "10")
		replyIs(t, c, array(user(7), user(9), "$-1\r\n", user(7)), "MGET", "user:7", "user:9", "user:0", "user:7")
		replyIs(t, c, "$-1\r\n", "GET", "user:0")
		if took := time.Since(before); took > 8*time.Second {
			t.Errorf("it took %v", took)
		}
	}
	refused := func(c *harness.Conn, args ...string) {
		t.Helper()
		if got := c.MustDo(t, args...); !strings.HasPrefix(got, "-UPSTREAM") && !strings.HasPrefix(got, "-CLUSTERDOWN ") {
			t.Errorf("%q: %q", args, got)
		}
	}
	restart := func(nodes ...*harness.Redis) {
		t.Helper()
		for _, node := range nodes {
			if err := node.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		poll(t, func() error {
			for n := range 50 {
				if got := c.MustDo(t, "SET", fmt.Sprint("other:", n), "v"); got != "+OK\r\n" {
					return fmt.Errorf("SET answers %q", got)
				}
			}
			return nil
		})
		c.MustDo(t, "UNLINK", "user:7", "user:8", "user:9")
		counted := metric(t, w.sidecar, "readthrough_failopen_total")
		replyIs(t, c, array(user(7), user(8)), "MGET", "user:7", "user:8")
		for _, key := range []string{"user:7", "user:8"} {
			if got := w.redis(t, key, "EXISTS", key).Str; got != "1" {
				t.Errorf("%s is not filled in again", key)
			}
		}
		replyIs(t, own, user(7), "GET", "user:7")
		if got := metric(t, w.sidecar, "readthrough_failopen_total"); got != counted || got == "0" {
			t.Errorf("readthrough_failopen_total went from %s to %s", counted, got)
		}
	}

	slot, err := w.cluster.Slot(t.Context(), "user:7")
	if err != nil {
		t.Fatal(err)
	}
	master, err := w.cluster.MasterOf(t.Context(), slot)
	if err != nil {
		t.Fatal(err)
	}
	master.Kill()
	answers()
	refused(own, "GET", "user:7")
	refused(own, "MGET", "user:7")
	refused(c, "SET", "user:7", "v")
	refused(c, "MGET", "user:7", "{user:7}other")
	answers()
	restart(master)

	nodes := w.cluster.Nodes()
	for _, node := range nodes {
		node.Kill()
	}
	answers()
	refused(own, "GET", "user:7")
	refused(c, "SET", "user:7", "v")
	answers()
	restart(nodes...)
}

// TestLargeMGET holds that an MGET many times as large as what the sidecar may hold passes through it with its misses, also when one node
// is late.
func TestLargeMGET(t *testing.T) {
	cluster, db := harness.NewCluster(t, harness.ClusterOptions{}), newDatabase(t)
	sidecar := harness.NewSidecar(t, harness.SidecarOptions{
		Config: config(cluster.Addrs()...) + intercept + maps, Env: []string{"ORIGIN_URL=" + db.URL()}, Plain: true,
	})
	c := harness.NewConn(t, sidecar.Addr())
	const values = 100 // of 1 MiB, each of them between two misses
	mget := []string{"MGET"}
	var want []string
	for i := range values {
		key := fmt.Sprintf("note:big%d:v1", i)
		value := fmt.Sprint(i, strings.Repeat("v", 1<<20-100))
		replyIs(t, c, "+OK\r\n", "SET", key, value)
		mget = append(mget, fmt.Sprintf("{user:%d}:name", i), key)
		name := "$-1\r\n"
		if i > 0 {
			name = bulk(fmt.Sprint("user ", i))
		}
		want = append(want, name, bulk(value))
	}
	paused := cluster.Nodes()[1]
	if fixed, err := cluster.MasterOf(t.Context(), 0); err != nil {
		t.Fatal(err)
	} else if fixed == paused { // it answers others meanwhile
		paused = cluster.Nodes()[2]
	}
	for late := range 2 {
		if late == 1 {
			for i := range values {
				replyIs(t, c, ":1\r\n", "EXISTS", fmt.Sprintf("note:big%d:v1", i))
				c.MustDo(t, "UNLINK", fmt.Sprintf("{user:%d}:name", i))
			}
			if err := paused.Pause(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Send(harness.Command(mget...)); err != nil {
			t.Fatal(err)
		}
		if late == 1 {
			other := harness.NewConn(t, sidecar.Addr())
			for range 300 { // which takes a while
				replyIs(t, other, "$2\r\nok\r\n", "ECHO", "ok")
			}
			if err := paused.Resume(); err != nil {
				t.Fatal(err)
			}
		}
		got, err := c.ReadReply()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != array(want...) {
			t.Errorf("a reply of %d bytes is wrong: %.100q", len(got), got)
		}
		if rss, err := sidecar.RSS(); err != nil || rss > 100<<20 {
			t.Errorf("the sidecar has %d MiB, %v", rss>>20, err)
		}
	}
}

package readthrough

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"readthrough/test/harness"
)

const (
	user7 = `{"id":7,"name":"user 7","tier":null}`
	user8 = `{"id":8,"name":"user 8","tier":"gold"}`
	file  = "file:0b8e1a52-3c2f-4a0e-9d53-6f0f3f6f6c0"
)

func TestMiss(t *testing.T) {
	w := newWorld(t)
	for _, protocol := range []string{"2", "3"} {
		c := harness.NewConn(t, w.sidecar.Addr())
		c.MustDo(t, "HELLO", protocol)
		null := map[string]string{"2": "$-1\r\n", "3": "_\r\n"}[protocol]
		t.Run("RESP"+protocol, func(t *testing.T) {
			t.Run("values", func(t *testing.T) { w.values(t, c) })
			t.Run("no row", func(t *testing.T) { w.noRow(t, c, null) })
			t.Run("errors", func(t *testing.T) { w.errors(t, c, null) })
			t.Run("not mapped", func(t *testing.T) { w.notMapped(t, c, null) })
			t.Run("order", func(t *testing.T) { w.order(t, c, protocol, null) })
		})
		if err := w.cluster.DoAll(t.Context(), "FLUSHALL"); err != nil {
			t.Fatal(err)
		}
	}
}

// values holds what is answered, what is then in Redis and for how long, and that it is asked for once.
func (w *world) values(t *testing.T, c *harness.Conn) {
	for _, test := range []struct {
		key, want, table string
		least, most      time.Duration // to live
	}{
		{"user:7", user7, "users", 54 * time.Minute, time.Hour},
		{"user:8", user8, "users", 54 * time.Minute, time.Hour},
		{"{user:7}:name", "user 7", "users", 54 * time.Minute, time.Hour},
		{"orders:7", "[{\"id\":1,\"total\":9.90}, \n {\"id\":2,\"total\":120.00}]", "orders", 30 * time.Minute, 30 * time.Minute},
		{file + "1", "\x00\xff\r\n$1", "files", 54 * time.Minute, time.Hour},
		{file + "2", "", "files", 54 * time.Minute, time.Hour},
		{file + "4", strings.Repeat("\xab", 1<<20), "files", 54 * time.Minute, time.Hour},
		{"note:héllo wörld:v1", "zwei\r\nZeilen", "notes", 54 * time.Minute, time.Hour},
		{"note:'; DROP TABLE notes; --:v1", "safe", "notes", 54 * time.Minute, time.Hour},
		{"day:2024-02-29", `{"day":"2024-02-29","visits":12}`, "days", 54 * time.Minute, time.Hour},
		{"blob:cafe", "coffee", "blobs", 54 * time.Minute, time.Hour},
		{"page:a/b:c/d", "deep", "pages", 54 * time.Minute, time.Hour},
	} {
		asked := w.queries(t, test.table)
		before := time.Now()
		replyIs(t, c, bulk(test.want), "GET", test.key)
		if got := w.redis(t, test.key, "GET", test.key).Str; got != test.want {
			t.Errorf("%q is %.100q in Redis, want %.100q", test.key, got, test.want)
		}
		left, err := strconv.Atoi(w.redis(t, test.key, "PTTL", test.key).Str)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(before)
		if ttl := time.Duration(left) * time.Millisecond; ttl > test.most || ttl+took+time.Millisecond < test.least {
			t.Errorf("%q lives for %v, want %v to %v", test.key, ttl, test.least, test.most)
		}
		replyIs(t, c, bulk(test.want), "GET", test.key)
		replyIs(t, c, bulk(test.want), "get", test.key)
		if n := w.queries(t, test.table) - asked; n != 1 {
			t.Errorf("%q: %d queries, want 1", test.key, n)
		}
	}
}

func (w *world) noRow(t *testing.T, c *harness.Conn, null string) {
	for _, key := range []string{
		"user:0", "user:99999999999", "{user:0}:name", file + "3", file + "9", "note:none:v1", "day:1999-01-01", "blob:00", "page:", "page:none",
	} {
		replyIs(t, c, null, "GET", key)
		if got := w.redis(t, key, "EXISTS", key).Str; got != "0" {
			t.Errorf("%q is in Redis", key)
		}
	}
}

func (w *world) errors(t *testing.T, c *harness.Conn, null string) {
	replyIs(t, c, "-ORIGINERR map broken: 22012 division_by_zero\r\n", "GET", "broken:1")
	replyIs(t, c, bulk("1"), "GET", "broken:2")
	replyIs(t, c, null, "GET", "broken-nil:1")
	replyIs(t, c, "-ORIGINTIMEOUT map late: no answer in 100ms\r\n", "GET", "late:x")
	replyIs(t, c, null, "GET", "late-nil:x")
	for _, key := range []string{"broken:1", "broken-nil:1", "late:x", "late-nil:x"} {
		if got := w.redis(t, key, "EXISTS", key).Str; got != "0" {
			t.Errorf("%q is in Redis", key)
		}
	}
	replyIs(t, c, ":1\r\n", "LPUSH", "user:5", "x")
	replyIs(t, c, "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "GET", "user:5")
	replyIs(t, c, "-ERR wrong number of arguments for 'get' command\r\n", "GET", "user:6", "user:7")
}

// notMapped holds that the database is not asked for what no map has, nor by other commands than GET.
func (w *world) notMapped(t *testing.T, c *harness.Conn, null string) {
	asked := w.queries(t, "")
	for _, key := range []string{
		"user", "user:", "user:x", "user:07", "user:+7", "user:1e3", "user:9999999999999999999999", " user:7", "user:7 ", "USER:7", "user:7\x00",
		"day:2023-02-29", "day:20240229", "blob:xyz", file, file + "z", "note::v1", "note:a", "\x00\xff\r\n", "", "{user:7}", strings.Repeat("k", 1000),
	} {
		replyIs(t, c, null, "GET", key)
	}
	replyIs(t, c, ":0\r\n", "EXISTS", "user:100")
	replyIs(t, c, ":0\r\n", "STRLEN", "user:100")
	replyIs(t, c, ":-2\r\n", "TTL", "user:100")
	replyIs(t, c, null, "GETDEL", "user:100")
	replyIs(t, c, "*1\r\n"+null, "MGET", "user:100")
	replyIs(t, c, null, "EVAL", "return redis.call('GET', KEYS[1])", "1", "user:100")
	if n := w.queries(t, "") - asked; n != 0 {
		t.Errorf("%d queries, want none", n)
	}
}

// order holds that replies come in the order of the commands, whichever of them are misses.
func (w *world) order(t *testing.T, c *harness.Conn, protocol, null string) {
	var raw []byte
	var want []string
	ask := func(reply string, args ...string) {
		raw = append(raw, harness.Command(args...)...)
		want = append(want, reply)
	}
	for i := range 300 {
		n := i + 1000
		tier := "null"
		if n%2 == 0 {
			tier = `"gold"`
		}
		other := fmt.Sprintf("other:%s:%d", protocol, i)
		ask(bulk(fmt.Sprintf(`{"id":%d,"name":"user %d","tier":%s}`, n, n, tier)), "GET", fmt.Sprint("user:", n))
		ask("+OK\r\n", "SET", other, "v")
		ask(bulk("v"), "GET", other)
		ask("+PONG\r\n", "PING")
		if i%50 == 0 {
			ask("-ORIGINERR map broken: 22012 division_by_zero\r\n", "GET", "broken:1")
			ask(null, "GET", "user:0")
			ask("-ERR unknown command 'NOSUCH', with args beginning with: \r\n", "NOSUCH")
		}
	}
	if err := c.Send(raw); err != nil {
		t.Fatal(err)
	}
	for i, reply := range want {
		got, err := c.ReadReply()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != reply {
			t.Fatalf("reply %d: %q, want %q", i, got, reply)
		}
	}
}

// TestOneQuery holds that clients that ask for the same key at the same time cost one query.
func TestOneQuery(t *testing.T) {
	w := newWorld(t)
	asked := w.queries(t, "slowly")
	const clients = 200
	conns := make([]*harness.Conn, clients)
	for i := range conns {
		conns[i] = harness.NewConn(t, w.sidecar.Addr())
		conns[i].MustDo(t, "PING")
	}
	var asking sync.WaitGroup
	for _, c := range conns {
		asking.Go(func() {
			got, err := c.Do("GET", "slow:shared")
			if err != nil || string(got) != bulk("shared") {
				t.Errorf("GET: %q, %v", got, err)
			}
		})
	}
	asking.Wait()
	if n := w.queries(t, "slowly") - asked; n != 1 {
		t.Errorf("%d queries, want 1", n)
	}
	if got := metric(t, w.sidecar, `readthrough_loads_joined_total{map="slow"}`); got != strconv.Itoa(clients-1) {
		t.Errorf("%s clients joined the load, want %d", got, clients-1)
	}
}

// TestClientLeaves holds that a load whose client has gone is of use to others, and that its end harms nobody.
func TestClientLeaves(t *testing.T) {
	w := newWorld(t)
	asked := w.queries(t, "slowly")
	leaving, err := harness.Dial(t.Context(), w.sidecar.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := leaving.Send(harness.Command("GET", "slow:left")); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		if w.queries(t, "slowly") == asked {
			return fmt.Errorf("the load has not begun")
		}
		return nil
	})
	if err := leaving.Close(); err != nil {
		t.Fatal(err)
	}
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, bulk("left"), "GET", "slow:left")
	replyIs(t, c, bulk("left"), "GET", "slow:left")
	if n := w.queries(t, "slowly") - asked; n != 1 {
		t.Errorf("%d queries, want 1", n)
	}
}

// TestOwnWriteAfterMiss holds that a client's own write behind its miss does not come into the miss's answer: GET k; SET k v.
func TestOwnWriteAfterMiss(t *testing.T) {
	w := newWorld(t)
	c := harness.NewConn(t, w.sidecar.Addr())
	var raw []byte
	for _, args := range [][]string{{"GET", "slow:mine"}, {"SET", "slow:mine", "new"}, {"GET", "slow:mine"}} {
		raw = append(raw, harness.Command(args...)...)
	}
	if err := c.Send(raw); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{bulk("mine"), "+OK\r\n", bulk("new")} {
		got, err := c.ReadReply()
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := w.redis(t, "slow:mine", "GET", "slow:mine").Str; got != "new" {
		t.Errorf("Redis has %q, want what was written last", got)
	}
}

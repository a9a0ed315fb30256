package fanout

import (
	"fmt"
	"iter"
	"maps"
	"strings"
	"testing"

	"readthrough/test/harness"
)

func keysOf(keys map[string]bool) iter.Seq[string] { return maps.Keys(keys) }

// One command may have 64k keys.
func TestManyKeys(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	sidecar := newSidecar(t, cluster.Addrs())
	const count = 64 << 10
	mset, mget, del := []string{"MSET"}, []string{"MGET"}, []string{"DEL"}
	for i := range count {
		key := fmt.Sprint("key", i)
		mset, mget, del = append(mset, key, fmt.Sprint("value", i)), append(mget, key), append(del, key)
	}
	for _, protocol := range []int{2, 3} {
		c := newConn(t, sidecar, protocol)
		if got := c.MustDo(t, mset...); got != "+OK\r\n" {
			t.Fatal(got)
		}
		v := do(t, c, mget...)
		if len(v.Elems) != count {
			t.Fatalf("%.100v", v)
		}
		for i, e := range v.Elems {
			if e.Str != fmt.Sprint("value", i) {
				t.Fatalf("the value at %d is %q", i, e.Str)
			}
		}
		if got := c.MustDo(t, "DBSIZE"); got != fmt.Sprintf(":%d\r\n", count) {
			t.Errorf("DBSIZE: %q", got)
		}
		if got := len(do(t, c, "KEYS", "*").Elems); got != count {
			t.Errorf("KEYS: %d elements", got)
		}
		if got := c.MustDo(t, del...); got != fmt.Sprintf(":%d\r\n", count) {
			t.Errorf("DEL: %q", got)
		}
		if got := c.MustDo(t, "DBSIZE"); got != ":0\r\n" {
			t.Errorf("DBSIZE: %q", got)
		}
	}
}

// Commands and replies larger than what is kept for a client pass in their order, behind and before others.
func TestLargeMerges(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	c := newConn(t, newSidecar(t, cluster.Addrs()), 2)
	const keySize, valueSize = 40 << 10, 900 << 10
	value := strings.Repeat("v", valueSize)
	var keys []string
	for i := range 230 {
		keys = append(keys, fmt.Sprintf("%d%s", 100+i, strings.Repeat("k", keySize-3)))
		if i >= 30 {
			value = ""
		}
		if got := c.MustDo(t, "SET", keys[i], value); got != "+OK\r\n" {
			t.Fatal(got)
		}
	}
	some := append([]string{"MGET"}, keys[:30]...) // more than 1 MiB
	batch := [][]string{{"KEYS", "*"}, {"GET", keys[0]}, some, {"KEYS", "?*"}, {"MGET", "a", "b"}, {"GET", keys[29]}, some, {"KEYS", "*"}}
	const all = 230 * keySize
	sizes := []int{all, valueSize, 30 * valueSize, all, 0, valueSize, 30 * valueSize, all}
	for i, reply := range pipelined(t, c, batch) {
		v, err := harness.Decode([]byte(reply))
		got := len(v.Str)
		for _, e := range v.Elems {
			got += len(e.Str)
		}
		if err != nil || v.Err() != nil || got != sizes[i] {
			t.Errorf("reply %d: %.100q has %d bytes, want %d (%v)", i, reply, got, sizes[i], err)
		}
	}
	tooLarge := append([]string{"MGET"}, keys...)
	if got := c.MustDo(t, tooLarge...); got != "-CROSSSLOT Keys in request don't hash to the same slot\r\n" {
		t.Errorf("MGET of more than is collected: %.100q", got)
	}
}

func TestCrossSlot(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	const refused = "-CROSSSLOT Keys in request don't hash to the same slot\r\n"
	commands := [][]string{
		{"MSET", "a", "1", "b", "2"},
		{"MGET", "a", "b"},
		{"MGET", "{a}", "a"},
		{"EXISTS", "a", "b"},
		{"DEL", "a", "b"},
		{"DEL", "a", "a"},
		{"MSETNX", "a", "1", "b", "2"},
		{"MSETNX", "a", "1", "{a}", "2"},
		{"SINTER", "a", "b"},
		{"RENAME", "a", "b"},
		{"MSET", "a", "1", "b"},
		{"MSET", "a", "1", "{a}b"},
		{"MGET"},
		{"SUNIONSTORE", "a", "b", "c"},
	}
	odd := "-ERR wrong number of arguments for 'mset' command\r\n"
	for line, want := range map[string][]string{
		"crossSlot: split": {
			"+OK\r\n", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n", "*2\r\n$-1\r\n$1\r\n1\r\n", ":2\r\n", ":2\r\n", ":0\r\n",
			refused, ":1\r\n", refused, refused, odd, odd, "-ERR wrong number of arguments for 'mget' command\r\n", refused,
		},
		"crossSlot: error": {
			refused, refused, "*2\r\n$-1\r\n$-1\r\n", refused, refused, ":0\r\n",
			refused, ":1\r\n", refused, refused, refused, odd, "-ERR wrong number of arguments for 'mget' command\r\n", refused,
		},
	} {
		c := newConn(t, newSidecar(t, cluster.Addrs(), line), 2)
		c.MustDo(t, "FLUSHALL")
		for i, args := range commands {
			if got := c.MustDo(t, args...); got != want[i] {
				t.Errorf("%s: %q: %q, want %q", line, args, got, want[i])
			}
		}
	}
}

// A command counts once, however many parts it has, and as what its reply is.
func TestCountedOnce(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	sidecar := newSidecar(t, cluster.Addrs())
	c := newConn(t, sidecar, 2)
	c.MustDo(t, "MGET", "a", "b", "c", "d", "e")
	c.MustDo(t, "KEYS", "*")
	c.MustDo(t, "SCAN", "0")
	c.MustDo(t, "RANDOMKEY")
	c.MustDo(t, "SCRIPT", "KILL") // is an error
	text := get(t, sidecar.AdminURL()+"/metrics")
	for _, want := range []string{
		`{command="mget",outcome="ok"} 1`, `{command="keys",outcome="ok"} 1`, `{command="scan",outcome="ok"} 1`,
		`{command="randomkey",outcome="ok"} 1`, `{command="script|kill",outcome="error"} 1`,
	} {
		if !strings.Contains(text, "readthrough_commands_total"+want+"\n") {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
}

// The first error in the order of the keys is the reply, and the other parts are done.
func TestFirstError(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	c := newConn(t, newSidecar(t, cluster.Addrs()), 2)
	c.MustDo(t, "ACL", "SETUSER", "limited", "on", ">pw", "+@all", "~ok*", "~a")
	for _, n := range cluster.Nodes() {
		if v := n.MustDo(t, "ACL", "GETUSER", "limited"); v.Null {
			t.Fatalf("%s does not know the user", n.Addr())
		}
	}
	limited := newConn(t, newSidecar(t, cluster.Addrs()), 2)
	if got := limited.MustDo(t, "AUTH", "limited", "pw"); got != "+OK\r\n" {
		t.Fatal(got)
	}
	if got := limited.MustDo(t, "MSET", "ok1", "1", "b", "2", "ok2", "3", "c", "4"); !strings.HasPrefix(got, "-NOPERM ") {
		t.Errorf("MSET: %q", got)
	}
	if got := c.MustDo(t, "MGET", "ok1", "b", "ok2", "c"); got != "*4\r\n$1\r\n1\r\n$-1\r\n$1\r\n3\r\n$-1\r\n" {
		t.Errorf("after it: %q", got)
	}
	if got := limited.MustDo(t, "MGET", "ok1", "ok2", "a"); got != "*3\r\n$1\r\n1\r\n$1\r\n3\r\n$-1\r\n" {
		t.Errorf("MGET: %q", got)
	}
}

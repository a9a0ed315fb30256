package commands

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// unknown is Redis's own error.
func unknown(name string) string {
	return fmt.Sprintf("-ERR unknown command '%s', with args beginning with: 'a' \r\n", name)
}

// buildModule compiles testdata/module.c.
func buildModule(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "module.so")
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o", path, "testdata/module.c").CombinedOutput()
	if err != nil {
		t.Fatalf("gcc is needed for this test, as for the race detector: %v\n%s", err, out)
	}
	return path
}

// questions is how often a server was asked about commands.
func questions(t *testing.T, redis *harness.Redis) int {
	t.Helper()
	return figure(redis.MustDo(t, "INFO", "commandstats").Str, `cmdstat_command\|info:calls=(\d+)`)
}

// redirects is how often a server has answered by MOVED.
func redirects(t *testing.T, redis *harness.Redis) int {
	t.Helper()
	return figure(redis.MustDo(t, "INFO", "errorstats").Str, `errorstat_MOVED:count=(\d+)`)
}

func figure(info, pattern string) int {
	match := regexp.MustCompile(pattern).FindStringSubmatch(info)
	if match == nil {
		return 0
	}
	n, _ := strconv.Atoi(match[1]) // digits
	return n
}

// TestModuleLoadedLater holds that the commands of a module work at once when it is loaded while the sidecar runs, over all nodes and
// without a redirect: also the one whose keys only the module can tell.
func TestModuleLoadedLater(t *testing.T) {
	module := buildModule(t)
	cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{"enable-module-command yes"}}})
	sidecar := newSidecar(t, cluster.Addrs())
	before := newConn(t, sidecar.Addr(), 2)
	want(t, before, "-ERR unknown command 'X.SET', with args beginning with: 'k' 'v' \r\n", "X.SET", "k", "v")
	if err := cluster.DoAll(t.Context(), "MODULE", "LOAD", module); err != nil {
		t.Fatal(err)
	}
	inBoth(t, func(t *testing.T, protocol int) {
		c := newConn(t, sidecar.Addr(), protocol)
		var raw []byte
		var replies []string
		for i := range 60 {
			key, value := fmt.Sprintf("key%d", i), fmt.Sprintf("value%02d", i)
			for _, args := range [][]string{{"t.set", key, value}, {"T.LAST", "a", "b", key}, {"T.Args", "1", "2"}, {"get", key}} {
				raw = append(raw, harness.Command(args...)...)
			}
			replies = append(replies, "+OK\r\n", "$7\r\n"+value+"\r\n", ":2\r\n", "$7\r\n"+value+"\r\n")
		}
		if err := c.Send(raw); err != nil {
			t.Fatal(err)
		}
		for i, want := range replies {
			if got, err := c.ReadReply(); err != nil || string(got) != want {
				t.Fatalf("reply %d: %q, %v, want %q", i, got, err, want)
			}
		}
		want(t, c, "-ERR wrong number of arguments for 't.last' command\r\n", "T.LAST")
		want(t, c, "+OK\r\n", "MULTI")
		want(t, c, "+QUEUED\r\n", "T.LAST", "a", "key7")
		want(t, c, "+QUEUED\r\n", "GET", "key7")
		want(t, c, "*2\r\n$7\r\nvalue07\r\n$7\r\nvalue07\r\n", "EXEC")
	})
	for _, node := range cluster.Nodes() {
		if n := redirects(t, node); n > 0 {
			t.Errorf("%s has answered %d commands by MOVED", node.Addr(), n)
		}
	}
}

// newMapped starts a sidecar of the user sidecar, with a map of map:*.
func newMapped(t *testing.T, addrs []string) *harness.Sidecar {
	t.Helper()
	return harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%s], username: sidecar, password: \"${PASSWORD}\"}\n", strings.Join(addrs, ", ")) +
			"origins: [{name: main, url: \"${ORIGIN_URL}\"}]\n" +
			"maps: [{name: map, key: \"map:<k:text>\", ttl: 1h, value: column, query: \"SELECT @k::text\"}]\n",
		Env: []string{"PASSWORD=secret", "ORIGIN_URL=" + harness.NewDatabase(t).URL()},
	})
}

// TestWritesWhoseKeysOnlyAModuleKnows holds that such a write ends the lease of a mapped key, whoever sends it, and that it is not sent while
// nobody can tell its keys.
func TestWritesWhoseKeysOnlyAModuleKnows(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{
		"loadmodule " + buildModule(t), "user sidecar on >secret ~* &* +@all", "user app on >secret ~* &* +@all -command",
	}}})
	sidecar := newMapped(t, cluster.Addrs())
	inBoth(t, func(t *testing.T, protocol int) {
		lease := func(t *testing.T, key string, args ...string) string {
			t.Helper()
			name := fmt.Sprintf("readthrough:lease:{%s}:%s", key, key)
			at, err := cluster.Slot(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			node, err := cluster.MasterOf(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			return node.MustDo(t, append([]string{args[0], name}, args[1:]...)...).Str
		}
		for _, user := range []string{"", "app"} {
			c := newConn(t, sidecar.Addr(), protocol)
			if user != "" {
				want(t, c, "+OK\r\n", "AUTH", user, "secret")
			}
			for i := range 6 { // of all nodes
				key := fmt.Sprint("map:", i)
				lease(t, key, "SET", "ttoken")
				want(t, c, "+OK\r\n", "T.PUT", "value", "b", key)
				if got := lease(t, key, "EXISTS"); got != "0" {
					t.Errorf("user %q: the lease of %s is still there", user, key)
				}
				lease(t, key, "SET", "ttoken")
				want(t, c, "+OK\r\n", "MULTI")
				want(t, c, "+QUEUED\r\n", "T.PUT", "value", "b", key)
				want(t, c, "*1\r\n+OK\r\n", "EXEC")
				if got := lease(t, key, "EXISTS"); got != "0" {
					t.Errorf("user %q: the lease of %s is still there after EXEC", user, key)
				}
				want(t, c, "+OK\r\n", "T.PUT", "value", "b", "other")
			}
			want(t, c, "-ERR keys that begin with readthrough:lease: belong to Readthrough\r\n", "T.PUT", "value", "readthrough:lease:{a}:a")
			want(t, c, "-ERR wrong number of arguments for 't.put' command\r\n", "T.PUT")
		}

		if err := cluster.DoAll(t.Context(), "ACL", "SETUSER", "sidecar", "-command|getkeys"); err != nil {
			t.Fatal(err)
		}
		const unknown = "-NOPERM this user has no permissions to run the 'command|getkeys' command (Readthrough asks for the keys that the command writes)\r\n"
		c := newConn(t, sidecar.Addr(), protocol)
		want(t, c, unknown, "T.PUT", "refused", "map:1")
		want(t, c, "+OK\r\n", "MULTI")
		want(t, c, unknown, "T.PUT", "refused", "map:1")
		want(t, c, "-EXECABORT Transaction discarded because of previous errors.\r\n", "EXEC")
		want(t, c, "$5\r\nvalue\r\n", "GET", "map:1")
		want(t, c, "$5\r\nvalue\r\n", "T.LAST", "map:1") // which writes nothing
		if err := cluster.DoAll(t.Context(), "ACL", "SETUSER", "sidecar", "+command"); err != nil {
			t.Fatal(err)
		}
		want(t, c, "+OK\r\n", "T.PUT", "value", "map:1")
	})
}

// TestRenamedCommands holds that what a command is does not hang on its name: one that the server's configuration renames is
// handled as what it is.
func TestRenamedCommands(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{
		"rename-command BLPOP take", "rename-command DEL remove", "rename-command SUBSCRIBE listen", `rename-command KEYS ""`,
		"rename-command FLUSHALL wipe-all", "rename-command CONFIG setup",
	}})
	sidecar := newSidecar(t, []string{redis.Addr()}, "deny: [flushall, setup]")
	inBoth(t, func(t *testing.T, protocol int) {
		c, other := newConn(t, sidecar.Addr(), protocol), newConn(t, sidecar.Addr(), protocol)
		want(t, c, "+OK\r\n", "SET", "k", "v")
		want(t, c, ":1\r\n", "remove", "k")
		want(t, c, "-ERR unknown command 'KEYS', with args beginning with: 'a' \r\n", "KEYS", "a")
		want(t, c, denied("FLUSHALL"), "Wipe-All")
		want(t, c, denied("CONFIG GET"), "SETUP", "GET", "maxmemory")
		// It waits on a connection of its own, which the other client does not share.
		if err := c.Send(harness.Command("TAKE", "list", "0")); err != nil {
			t.Fatal(err)
		}
		want(t, other, ":1\r\n", "RPUSH", "list", "e")
		if got, err := c.ReadReply(); err != nil || string(got) != "*2\r\n$4\r\nlist\r\n$1\r\ne\r\n" {
			t.Errorf("what was taken: %q, %v", got, err)
		}
		if got := c.MustDo(t, "LISTEN", "ch"); !strings.Contains(got, "subscribe\r\n$2\r\nch\r\n:1\r\n") {
			t.Errorf("subscribed: %q", got)
		}
		want(t, other, ":1\r\n", "PUBLISH", "ch", "m")
		if got, err := c.ReadReply(); err != nil || !strings.HasSuffix(string(got), "$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nm\r\n") {
			t.Errorf("message %q, %v", got, err)
		}
	})
}

// TestUnknownCommands holds that a command which does not exist gets Redis's own error, and that Redis is asked about it once: by
// whoever sends it, in any case, as often as they like.
func TestUnknownCommands(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	sidecar := newSidecar(t, []string{redis.Addr()})
	const clients, each = 20, 50
	var conns []*harness.Conn
	for range clients {
		c := newConn(t, sidecar.Addr(), 2)
		var raw []byte
		for range each {
			raw = append(raw, harness.Command("NoSuch", "a")...)
			raw = append(raw, harness.Command("nosuch", "a")...)
		}
		if err := c.Send(raw); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		for i := range 2 * each {
			name := []string{"NoSuch", "nosuch"}[i%2]
			if got, err := c.ReadReply(); err != nil || string(got) != unknown(name) {
				t.Fatalf("reply %d: %q, %v", i, got, err)
			}
		}
	}
	if n := questions(t, redis); n < 1 || n > 2 { // twice if what was unknown before the table came was asked about again
		t.Errorf("Redis was asked %d times", n)
	}
	large := []string{"nolarge", strings.Repeat("v", 2<<20)}
	want(t, conns[0], harness.NewConn(t, redis.Addr()).MustDo(t, large...), large...)
	// Many of them do not keep others from being asked about.
	c := conns[0]
	before := questions(t, redis)
	for i := range 3000 {
		name := fmt.Sprintf("no%d", i)
		want(t, c, unknown(name), name, "a")
	}
	if n := questions(t, redis) - before; n != 3000 {
		t.Errorf("Redis was asked %d times about 3000 names", n)
	}
	for _, name := range []string{"config|set", strings.Repeat("x", 100)} {
		before := questions(t, redis)
		want(t, c, unknown(name), name, "a")
		if after := questions(t, redis); after != before {
			t.Errorf("Redis was asked about %q", name)
		}
	}
}

// TestUnknownWritesOfMappedKeys holds that a command of which Redis cannot be asked what it is is not sent where it might be a write of a mapped
// key, and that it is asked about again.
func TestUnknownWritesOfMappedKeys(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{
		"rename-command APPEND attach", "user sidecar on >secret ~* &* +@all -command|info",
	}})
	c := newConn(t, newMapped(t, []string{redis.Addr()}).Addr(), 2)
	const lease = "readthrough:lease:{map:k}:map:k"
	redis.MustDo(t, "SET", lease, "ttoken")
	for range 3 {
		got := c.MustDo(t, "ATTACH", "map:k", "v")
		if !strings.HasPrefix(got, "-ERR Readthrough does not know this command, and cannot ask Redis what it is: ") || !strings.Contains(got, "NOPERM") {
			t.Errorf("%q", got)
		}
	}
	want(t, c, ":0\r\n", "EXISTS", "map:k")
	want(t, c, "+OK\r\n", "SELECT", "1") // where no map applies
	want(t, c, ":1\r\n", "ATTACH", "k", "v")
	want(t, c, "+OK\r\n", "SELECT", "0")
	redis.MustDo(t, "ACL", "SETUSER", "sidecar", "+command")
	err := harness.Poll(t.Context(), func() error {
		if got := c.MustDo(t, "ATTACH", "map:k", "v"); got != ":1\r\n" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := redis.MustDo(t, "EXISTS", lease).Str; got != "0" {
		t.Error("the lease is still there")
	}
}

// TestUnknownWithoutTheRightToAsk holds that a user who may not use COMMAND is served all the same.
func TestUnknownWithoutTheRightToAsk(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user app on >app-secret ~* &* +@all -command"}})
	sidecar := harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%s], username: app, password: \"${PASSWORD}\"}\n", redis.Addr()),
		Env:    []string{"PASSWORD=app-secret"},
	})
	c := newConn(t, sidecar.Addr(), 2)
	for range 3 {
		want(t, c, unknown("nosuch"), "nosuch", "a")
		want(t, c, "+OK\r\n", "SET", "k", "v")
	}
}

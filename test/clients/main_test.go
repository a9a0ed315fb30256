package clients

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// user is a Redis user besides the default one, with fewer rights.
const user = "user app on >app-secret ~app:* +@read +@write +@connection -@dangerous +info +acl|whoami"

// target is a sidecar before a Redis.
type target struct {
	host, port string
	redis      *harness.Redis // one of those behind it
	cluster    bool
}

func (to target) addr() string { return net.JoinHostPort(to.host, to.port) }

// flush deletes all keys, through the sidecar.
func (to target) flush(t *testing.T) {
	t.Helper()
	if got := harness.NewConn(t, to.addr()).MustDo(t, "FLUSHALL"); got != "+OK\r\n" {
		t.Fatalf("FLUSHALL: %q", got)
	}
}

// many is the length of a long pipeline; large is a value of 64 MiB.
const many = 10_000

var large = strings.Repeat("0123456789abcdef", 4<<20)

// onEach runs a test against a standalone Redis and against a cluster of three masters.
func onEach(t *testing.T, test func(t *testing.T, to target)) {
	t.Run("standalone", func(t *testing.T) {
		redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{user}})
		test(t, newTarget(t, false, redis))
	})
	t.Run("cluster", func(t *testing.T) {
		cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Config: []string{user}}})
		test(t, newTarget(t, true, cluster.Nodes()...))
	})
}

func newTarget(t *testing.T, cluster bool, nodes ...*harness.Redis) target {
	t.Helper()
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr())
	}
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%s]}\n", strings.Join(addrs, ", ")),
	})
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return target{host, port, nodes[0], cluster}
}

// output runs a program, which must succeed, and returns what it prints.
func output(ctx context.Context, t *testing.T, dir, stdin, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed for this test: install it (test/deps.sh does): %v", name, err)
	}
	c := exec.CommandContext(ctx, path, args...)
	c.Dir = dir
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

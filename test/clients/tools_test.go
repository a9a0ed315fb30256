package clients

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"readthrough/test/harness"
)

func TestRedisCLI(t *testing.T) {
	onEach(t, func(t *testing.T, to target) {
		cli := func(stdin string, args ...string) string {
			t.Helper()
			return output(t.Context(), t, "", stdin, "redis-cli", append([]string{"-h", to.host, "-p", to.port}, args...)...)
		}
		equal := func(got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("redis-cli prints %q, want %q", got, want)
			}
		}
		contains := func(got, want string) {
			t.Helper()
			if !strings.Contains(got, want) {
				t.Errorf("redis-cli prints %.300q, which lacks %q", got, want)
			}
		}
		equal(cli("", "SET", "a", "1"), "OK\n")
		equal(cli("", "HSET", "h", "f", "v"), "1\n")
		equal(cli("", "-3", "HGETALL", "h"), "f v\n")
		equal(cli("", "-3", "--no-raw", "HGETALL", "h"), "1# \"f\" => \"v\"\n")
		equal(cli("", "-3", "--no-raw", "GET", "nothing"), "(nil)\n")
		equal(cli("INCR a\nGET a\nNOSUCH\nPING\n"), "2\n2\nERR unknown command 'NOSUCH', with args beginning with: \n\nPONG\n")
		equal(cli("a value", "-x", "SET", "x"), "OK\n")
		equal(cli("", "GET", "x"), "a value\n")
		equal(cli("", "--user", "app", "--pass", "app-secret", "--no-auth-warning", "ACL", "WHOAMI"), "app\n")
		contains(cli("", "--user", "app", "--pass", "wrong", "--no-auth-warning", "PING"), "WRONGPASS")
		contains(cli("", "INFO"), "redis_version:")
		contains(cli("", "INFO", "server"), "redis_mode:")
		contains(cli("", "CONFIG", "GET", "maxmemory"), "maxmemory\n0\n")
		contains(cli("", "COMMAND", "DOCS", "get"), "Get the value of a key")
		contains(cli("", "COMMAND", "DOCS"), "zunionstore")

		var commands strings.Builder
		for i := range 1000 {
			commands.Write(harness.Command("SET", fmt.Sprint("pipe:", i), "v"))
		}
		contains(cli(commands.String(), "--pipe"), "errors: 0, replies: 1000\n")
		equal(cli("", "GET", "pipe:999"), "v\n")

		contains(cli("", "--scan", "--pattern", "pipe:99?"), "pipe:999\n")
		contains(cli("", "--bigkeys"), "Biggest string found")
		contains(cli("", "--memkeys"), "Biggest   hash found")
		equal(cli("MULTI\nSET {t}a 1\nINCR {t}a\nEXEC\nWATCH {t}a\nUNWATCH\nDISCARD\n"), "OK\nQUEUED\nQUEUED\nOK\n2\nOK\nOK\nERR DISCARD without MULTI\n\n")
		equal(cli("", "EVAL", "return {KEYS[1], ARGV[1]}", "1", "k", "x"), "k\nx\n")
		equal(cli("", "-c", "GET", "a"), "2\n")
		equal(cli("", "BLPOP", "nothing", "0.05"), "\n")

		// Those that go on until they are ended.
		stream := func(want string, trigger []string, args ...string) {
			t.Helper()
			p, err := harness.StartProcess(harness.ProcessOptions{Path: "redis-cli", Args: append([]string{"-h", to.host, "-p", to.port}, args...)})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Kill()
			err = harness.Poll(t.Context(), func() error {
				cli("", trigger...)
				if got := p.Output(); !strings.Contains(got, want) {
					return fmt.Errorf("redis-cli %q prints %q, which lacks %q", args, got, want)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		stream("message\nnews\nhello\n", []string{"PUBLISH", "news", "hello"}, "SUBSCRIBE", "news")
		stream("pmessage\nnew*\nnews\nhello\n", []string{"PUBLISH", "news", "hello"}, "PSUBSCRIBE", "new*")
		stream("smessage\nnews\nhello\n", []string{"SPUBLISH", "news", "hello"}, "SSUBSCRIBE", "news")
		stream("message\nnews\nhello\n", []string{"PUBLISH", "news", "hello"}, "-3", "SUBSCRIBE", "news")
		for i := range 6 { // keys on every node
			key := fmt.Sprint("watched:", i)
			stream(fmt.Sprintf(`"SET" "%s" "v"`, key), []string{"SET", key, "v"}, "MONITOR")
		}

		if !to.cluster {
			equal(cli("", "-n", "2", "SET", "in2", "1"), "OK\n")
			equal(cli("", "-n", "2", "GET", "in2"), "1\n")
			equal(cli("", "GET", "in2"), "\n")
		}
	})
}

func TestRedisBenchmark(t *testing.T) {
	onEach(t, func(t *testing.T, to target) {
		for _, pipeline := range []string{"1", "16"} {
			// Without -t it runs all its tests. (With --cluster it refuses a cluster of one node, which is what it is shown.)
			out := output(t.Context(), t, "", "", "redis-benchmark", "-h", to.host, "-p", to.port, "-n", "500", "-c", "20", "-P", pipeline, "-q")
			if strings.Contains(strings.ToLower(out), "error") || strings.Contains(out, "WARNING") {
				t.Errorf("redis-benchmark prints %s", out)
			}
			for _, name := range []string{
				"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP", "ZADD", "ZPOPMIN",
				"LRANGE_100 (first 100 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)",
			} {
				if !strings.Contains(out, name+": ") {
					t.Errorf("redis-benchmark has no result for %s:\n%s", name, out)
				}
			}
		}
	})
}

// TestLocalhost holds that the sidecar is found at localhost by both families, as far as the machine has them.
func TestLocalhost(t *testing.T) {
	to := newTarget(t, false, harness.NewRedis(t, harness.RedisOptions{}))
	hosts := []string{"127.0.0.1"}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		l.Close()
		hosts = append(hosts, "::1")
	}
	for _, host := range hosts {
		if got := harness.NewConn(t, net.JoinHostPort(host, to.port)).MustDo(t, "PING"); got != "+PONG\r\n" {
			t.Errorf("%s: PING answers %q", host, got)
		}
	}
}

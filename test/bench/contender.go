package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"readthrough/test/harness"
)

// contender is one way from a client to Redis.
type contender struct {
	name      string
	addr      string
	processes []cpuTimer // whose CPU time is counted: the proxy, or Redis itself where there is none
	// shards has redis-benchmark find the cluster's nodes by itself, with a thread for each. It then looks at the end of a run only
	// every quarter of a second, so that short runs would seem slow.
	shards bool
	// keys are how many are used, at random; 0 is one key, or with shards one for each client.
	keys    int
	sidecar *harness.Sidecar // nil for the others
}

type cpuTimer interface{ CPUTime() (time.Duration, error) }

// cpu is the CPU time used so far.
func (c *contender) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, p := range c.processes {
		used, err := p.CPUTime()
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// closers are what to close, the latest first.
type closers []func()

func (c *closers) add(f func()) { *c = append(*c, f) }

func (c *closers) close() {
	for i := len(*c) - 1; i >= 0; i-- {
		(*c)[i]()
	}
}

// sidecarConfig is a configuration as in production: GET is intercepted, and the keys of the tests are mapped. The origin is
// asked only for keys that Redis has not.
func sidecarConfig(redis []string, maxConns int) string {
	return fmt.Sprintf(`apiVersion: readthrough/v1
upstream: {addresses: ["%s"]}
log: {level: warn}
origins: [{name: main, url: "${ORIGIN_URL}", pool: {max: %d}}]
intercept: [GET]
maps:
  - {name: relay, key: "key:<id:text>", query: "SELECT @id::text AS id", ttl: 1h, timeout: 5s}
  - {name: account, key: "account:<aid:text>", query: "SELECT aid, bid, abalance FROM pgbench_accounts WHERE aid = @aid", ttl: 1h, timeout: 5s}
  - {name: slow, key: "slow:<aid:int>", query: "SELECT aid, abalance, pg_sleep(0.05)::text AS slept FROM pgbench_accounts WHERE aid = @aid", ttl: 1h, timeout: 5s}
`, strings.Join(redis, `", "`), maxConns)
}

func startSidecar(ctx context.Context, redis []string, originURL string, maxConns int) (*harness.Sidecar, error) {
	return harness.StartSidecar(ctx, harness.SidecarOptions{
		Config: sidecarConfig(redis, maxConns), Env: []string{"ORIGIN_URL=" + originURL},
	})
}

// noOrigin is for where no key is missing: nothing listens there.
const noOrigin = "postgres://nobody@127.0.0.1:1/none"

func sidecarBefore(ctx context.Context, redis []string, keys int, done *closers) (*contender, error) {
	s, err := startSidecar(ctx, redis, noOrigin, 2)
	if err != nil {
		return nil, err
	}
	done.add(s.Close)
	return &contender{name: sidecarName, addr: s.Addr(), processes: []cpuTimer{s}, keys: keys, sidecar: s}, nil
}

// The names of contenders, as the report has them.
const (
	directName    = "direct"
	sidecarName   = "**sidecar**"
	twemproxyName = "twemproxy"
	haproxyName   = "HAProxy"
	predixyName   = "predixy"
)

// proxies are the programs that stand beside the sidecar. The configuration's first %s is where to listen, the second one Redis.
var proxies = map[string]struct {
	debian string // package
	file   string // of the configuration
	config string
	args   func(file string) []string
}{
	twemproxyName: {
		debian: "nutcracker", file: "nutcracker.yml",
		config: "bench:\n  listen: %s\n  redis: true\n  hash: fnv1a_64\n  distribution: modula\n  servers:\n  - %s:1\n",
		args: func(file string) []string {
			_, statistics, _ := net.SplitHostPort(freeAddr())
			return []string{"--conf-file=" + file, "--stats-addr=127.0.0.1", "--stats-port=" + statistics}
		},
	},
	haproxyName: {
		debian: "haproxy", file: "haproxy.cfg",
		config: `global
  nbthread 1
  maxconn 2000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen bench
  bind %s
  server redis %s
`,
		args: func(file string) []string { return []string{"-db", "-f", file} },
	},
	predixyName: {
		file: "predixy.conf",
		config: `Name bench
Bind %s
WorkerThreads 1
Authority {
    Auth {
        Mode write
    }
}
ClusterServerPool {
    Servers {
        + %s
    }
}
`,
		args: func(file string) []string { return []string{file} },
	},
}

// proxyBefore starts a proxy in front of a Redis; path is the program's.
func proxyBefore(ctx context.Context, name, path, redis string, keys int, done *closers) (*contender, error) {
	p := proxies[name]
	dir, err := os.MkdirTemp("", "readthrough-bench-")
	if err != nil {
		return nil, err
	}
	done.add(func() { _ = os.RemoveAll(dir) })
	addr, file := freeAddr(), filepath.Join(dir, p.file)
	if err := os.WriteFile(file, fmt.Appendf(nil, p.config, addr, redis), 0o600); err != nil {
		return nil, err
	}
	process, err := harness.StartProcess(harness.ProcessOptions{Path: path, Args: p.args(file), Dir: dir})
	if err != nil {
		return nil, err
	}
	done.add(process.Kill)
	err = harness.Poll(ctx, func() error {
		if !process.Running() {
			return fmt.Errorf("%s has ended", name)
		}
		c, err := harness.Dial(ctx, addr, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Do("GET", "key")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w\n%s", name, err, process.Output())
	}
	return &contender{name: name, addr: addr, processes: []cpuTimer{process}, keys: keys}, nil
}

// findProxy returns the path of a proxy that Debian has.
func findProxy(name string) (string, error) {
	p := proxies[name]
	path, err := exec.LookPath(p.debian)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + p.debian); err != nil {
			return "", fmt.Errorf("%s is not installed: on Debian or Ubuntu, apt-get install %s", name, p.debian)
		}
	}
	return path, nil
}

// freeAddr is a loopback address on which nothing listens.
func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(fmt.Sprintf("no free loopback port: %v", err))
	}
	defer l.Close()
	return l.Addr().String()
}

// oneRedis starts a Redis and the ways to it.
func oneRedis(ctx context.Context, o options, done *closers) ([]*contender, func() (int, error), error) {
	redis, err := harness.StartRedis(ctx, harness.RedisOptions{})
	if err != nil {
		return nil, nil, err
	}
	done.add(redis.Close)
	s, err := sidecarBefore(ctx, []string{redis.Addr()}, 0, done)
	if err != nil {
		return nil, nil, err
	}
	all := []*contender{{name: directName, addr: redis.Addr(), processes: []cpuTimer{redis}}, s}
	if o.peers {
		for _, name := range []string{twemproxyName, haproxyName} {
			path, err := findProxy(name)
			if err != nil {
				return nil, nil, err
			}
			c, err := proxyBefore(ctx, name, path, redis.Addr(), 0, done)
			if err != nil {
				return nil, nil, err
			}
			all = append(all, c)
		}
	}
	return all, func() (int, error) { return keyspaceMisses(ctx, redis) }, nil
}

// clusterKeys are enough to spread over the nodes, and few enough to be set by a SET before each GET.
const clusterKeys = 1000

// threeMasters starts a Redis Cluster and the ways to it.
func threeMasters(ctx context.Context, o options, done *closers) ([]*contender, func() (int, error), error) {
	cluster, err := harness.StartCluster(ctx, harness.ClusterOptions{})
	if err != nil {
		return nil, nil, err
	}
	done.add(cluster.Close)
	direct := &contender{name: directName, addr: cluster.Addrs()[0], shards: true}
	for _, n := range cluster.Nodes() {
		direct.processes = append(direct.processes, n)
	}
	s, err := sidecarBefore(ctx, cluster.Addrs(), clusterKeys, done)
	if err != nil {
		return nil, nil, err
	}
	if err := setKeys(ctx, s.addr, clusterKeys); err != nil {
		return nil, nil, err
	}
	all := []*contender{direct, s}
	if o.predixy != "" {
		c, err := proxyBefore(ctx, predixyName, o.predixy, cluster.Addrs()[0], clusterKeys, done)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, c)
	}
	return all, func() (int, error) { return keyspaceMisses(ctx, cluster.Nodes()...) }, nil
}

// setKeys sets the keys that redis-benchmark -r uses.
func setKeys(ctx context.Context, addr string, keys int) error {
	c, err := harness.Dial(ctx, addr, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range keys {
		reply, err := c.Do("SET", fmt.Sprintf("key:%012d", i), strings.Repeat("x", valueSize))
		if err == nil && string(reply) != "+OK\r\n" {
			err = fmt.Errorf("SET answers %q", reply)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keyspaceMisses is the number of reads so far that found no key.
func keyspaceMisses(ctx context.Context, nodes ...*harness.Redis) (int, error) {
	sum := 0
	for _, n := range nodes {
		info, err := n.Do(ctx, "INFO", "stats")
		if err != nil {
			return 0, err
		}
		_, rest, found := strings.Cut(info.Str, "keyspace_misses:")
		if !found {
			return 0, errors.New("INFO stats has no keyspace_misses")
		}
		var misses int
		if _, err := fmt.Sscan(rest, &misses); err != nil {
			return 0, err
		}
		sum += misses
	}
	return sum, nil
}

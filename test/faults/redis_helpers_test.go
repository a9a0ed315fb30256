package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

// redisSchema is an origin in which every row is there, and some take a tenth of a second.
const redisSchema = `CREATE FUNCTION slowly(int) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN ''row '' || $1; END'`

// redisMaps are the maps over redisSchema. The first one's keys have hash tags, so that a test can choose their nodes.
const redisMaps = `
maps:
  - {name: item, key: "item:{<tag:text>}:<id:int>", ttl: 1h, timeout: 2s, missing: 0s, value: column, query: "SELECT 'row ' || @id::int"}
  - {name: slow, key: "slow:<id:int>", ttl: 1h, timeout: 5s, value: column, query: "SELECT slowly(@id::int)"}
`

// redisTags are hash tags of three masters of equal shares of the slots.
var redisTags = []string{"a", "b", "c"}

// redisWorld is a Redis Cluster and an origin, before which sidecars run.
type redisWorld struct {
	cluster *harness.Cluster
	db      *harness.Database
}

func newRedisWorld(t *testing.T, o harness.ClusterOptions) *redisWorld {
	t.Helper()
	w := &redisWorld{cluster: harness.NewCluster(t, o), db: harness.NewDatabase(t)}
	w.db.MustExec(t, redisSchema)
	return w
}

// sidecar starts a sidecar whose seeds are all nodes, or the given addresses.
func (w *redisWorld) sidecar(t *testing.T, seeds ...string) *harness.Sidecar {
	t.Helper()
	if seeds == nil {
		seeds = w.cluster.Addrs()
	}
	s := redisSidecar(t, w.db, harness.SidecarOptions{}, seeds...)
	t.Cleanup(func() {
		if strings.Contains(s.Logs(), "panic") {
			t.Errorf("the sidecar has panicked")
		}
	})
	return s
}

func redisSidecar(t *testing.T, db *harness.Database, o harness.SidecarOptions, seeds ...string) *harness.Sidecar {
	t.Helper()
	o.Config = fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%s]%s}\nintercept: [GET, MGET, GETEX]\n"+
		"origins: [{name: main, url: \"${ORIGIN_URL}\", pool: {max: 4}}]\n%s", strings.Join(seeds, ", "), o.Config, redisMaps)
	o.Env = []string{"ORIGIN_URL=" + db.URL(), "REDIS_PASSWORD=secret"}
	return harness.NewSidecar(t, o)
}

// master is the node that serves a hash tag's slot.
func (w *redisWorld) master(t *testing.T, tag string) *harness.Redis {
	t.Helper()
	node, err := w.cluster.MasterOf(t.Context(), w.slot(t, tag))
	redisMust(t, err)
	return node
}

func (w *redisWorld) slot(t *testing.T, tag string) int {
	t.Helper()
	slot, err := w.cluster.Slot(t.Context(), tag)
	redisMust(t, err)
	return slot
}

func redisMust(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// redisConn connects to a sidecar, for commands that may take as long as the slowest of them do.
func redisConn(t *testing.T, s *harness.Sidecar) *harness.Conn {
	t.Helper()
	c := harness.NewConn(t, s.Addr())
	c.Timeout = 40 * time.Second
	return c
}

func redisBulk(value string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value) }

// redisItem is a key of the map item, and redisRow the reply to it.
func redisItem(tag string, id int) string { return fmt.Sprintf("item:{%s}:%d", tag, id) }

func redisRow(id int) string { return redisBulk(fmt.Sprint("row ", id)) }

// redisIs fails the test unless a command is answered so.
func redisIs(t *testing.T, c *harness.Conn, want string, args ...string) {
	t.Helper()
	if got := c.MustDo(t, args...); got != want {
		t.Errorf("%.200q: %.500q, want %.500q", args, got, want)
	}
}

// redisTimed sends a command and tells how long its reply took.
func redisTimed(t *testing.T, c *harness.Conn, args ...string) (reply string, took time.Duration) {
	t.Helper()
	began := time.Now()
	reply = c.MustDo(t, args...)
	return reply, time.Since(began)
}

// redisPoll fails the test when something does not come true, and tells how long it took.
func redisPoll(t *testing.T, ready func() error) time.Duration {
	t.Helper()
	began := time.Now()
	redisMust(t, harness.Poll(t.Context(), ready))
	return time.Since(began)
}

// redisBack waits until every tag can be written and tells how long that took.
func redisBack(t *testing.T, s *harness.Sidecar) time.Duration {
	t.Helper()
	c := redisConn(t, s)
	return redisPoll(t, func() error {
		for _, tag := range redisTags {
			if got := c.MustDo(t, "SET", "plain:{"+tag+"}", "v"); got != "+OK\r\n" {
				return fmt.Errorf("SET: %q", got)
			}
		}
		return nil
	})
}

// redisMetric is the value of a series, 0 where there is none.
func redisMetric(t *testing.T, s *harness.Sidecar, series string) float64 {
	t.Helper()
	for line := range strings.Lines(redisFetch(t, s.AdminURL()+"/metrics")) {
		if text, ok := strings.CutPrefix(line, series+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			redisMust(t, err)
			return value
		}
	}
	return 0
}

func redisFetch(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	redisMust(t, err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	redisMust(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	redisMust(t, err)
	return string(body)
}

// redisMedian is the middle one of some times.
func redisMedian(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// redisGate stands before a Redis and counts who comes.
type redisGate struct {
	addr string

	listener net.Listener
	target   atomic.Pointer[string]
	shut     atomic.Bool // connections are closed as soon as they are made
	count    atomic.Int64
	frozen   atomic.Int64 // connections up to this number pass nothing on
	wg       sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{} // nil when the test has ended
}

func newRedisGate(t *testing.T, target string) *redisGate {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	redisMust(t, err)
	g := &redisGate{addr: l.Addr().String(), listener: l, open: map[net.Conn]struct{}{}}
	g.target.Store(&target)
	g.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			number := g.count.Add(1)
			if g.shut.Load() {
				_ = c.Close()
				continue
			}
			g.wg.Go(func() { g.serve(c, number) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		g.cut()
		g.mu.Lock()
		g.open = nil
		g.mu.Unlock()
		g.wg.Wait()
	})
	return g
}

// close closes the gate, or opens it, and cuts the connections through it.
func (g *redisGate) close(shut bool) {
	g.shut.Store(shut)
	g.cut()
}

func (g *redisGate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.open {
		_ = c.Close()
	}
}

// track has a connection closed by cut; it is false after the test.
func (g *redisGate) track(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		return false
	}
	g.open[c] = struct{}{}
	return true
}

func (g *redisGate) untrack(c net.Conn) {
	_ = c.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, c)
}

func (g *redisGate) serve(client net.Conn, number int64) {
	defer g.untrack(client)
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", *g.target.Load())
	if err != nil {
		return
	}
	defer g.untrack(server)
	if !g.track(client) || !g.track(server) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, redisThawed{server, g, number})
		_ = client.Close()
	})
	_, _ = io.Copy(server, redisThawed{client, g, number})
	_ = server.Close()
	back.Wait()
}

var errRedisIdle = errors.New("not yet")

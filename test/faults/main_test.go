// Package faults holds the tests of what becomes of clients when something else fails, with figures: the origin, Redis, or other clients.
// They run the real program against real servers. Most of it is the program without the race detector, since they measure; the
// limits are generous all the same, for the machine may be busy.
package faults

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(crowdVariable); text != "" {
		os.Exit(crowdMain(text))
	}
	harness.Main(m)
}

// schema is the origin's data.
const schema = `
	CREATE TABLE users (id int PRIMARY KEY, name text);
	INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 20000) n;
	CREATE FUNCTION slowly(text, float) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep($2); RETURN $1; END'`

// user is a map that has a value for every key, and slow one whose queries take longer than they may.
const (
	user = `  - {name: user, key: "user:<id:int>", ttl: 1h, timeout: 1s, value: column, query: "SELECT name FROM users WHERE id = @id"}
`
	slow = `  - {name: slow, key: "slow:<what:text>", ttl: 1h, timeout: 300ms, wait: 600ms, value: column, query: "SELECT slowly(@what, 30) AS answer"}
`
)

// world is a Redis, a database behind a proxy, and a sidecar.
type world struct {
	redis   *harness.Redis
	db      *harness.Database
	proxy   *proxy
	sidecar *harness.Sidecar
}

// newWorld has an origin with settings, such as "pool: {max: 4}", and maps.
func newWorld(t *testing.T, origin, maps string, o harness.SidecarOptions) *world {
	t.Helper()
	w := &world{redis: harness.NewRedis(t, harness.RedisOptions{}), db: harness.NewDatabase(t)}
	w.db.MustExec(t, schema)
	w.proxy = newProxy(t, w.db.Server.Addr())
	o.Config = config(w.redis.Addr(), origin, maps) + o.Config
	o.Env = append(o.Env, "ORIGIN_URL="+w.url())
	w.sidecar = harness.NewSidecar(t, o)
	awaitRedis(t, w.sidecar.Addr())
	return w
}

func config(redis, origin, maps string) string {
	if origin != "" {
		origin = ", " + origin
	}
	return fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%q]}\norigins: [{name: main, url: \"${ORIGIN_URL}\"%s}]\nmaps:\n%s", redis, origin, maps)
}

// url is the database's, by way of the proxy.
func (w *world) url() string {
	return strings.Replace(w.db.URL(), w.db.Server.Addr(), w.proxy.addr, 1)
}

// awaitRedis waits until a sidecar knows Redis.
func awaitRedis(t testing.TB, addr string) {
	t.Helper()
	c := harness.NewConn(t, addr)
	poll(t, func() error {
		if got := c.MustDo(t, "EXISTS", "awaited"); got != ":0\r\n" {
			return fmt.Errorf("EXISTS answers %q", got)
		}
		return nil
	})
}

func poll(t testing.TB, ready func() error) {
	t.Helper()
	if err := harness.Poll(t.Context(), ready); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func bulk(value string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value) }

// replyIs fails the test unless a command is answered so.
func replyIs(t testing.TB, c *harness.Conn, want string, args ...string) {
	t.Helper()
	if got := c.MustDo(t, args...); got != want {
		t.Fatalf("%.200q: %.500q, want %.500q", args, got, want)
	}
}

// replyBegins fails the test unless a command's answer begins so.
func replyBegins(t testing.TB, c *harness.Conn, want string, args ...string) {
	t.Helper()
	if got := c.MustDo(t, args...); !strings.HasPrefix(got, want) {
		t.Fatalf("%.200q: %.500q, want %.500q …", args, got, want)
	}
}

// fetch gets a page.
func fetch(t testing.TB, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	must(t, err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	must(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	must(t, err)
	return string(content)
}

// metric is a line's value in /metrics, 0 where there is none.
func metric(t testing.TB, s *harness.Sidecar, series string) float64 {
	t.Helper()
	for line := range strings.Lines(fetch(t, s.AdminURL()+"/metrics")) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			must(t, err)
			return v
		}
	}
	return 0
}

var goroutineTotal = regexp.MustCompile(`^goroutine profile: total (\d+)`)

// goroutines is how many a sidecar has.
func goroutines(t testing.TB, s *harness.Sidecar) int {
	t.Helper()
	found := goroutineTotal.FindStringSubmatch(fetch(t, s.DebugURL()+"/debug/pprof/goroutine?debug=1"))
	if found == nil {
		t.Fatal("no goroutine profile")
	}
	n, err := strconv.Atoi(found[1])
	must(t, err)
	return n
}

func rss(t testing.TB, s *harness.Sidecar) int64 {
	t.Helper()
	n, err := s.RSS()
	must(t, err)
	return n
}

// peak is the most memory that a sidecar has had, in bytes.
func peak(t testing.TB, s *harness.Sidecar) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid()))
	must(t, err)
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			must(t, err)
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// memoryLimit is what the sidecar has in its pod, in bytes.
const memoryLimit = 128 << 20

// times are how long things took.
type times []time.Duration

func (ts times) median() time.Duration {
	if len(ts) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(ts))
	return sorted[len(sorted)/2]
}

func (ts times) max() time.Duration {
	if len(ts) == 0 {
		return 0
	}
	return slices.Max(ts)
}

func (ts times) String() string {
	return fmt.Sprintf("median %v, max %v of %d", round(ts.median()), round(ts.max()), len(ts))
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// timed sends a command and measures how long its answer takes.
func timed(t testing.TB, c *harness.Conn, args ...string) (got string, took time.Duration) {
	t.Helper()
	began := time.Now()
	got = c.MustDo(t, args...)
	return got, time.Since(began)
}

// witness is a client that meanwhile goes on with what it does, one command at a time.
type witness struct {
	done    chan struct{}
	running sync.WaitGroup
	times   times
	err     error
}

// watch begins to send commands, which must be answered by want each.
func watch(t testing.TB, addr string, next func(i int) (args []string, want string)) *witness {
	t.Helper()
	c := harness.NewConn(t, addr)
	w := &witness{done: make(chan struct{})}
	w.running.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			args, want := next(i)
			began := time.Now()
			got, err := c.Do(args...)
			if err == nil && string(got) != want {
				err = fmt.Errorf("%q is answered by %.200q, want %.200q", args, got, want)
			}
			if err != nil {
				w.err = err
				return
			}
			w.times = append(w.times, time.Since(began))
			select {
			case <-w.done:
				return
			case <-tick.C:
			}
		}
	})
	return w
}

// stop returns how long the answers took. An answer that was wrong fails the test.
func (w *witness) stop(t testing.TB) times {
	t.Helper()
	close(w.done)
	w.running.Wait()
	if w.err != nil {
		t.Error(w.err)
	}
	return w.times
}

// hits asks for a key that Redis has.
func hits(int) ([]string, string) { return []string{"GET", "user:1"}, bulk("user 1") }

// size is the first number, or the second at full length.
func size(short, long int) int {
	if harness.Long() {
		return long
	}
	return short
}

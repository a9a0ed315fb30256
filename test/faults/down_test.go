package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"readthrough/test/harness"
)

// old is a map whose values are past their time soon and stay.
const old = `  - {name: old, key: "old:<id:int>", ttl: 100ms, jitter: 0%, stale: 1h, timeout: 1s, value: column, query: "SELECT name FROM users WHERE id = @id"}
`

// takeConnections takes all connections that a server has, and returns what gives them back.
func takeConnections(t *testing.T, url string) (giveBack func()) {
	t.Helper()
	var taken []*pgx.Conn
	giveBack = func() {
		for _, c := range taken {
			_ = c.Close(context.WithoutCancel(t.Context()))
		}
		taken = nil
	}
	t.Cleanup(func() { giveBack() })
	poll(t, func() error {
		c, err := pgx.Connect(t.Context(), url)
		if err == nil {
			taken = append(taken, c)
			return errors.New("there is another one")
		}
		if !strings.Contains(err.Error(), "53300") {
			t.Fatal(err)
		}
		return nil
	})
	return giveBack
}

// The origin cannot be connected to, in each of the ways in which that happens: after the stated number of failures its GETs are
// answered at once, hits and stale values go on, and it is found again.
func TestTheOriginIsDown(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name  string
		own   bool // has a server of its own
		begin func(*testing.T, *proxy, *harness.Postgres) (end func())
	}{
		{"refuses", false, func(t *testing.T, p *proxy, _ *harness.Postgres) func() {
			p.refuse()
			return func() { p.listen(t) }
		}},
		{"resets", false, func(_ *testing.T, p *proxy, _ *harness.Postgres) func() {
			p.set(reset)
			p.cut()
			return func() { p.set(pass) }
		}},
		{"says nothing", false, func(_ *testing.T, p *proxy, _ *harness.Postgres) func() {
			p.set(silent)
			p.cut()
			return func() { p.set(pass); p.cut() }
		}},
		{"no connections left", true, func(t *testing.T, p *proxy, pg *harness.Postgres) func() {
			p.cut()
			return takeConnections(t, pg.URL("postgres"))
		}},
		{"ends", true, func(t *testing.T, _ *proxy, pg *harness.Postgres) func() {
			pg.Stop()
			return func() { must(t, pg.Restart(t.Context())) }
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			var pg *harness.Postgres
			var url string
			if fault.own {
				pg = harness.NewPostgres(t, harness.PostgresOptions{Config: []string{
					"max_connections = 8", "superuser_reserved_connections = 0", "max_wal_senders = 0", "autovacuum = off",
				}})
				must(t, pg.Exec(t.Context(), "postgres", schema))
				url = pg.URL("postgres")
			} else {
				db := harness.NewDatabase(t)
				db.MustExec(t, schema)
				pg, url = db.Server, db.URL()
			}
			proxy := newProxy(t, pg.Addr())
			url = strings.Replace(url, pg.Addr(), proxy.addr, 1) + "&connect_timeout=1"
			redis := harness.NewRedis(t, harness.RedisOptions{})
			s := harness.NewSidecar(t, harness.SidecarOptions{
				Config: config(redis.Addr(), "breaker: {failures: 5, pause: 100ms}", user+old), Env: []string{"ORIGIN_URL=" + url}, Plain: true,
			})
			awaitRedis(t, s.Addr())
			c := harness.NewConn(t, s.Addr())
			replyIs(t, c, bulk("user 1"), "GET", "user:1")
			replyIs(t, c, bulk("user 7"), "GET", "old:7")
			end := fault.begin(t, proxy, pg)
			hit := watch(t, s.Addr(), hits)

			// The breaker opens.
			failures, slowest := 0, time.Duration(0)
			id := 1000
			for ; ; id++ {
				got, took := timed(t, c, "GET", fmt.Sprint("user:", id))
				if strings.Contains(got, " has failed 5 times in a row: ") {
					break
				}
				if !strings.HasPrefix(got, "-ORIGIN") || failures > 20 {
					t.Fatalf("GET %d answers %q", failures+1, got)
				}
				failures++
				slowest = max(slowest, took)
			}
			if failures != 5 && fault.name != "says nothing" { // attempts that have not failed yet are no failures
				t.Errorf("%d GETs were tried, want 5", failures)
			}

			// It answers at once, but for a probe now and then.
			var refused, probes times
			for range size(300, 3000) {
				id++
				got, took := timed(t, c, "GET", fmt.Sprint("user:", id))
				switch {
				case strings.HasPrefix(got, "-ORIGINDOWN map user: origin main has failed "):
					refused = append(refused, took)
				case strings.HasPrefix(got, "-ORIGINDOWN map user: cannot connect to origin main"):
					probes = append(probes, took)
				default:
					t.Fatalf("GET answers %q", got)
				}
			}
			if refused.median() > 50*time.Millisecond || len(probes) > len(refused)/10 {
				t.Errorf("refused: %v; probes: %v", refused, probes)
			}

			// A value that is past its time is served on, and not renewed.
			poll(t, func() error {
				for range 64 { // of which the origin hears a sample
					replyIs(t, c, bulk("user 7"), "GET", "old:7")
				}
				if metric(t, s, `readthrough_renewals_total{map="old",outcome="failed"}`) == 0 {
					return errors.New("nobody has tried to renew the value")
				}
				return nil
			})
			if open := metric(t, s, `readthrough_origin_breaker_open{origin="main"}`); open != 1 {
				t.Errorf("readthrough_origin_breaker_open is %v", open)
			}

			end()
			began := time.Now()
			poll(t, func() error {
				id++
				if got := c.MustDo(t, "GET", fmt.Sprint("user:", id)); got != bulk(fmt.Sprint("user ", id)) {
					return fmt.Errorf("GET answers %q", got)
				}
				return nil
			})
			back := time.Since(began)
			for range 10 {
				id++
				replyIs(t, c, bulk(fmt.Sprint("user ", id)), "GET", fmt.Sprint("user:", id))
			}
			t.Logf("%d GETs are tried, each for up to %v; refused: %v; probes: %v; hits: %v; found again after %v",
				failures, round(slowest), refused, probes, hit.stop(t), round(back))
			if log := s.Logs(); !strings.Contains(log, "the origin is left alone") || !strings.Contains(log, "the origin answers again") {
				t.Error("the log does not tell of the breaker")
			}
		})
	}
}

// Ten pods lose the origin at the same moment, while their clients go on asking. They try seldom, and not together.
func TestPodsDoNotReconnectTogether(t *testing.T) {
	t.Parallel()
	const pods = 10
	redis, db := harness.NewRedis(t, harness.RedisOptions{}), harness.NewDatabase(t)
	db.MustExec(t, schema)
	var proxies [pods]*proxy
	sidecars := make([]*harness.Sidecar, pods)
	var starting errgroup.Group
	for i := range sidecars {
		proxies[i] = newProxy(t, db.Server.Addr())
		env := []string{"ORIGIN_URL=" + strings.Replace(db.URL(), db.Server.Addr(), proxies[i].addr, 1)}
		starting.Go(func() (err error) {
			sidecars[i], err = harness.StartSidecar(t.Context(), harness.SidecarOptions{Config: config(redis.Addr(), "", user), Env: env, Plain: true})
			return err
		})
	}
	err := starting.Wait()
	defer func() {
		for _, s := range sidecars {
			if s != nil {
				s.Kill()
				s.Close()
			}
		}
	}()
	must(t, err)

	var next atomic.Int64
	var back [pods]atomic.Int64 // answers of the origin
	var ending atomic.Bool
	var asking sync.WaitGroup
	for i, s := range sidecars {
		awaitRedis(t, s.Addr())
		for range 2 {
			c := harness.NewConn(t, s.Addr())
			asking.Go(func() {
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for !ending.Load() {
					got, err := c.Do("GET", fmt.Sprint("user:", 1+next.Add(1)%20000))
					switch {
					case err != nil:
						t.Error(err)
						return
					case got[0] == '$':
						back[i].Add(1)
					case !slices.ContainsFunc([]string{"-ORIGINDOWN ", "-ORIGINERR ", "-ORIGINTIMEOUT "}, func(code string) bool { return strings.HasPrefix(string(got), code) }):
						t.Errorf("GET answers %q", got)
					}
					<-tick.C
				}
			})
		}
	}
	all := func() error {
		for i := range back {
			if back[i].Load() == 0 {
				return fmt.Errorf("pod %d has no answer of the origin", i)
			}
		}
		return nil
	}
	defer asking.Wait()
	defer ending.Store(true)
	poll(t, all)

	began := time.Now()
	for _, p := range proxies {
		p.set(reset)
		p.cut()
	}
	down := time.Duration(size(5, 30)) * time.Second
	poll(t, func() error {
		if time.Since(began) < down {
			return errors.New("it is down")
		}
		return nil
	})
	ended := time.Now()
	var attempts []time.Time
	for _, p := range proxies {
		var last time.Time
		for _, at := range p.since(began) {
			if at.Sub(last) > 5*time.Millisecond { // the driver makes two of some
				attempts = append(attempts, at)
			}
			last = at
		}
	}
	slices.SortFunc(attempts, time.Time.Compare)
	for i := range back {
		back[i].Store(0)
	}
	for _, p := range proxies {
		p.set(pass)
	}
	poll(t, all)
	found := time.Since(ended)
	connections := 0
	for _, p := range proxies {
		connections += len(p.since(ended))
	}

	perSecond := make([]int, down/time.Second)
	for _, at := range attempts {
		if s := int(at.Sub(began) / time.Second); s < len(perSecond) {
			perSecond[s]++
		}
	}
	// The first attempts begin together, with the fault.
	later := slices.DeleteFunc(slices.Clone(attempts), func(at time.Time) bool { return at.Sub(began) < 2*time.Second })
	const window = 20 * time.Millisecond
	most := 0
	for i, at := range later {
		n := 1
		for ; i+n < len(later) && later[i+n].Sub(at) < window; n++ {
		}
		most = max(most, n)
	}
	t.Logf("attempts of %d pods in each second: %v; at most %d within %v after two seconds; all have found the origin again after %v; %d connections in that time",
		pods, perSecond, most, window, round(found), connections)
	if most > pods/2 {
		t.Errorf("%d attempts of %d pods within %v", most, pods, window)
	}
	for s, n := range perSecond {
		if limit := 12 * pods; s == 0 && n > limit || s > 0 && n > 4*pods {
			t.Errorf("%d attempts in second %d", n, s)
		}
	}
	if found > 45*time.Second {
		t.Errorf("the origin was found again after %v", found)
	}
}

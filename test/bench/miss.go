package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"readthrough/test/harness"
)

const (
	// missConns is the sidecar's pool.max, and so the most queries at a time; pgbench has as many clients.
	missConns = 16

	// A stampede is so many clients that ask so many sidecars for one missing key at a time.
	stampedeClients  = 1000
	stampedeSidecars = 3

	missDatabase = "postgres"
)

// missClients are the numbers of clients of the sidecar: as many as connections, and enough to keep these busy.
var missClients = []int{missConns, 4 * missConns}

// missResult are the outcomes of the path of a miss.
type missResult struct {
	accounts int
	names    []string // of what was measured, in order
	clients  map[string]int
	samples  map[string][]missSample

	stampedes []int // queries that each stampede has cost the origin
}

// missSample is one run.
type missSample struct {
	rate     float64       // misses, or transactions, per second
	cpu      time.Duration // of the sidecar, or of pgbench, for each
	postgres time.Duration // CPU time of PostgreSQL, for each
}

// measureMisses measures the path of a miss.
func measureMisses(ctx context.Context, o options, r *report) error {
	rates, stampede := o.wants("miss/rate"), o.wants("miss/stampede")
	if !rates && !stampede {
		return nil
	}
	var done closers
	defer done.close()
	o.say("miss: loading %d accounts", o.scale*100_000)
	m, err := startMissBench(ctx, o, &done)
	if err != nil {
		return err
	}
	r.miss = &missResult{accounts: o.scale * 100_000, clients: map[string]int{}, samples: map[string][]missSample{}}
	if rates {
		if err := m.measureRates(ctx, o, r.miss); err != nil {
			return fmt.Errorf("misses: %w", err)
		}
	}
	if stampede {
		if err := m.measureStampedes(ctx, o, r.miss, &done); err != nil {
			return fmt.Errorf("stampede: %w", err)
		}
	}
	return nil
}

// missBench is what the path of a miss runs through.
type missBench struct {
	postgres *harness.Postgres
	conn     *pgx.Conn
	redis    *harness.Cluster
}

func startMissBench(ctx context.Context, o options, done *closers) (*missBench, error) {
	postgres, err := harness.StartPostgres(ctx, harness.PostgresOptions{Config: []string{
		"max_connections = 200", "shared_buffers = 256MB", "shared_preload_libraries = 'pg_stat_statements'",
	}})
	if err != nil {
		return nil, err
	}
	done.add(postgres.Close)
	var output bytes.Buffer
	if err := postgres.PgbenchInit(ctx, missDatabase, o.scale, &output); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, output.Bytes())
	}
	if err := postgres.Exec(ctx, missDatabase, "CREATE EXTENSION pg_stat_statements"); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, postgres.URL(missDatabase))
	if err != nil {
		return nil, err
	}
	done.add(func() { _ = conn.Close(context.Background()) })
	redis, err := harness.StartCluster(ctx, harness.ClusterOptions{})
	if err != nil {
		return nil, err
	}
	done.add(redis.Close)
	return &missBench{postgres, conn, redis}, nil
}

// queries is how often PostgreSQL has run the query whose text holds a word.
func (m *missBench) queries(ctx context.Context, word string) (n int, err error) {
	err = m.conn.QueryRow(ctx, `SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
		WHERE strpos(query, $1) > 0 AND strpos(query, 'row_to_json') > 0`, word).Scan(&n)
	return n, err
}

// measureRates compares misses with what pgbench gets out of the same server.
func (m *missBench) measureRates(ctx context.Context, o options, result *missResult) error {
	s, err := startSidecar(ctx, m.redis.Addrs(), m.postgres.URL(missDatabase), missConns)
	if err != nil {
		return err
	}
	defer s.Close()
	through := &contender{name: sidecarName, addr: s.Addr(), processes: []cpuTimer{s}, keys: result.accounts, sidecar: s}

	const reference = "pgbench -S"
	result.names, result.clients[reference] = []string{reference}, missConns
	estimates := map[string]float64{}
	for _, clients := range missClients {
		name := fmt.Sprintf("%s, %d clients", sidecarName, clients)
		result.names = append(result.names, name)
		result.clients[name] = clients
		first, err := m.misses(ctx, through, clients, max(clients, o.warmUp/10))
		if err != nil {
			return err
		}
		estimates[name] = first.rate
	}
	for round := range o.rounds {
		o.say("miss: round %d of %d", round+1, o.rounds)
		for _, name := range result.names {
			var sample missSample
			var err error
			if name == reference {
				sample, err = m.transactions(ctx, missConns, o.duration)
			} else {
				// A key drawn twice is a hit: few enough keys are drawn that this is rare.
				n := min(max(result.clients[name], int(estimates[name]*o.duration.Seconds())), result.accounts/20)
				sample, err = m.misses(ctx, through, result.clients[name], n)
			}
			if err != nil {
				return err
			}
			result.samples[name] = append(result.samples[name], sample)
		}
	}
	return nil
}

// transactions runs pgbench.
func (m *missBench) transactions(ctx context.Context, clients int, duration time.Duration) (missSample, error) {
	before, err := treeCPU(m.postgres.Pid())
	if err != nil {
		return missSample{}, err
	}
	s, n, err := pgbench(ctx, m.postgres.URL(missDatabase), clients, duration)
	if err != nil {
		return missSample{}, err
	}
	after, err := treeCPU(m.postgres.Pid())
	return missSample{rate: s.rate, cpu: s.cpu, postgres: (after - before) / time.Duration(n)}, err
}

// misses empties Redis and sends n GETs of random keys. What counts are the queries that PostgreSQL has run.
func (m *missBench) misses(ctx context.Context, through *contender, clients, n int) (missSample, error) {
	if err := m.redis.DoAll(ctx, "FLUSHALL"); err != nil {
		return missSample{}, err
	}
	queries, err := m.queries(ctx, "bid")
	if err != nil {
		return missSample{}, err
	}
	before, err := treeCPU(m.postgres.Pid())
	if err != nil {
		return missSample{}, err
	}
	s, err := drive(ctx, through, workload{command: "GET", key: "account:__rand_int__", clients: clients, pipeline: 1}, n)
	if err != nil {
		return missSample{}, err
	}
	after, err := treeCPU(m.postgres.Pid())
	if err != nil {
		return missSample{}, err
	}
	now, err := m.queries(ctx, "bid")
	if err != nil {
		return missSample{}, err
	}
	loads := now - queries
	if loads < n*9/10 {
		return missSample{}, fmt.Errorf("%d GETs of missing keys have cost %d queries only", n, loads)
	}
	share := float64(loads) / float64(n)
	return missSample{
		rate: s.rate * share, cpu: time.Duration(float64(s.cpu) / share), postgres: (after - before) / time.Duration(loads),
	}, nil
}

// measureStampedes has a thousand clients ask for one missing key at once, whose query takes 50 ms, and counts the queries.
func (m *missBench) measureStampedes(ctx context.Context, o options, result *missResult, done *closers) error {
	o.say("miss: stampedes")
	var conns []*harness.Conn
	var sidecars []*harness.Sidecar
	for range stampedeSidecars {
		s, err := startSidecar(ctx, m.redis.Addrs(), m.postgres.URL(missDatabase), 2)
		if err != nil {
			return err
		}
		done.add(s.Close)
		sidecars = append(sidecars, s)
	}
	for i := range stampedeClients {
		c, err := harness.Dial(ctx, sidecars[i%stampedeSidecars].Addr(), nil)
		if err != nil {
			return err
		}
		done.add(func() { _ = c.Close() })
		conns = append(conns, c)
	}
	for i := range o.rounds {
		before, err := m.queries(ctx, "pg_sleep")
		if err != nil {
			return err
		}
		command := harness.Command("GET", "slow:"+strconv.Itoa(i+1))
		want := fmt.Sprintf(`{"aid":%d,"abalance":0,"slept":""}`, i+1)
		var clients errgroup.Group
		begin := make(chan struct{})
		for _, c := range conns {
			clients.Go(func() error {
				<-begin
				if err := c.Send(command); err != nil {
					return err
				}
				reply, err := c.ReadReply()
				if err == nil && !strings.Contains(string(reply), want) {
					err = fmt.Errorf("GET answers %q", reply)
				}
				return err
			})
		}
		close(begin)
		if err := clients.Wait(); err != nil {
			return err
		}
		after, err := m.queries(ctx, "pg_sleep")
		if err != nil {
			return err
		}
		result.stampedes = append(result.stampedes, after-before)
	}
	return nil
}

// treeCPU is the CPU time of a process, of its children, and of those that it has outlived. Many children that have done little
// each are counted in nanoseconds: the steps of 10 ms, in which the kernel tells what ended children have used, would hide them.
func treeCPU(pid int) (time.Duration, error) {
	const tick = time.Second / 100 // USER_HZ
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	found := false
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil { // it has ended meanwhile
			continue
		}
		// The name in parentheses may hold spaces. Behind it: state, ppid, …, cutime and cstime at 13 and 14.
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		self := filepath.Base(filepath.Dir(file)) == strconv.Itoa(pid)
		if len(f) < 15 || !self && f[1] != strconv.Itoa(pid) {
			continue
		}
		var nanoseconds, user, system int64
		if schedstat, err := os.ReadFile(file[:len(file)-len("stat")] + "schedstat"); err != nil {
			continue
		} else if _, err := fmt.Sscan(string(schedstat), &nanoseconds); err != nil {
			return 0, err
		}
		sum += time.Duration(nanoseconds)
		if self {
			found = true
			if _, err := fmt.Sscan(f[13]+" "+f[14], &user, &system); err != nil {
				return 0, err
			}
			sum += time.Duration(user+system) * tick
		}
	}
	if !found {
		return 0, fmt.Errorf("no CPU time of process %d in /proc", pid)
	}
	return sum, nil
}

package faults

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"readthrough/test/harness"
)

// How long answers may take here. They are far above what is measured, and below what would be wrong.
const (
	redisSoon   = 1500 * time.Millisecond // for what is to be answered at once, or within a quarter of a second
	redisBudget = 3 * time.Second         // how long commands wait for Redis
)

// Redis is down, or one master of it: mapped GETs are answered by the origin, within a bound and for the sidecar's own user alone; other
// commands are errors, when their budget is over and then at once. When Redis is back, so is all.
func TestRedisIsDown(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(map[bool]string{false: "one master", true: "all"}[all], func(t *testing.T) {
			t.Parallel()
			w := newRedisWorld(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{
				Config: []string{"user app on >secret ~* +@all", "cluster-require-full-coverage no"},
			}})
			s := w.sidecar(t)
			c, own, waits := redisConn(t, s), redisConn(t, s), redisConn(t, s)
			redisIs(t, own, "+OK\r\n", "AUTH", "app", "secret")
			redisBack(t, s)
			dead := []*harness.Redis{w.master(t, "a")}
			if all {
				dead = w.cluster.Nodes()
			}
			for _, n := range dead {
				n.Kill()
			}

			// Commands that Redis alone can answer wait as long as they may; meanwhile the origin stands in.
			began := time.Now()
			redisMust(t, waits.Send(harness.Command("SET", "plain:{a}", "v")))
			var times []time.Duration
			for i := range 50 {
				reply, took := redisTimed(t, c, "GET", redisItem("a", i))
				if reply != redisRow(i) || took > redisSoon {
					t.Errorf("GET: %q after %v", reply, took)
				}
				times = append(times, took)
			}
			first, most := times[0], redisMedian(times)
			redisIs(t, c, "*2\r\n"+redisRow(1)+redisRow(2), "MGET", redisItem("a", 1), redisItem("a", 2))
			raw, err := waits.ReadReply()
			budget := time.Since(began)
			if err != nil || !strings.HasPrefix(string(raw), "-UPSTREAMDOWN Redis at ") {
				t.Errorf("SET: %q, %v", raw, err)
			}
			if budget < redisBudget-time.Second || budget > redisBudget+redisSoon {
				t.Errorf("SET was answered after %v, want about %v", budget, redisBudget)
			}
			var failing []time.Duration
			for range 20 {
				reply, took := redisTimed(t, waits, "SET", "plain:{a}", "v")
				if !strings.HasPrefix(reply, "-UPSTREAMDOWN ") || took > redisSoon {
					t.Errorf("SET: %q after %v", reply, took)
				}
				failing = append(failing, took)
			}
			if got := own.MustDo(t, "GET", redisItem("a", 1)); !strings.HasPrefix(got, "-UPSTREAM") {
				t.Errorf("a client's own user is answered %q", got)
			}
			if !all {
				redisIs(t, c, "+OK\r\n", "SET", "plain:{b}", "v")
				redisIs(t, c, redisRow(1), "GET", redisItem("b", 1))
			}
			bound := w.failOpenBound(t, s)
			t.Logf("GET by the origin: first %v, median %v; SET: first error after %v, then %v; 8 loads of 100ms at once took %v",
				first, most, budget, redisMedian(failing), bound)

			for _, n := range dead {
				redisMust(t, n.Restart(t.Context()))
			}
			alone, through := w.recovery(t, s)
			t.Logf("since it runs again, Redis itself serves after %v, the sidecar after %v", alone, through)
			if through > alone+redisSoon {
				t.Error("the sidecar has not found it soon enough")
			}
			if got := w.master(t, "a").MustDo(t, "EXISTS", redisItem("a", 1)).Str; got != "0" {
				t.Error("what the origin answered meanwhile was filled in")
			}
			redisIs(t, c, redisRow(1), "GET", redisItem("a", 1))
			if got := w.master(t, "a").MustDo(t, "GET", redisItem("a", 1)).Str; got != "row 1" {
				t.Errorf("after it, Redis has %q", got)
			}
			if got := redisMetric(t, s, "readthrough_failopen_total"); got < 52 {
				t.Errorf("%v keys are counted as answered by the origin", got)
			}
		})
	}
}

// recovery tells how long it takes until Redis itself takes a write to each master, and until the sidecar does.
func (w *redisWorld) recovery(t *testing.T, s *harness.Sidecar) (alone, through time.Duration) {
	t.Helper()
	began := time.Now()
	var beside sync.WaitGroup
	beside.Go(func() {
		err := harness.Poll(t.Context(), func() error {
			for _, tag := range redisTags {
				if err := w.write(t, "direct:{"+tag+"}"); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		alone = time.Since(began)
	})
	redisBack(t, s)
	through = time.Since(began)
	beside.Wait()
	return alone, through
}

// write writes a key on whichever node takes it.
func (w *redisWorld) write(t *testing.T, key string) (err error) {
	for _, n := range w.cluster.Nodes() {
		if _, err = n.Do(t.Context(), "SET", key, "v"); err == nil {
			return nil
		}
	}
	return err
}

// failOpenBound has eight clients miss keys whose loads take a tenth of a second, and tells how long that takes: with failOpen.max of
// one, all of these one after the other.
func (w *redisWorld) failOpenBound(t *testing.T, s *harness.Sidecar) time.Duration {
	t.Helper()
	const clients = 8
	var keys []string // of nodes that are down
	c := redisConn(t, s)
	for i := 0; len(keys) < clients; i++ {
		key := fmt.Sprint("slow:", i)
		if strings.HasPrefix(c.MustDo(t, "GET", "plain:{"+key+"}"), "-") {
			keys = append(keys, key)
		}
	}
	var all sync.WaitGroup
	began := time.Now()
	for _, key := range keys {
		c := redisConn(t, s)
		all.Go(func() {
			got, err := c.Do("GET", key)
			if want := redisBulk("row " + strings.TrimPrefix(key, "slow:")); err != nil || string(got) != want {
				t.Errorf("GET: %q, %v", got, err)
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	if took < clients*100*time.Millisecond {
		t.Errorf("%d loads of 100ms took %v: they were not one after the other", clients, took)
	}
	return took
}

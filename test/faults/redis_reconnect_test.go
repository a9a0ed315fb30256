package faults

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

// Many sidecars, whose many clients go on asking, do not run at a Redis that is down or comes back: each tries now and then, and connects
// once when it can.
func TestRedisIsNotRunAt(t *testing.T) {
	t.Parallel()
	const sidecars, clients = 10, 40
	redis, db := harness.NewRedis(t, harness.RedisOptions{}), harness.NewDatabase(t)
	db.MustExec(t, redisSchema)
	gate := newRedisGate(t, redis.Addr())
	var ending atomic.Bool
	var asking sync.WaitGroup
	var served, asked atomic.Int64
	var all []*harness.Sidecar
	for range sidecars {
		s := redisSidecar(t, db, harness.SidecarOptions{Plain: true}, gate.addr)
		all = append(all, s)
		for i := range clients {
			c := redisConn(t, s)
			asking.Go(func() {
				for !ending.Load() {
					args := []string{"SET", "plain", "v"}
					if i%2 == 0 {
						args = []string{"GET", redisItem("a", i)}
					}
					got, err := c.Do(args...)
					if err != nil {
						t.Error(err)
						return
					}
					asked.Add(1)
					if !strings.HasPrefix(string(got), "-") {
						served.Add(1)
					}
				}
			})
		}
	}
	defer asking.Wait()
	defer ending.Store(true)
	wait := func(d time.Duration) { // lets the clients go on for a while
		for end := time.Now().Add(d); time.Now().Before(end); {
			n := asked.Load()
			redisPoll(t, func() error {
				if asked.Load() == n {
					return errRedisIdle
				}
				return nil
			})
		}
	}
	wait(100 * time.Millisecond)

	gate.close(true)
	var perSecond []int64
	for range 4 {
		before := gate.count.Load()
		wait(time.Second)
		perSecond = append(perSecond, gate.count.Load()-before)
	}
	t.Logf("%d sidecars with %d clients each try to connect, in each second of an outage: %v times", sidecars, clients, perSecond)
	for i, n := range perSecond {
		if most := int64(sidecars * 60); n > most {
			t.Errorf("in second %d, more than %d", i, most)
		}
	}

	before := gate.count.Load()
	gate.close(false)
	began := time.Now()
	for _, s := range all {
		c := redisConn(t, s)
		redisPoll(t, func() error {
			if got := c.MustDo(t, "SET", "plain", "v"); got != "+OK\r\n" {
				return errRedisIdle
			}
			return nil
		})
	}
	took := time.Since(began)
	wait(time.Second)
	connected := gate.count.Load() - before
	t.Logf("all are back %v after Redis, with %d connections", took, connected)
	// One for the clients' commands, and one for the sidecar's own.
	if connected > 3*sidecars || took > redisSoon {
		t.Error("these are too many, or it took too long")
	}
}

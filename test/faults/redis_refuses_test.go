package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"readthrough/test/harness"
)

// Redis answers and refuses to write, or to let the sidecar lease: values are loaded all the same and not filled in, within the bound of
// loads that Redis does not protect. It is counted, and said once in the log, with the rule that is missing where that is why.
func TestRedisRefuses(t *testing.T) {
	const rule = "~readthrough:lease:* +del +eval +evalsha +exists +get +pttl +set +time +unlink"
	for _, test := range []struct {
		name string
		turn func(t *testing.T, r *harness.Redis, on bool)
		says string
	}{
		{"OOM", redisSetting("maxmemory", "1", "0"), "OOM command not allowed"},
		{"NOREPLICAS", redisSetting("min-replicas-to-write", "1", "0"), "NOREPLICAS"},
		{"MISCONF", redisFailsToSave, "MISCONF"},
		{"READONLY", func(t *testing.T, r *harness.Redis, on bool) {
			if on { // of a master that does not answer: what it has stays as it is
				r.MustDo(t, "REPLICAOF", "127.0.0.1", "1")
			} else {
				r.MustDo(t, "REPLICAOF", "NO", "ONE")
			}
		}, "READONLY"},
		{"NOPERM on the lease", redisRights("resetkeys", "~item:*", "~slow:*", "~plain*"), rule},
		{"NOPERM on scripts", redisRights("-@scripting"), rule},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			redis, db := harness.NewRedis(t, harness.RedisOptions{}), harness.NewDatabase(t)
			db.MustExec(t, redisSchema)
			redis.MustDo(t, "ACL", "SETUSER", "sidecar", "on", ">secret", "~*", "&*", "+@all")
			s := redisSidecar(t, db, harness.SidecarOptions{Config: ", username: sidecar, password: \"${REDIS_PASSWORD}\""}, redis.Addr())
			c := redisConn(t, s)
			redisIs(t, c, "+OK\r\n", "SET", "plain", "v")

			test.turn(t, redis, true)
			refused := 0
			for i := range 20 {
				redisIs(t, c, redisRow(i), "GET", redisItem("a", i))
				refused++
			}
			redisIs(t, c, redisRow(1), "GET", redisItem("a", 1)) // again: it was not filled in
			refused++
			redisIs(t, c, redisBulk("v"), "GET", "plain")
			if got := redis.MustDo(t, "DBSIZE").Str; got != "1" {
				t.Errorf("Redis has %s keys", got)
			}
			if got := redisMetric(t, s, `readthrough_leases_total{map="item",outcome="refused"}`); got != float64(refused) {
				t.Errorf("%v refusals are counted, want %d", got, refused)
			}
			if took := redisLoadsApart(t, s); took < 8 {
				t.Errorf("eight loads of 100ms took %d00ms: they were not one after the other", took)
			}
			const message = "Redis refuses leases"
			if n := strings.Count(s.Logs(), message); n != 1 {
				t.Errorf("the log says it %d times", n)
			}
			for line := range strings.Lines(s.Logs()) {
				if strings.Contains(line, message) && !strings.Contains(line, test.says) {
					t.Errorf("the log lacks %q: %s", test.says, line)
				}
			}

			test.turn(t, redis, false)
			took := redisPoll(t, func() error {
				redisIs(t, c, redisRow(1), "GET", redisItem("a", 1))
				if redis.MustDo(t, "EXISTS", redisItem("a", 1)).Str != "1" {
					return errRedisIdle
				}
				return nil
			})
			t.Logf("filled in again after %v", took)
		})
	}
}

// redisLoadsApart has eight clients miss keys whose loads take a tenth of a second, and tells how many of those that took.
func redisLoadsApart(t *testing.T, s *harness.Sidecar) (tenths int) {
	t.Helper()
	var all sync.WaitGroup
	took := redisPoll(t, func() error {
		for i := range 8 {
			c := redisConn(t, s)
			all.Go(func() {
				if got, err := c.Do("GET", fmt.Sprint("slow:", i)); err != nil || string(got) != redisRow(i) {
					t.Errorf("GET: %q, %v", got, err)
				}
			})
		}
		all.Wait()
		return nil
	})
	return int(took.Milliseconds() / 100)
}

func redisSetting(name, on, off string) func(*testing.T, *harness.Redis, bool) {
	return func(t *testing.T, r *harness.Redis, is bool) {
		r.MustDo(t, "CONFIG", "SET", name, map[bool]string{true: on, false: off}[is])
	}
}

// redisRights takes rights from the sidecar's user.
func redisRights(rules ...string) func(*testing.T, *harness.Redis, bool) {
	return func(t *testing.T, r *harness.Redis, on bool) {
		if on {
			r.MustDo(t, append([]string{"ACL", "SETUSER", "sidecar"}, rules...)...)
		} else {
			r.MustDo(t, "ACL", "SETUSER", "sidecar", "~*", "+@all")
		}
	}
}

// redisFailsToSave has a Redis fail to save its data to a file, after which it takes no writes.
func redisFailsToSave(t *testing.T, r *harness.Redis, on bool) {
	if !on {
		r.MustDo(t, "CONFIG", "SET", "save", "")
		return
	}
	redisMust(t, os.Mkdir(filepath.Join(r.Dir(), "dump.rdb"), 0o700)) // where the file would be
	r.MustDo(t, "CONFIG", "SET", "save", "3600 1000000")
	r.MustDo(t, "BGSAVE")
	redisPoll(t, func() error {
		if !strings.Contains(r.MustDo(t, "INFO", "persistence").Str, "rdb_last_bgsave_status:err") {
			return errRedisIdle
		}
		return nil
	})
}

package faults

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

// redisSilence is how long Redis may owe a reply before a connection is given up, and redisTend how much later that is noticed at most.
const (
	redisSilence = 15 * time.Second
	redisTend    = time.Second
)

// A Redis that hangs, or a connection to it, is told from one that runs a script for seconds: the connections to the first are given up in
// the time that the documents say, and replaced; those to the second are not. All three take their time, and happen at once.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	script, connection, hangs := beginRedisScript(t), beginRedisConnectionHang(t), beginRedisHang(t)
	script(t)
	connection(t)
	hangs(t)
}

// beginRedisHang stops a Redis to which there are connections. What it returns checks what comes of that.
func beginRedisHang(t *testing.T) func(t *testing.T) {
	t.Helper()
	redis, db := harness.NewRedis(t, harness.RedisOptions{}), harness.NewDatabase(t)
	db.MustExec(t, redisSchema)
	s := redisSidecar(t, db, harness.SidecarOptions{}, redis.Addr())
	c := redisConn(t, s)
	redisIs(t, c, "+OK\r\n", "SET", "plain", "v")

	waiting := map[string]*harness.Conn{}
	redisMust(t, redis.Pause())
	began := time.Now()
	for _, command := range []string{"GET plain", "SET plain w", "GET item:{a}:1", "BLPOP list 0"} {
		waiting[command] = redisConn(t, s)
		redisMust(t, waiting[command].Send(harness.Command(strings.Fields(command)...)))
	}
	return func(t *testing.T) {
		t.Helper()
		for _, expected := range [][2]string{
			{"SET plain w", "-UPSTREAMLOST connection to Redis at "}, {"GET item:{a}:1", redisRow(1)}, {"GET plain", "-UPSTREAMDOWN Redis at "},
		} {
			command, want := expected[0], expected[1]
			got, err := waiting[command].ReadReply()
			took := time.Since(began)
			t.Logf("Redis hangs: %s: %.60q after %v", command, got, took)
			if err != nil || !strings.HasPrefix(string(got), want) {
				t.Errorf("%s: %q, %v", command, got, err)
			}
			if took < redisSilence || took > redisSilence+redisTend+redisBudget+redisSoon {
				t.Errorf("%s was answered after %v", command, took)
			}
		}
		reply, took := redisTimed(t, c, "GET", redisItem("a", 2)) // it is known by now
		if reply != redisRow(2) || took > redisSoon {
			t.Errorf("GET: %q after %v", reply, took)
		}
		redisMust(t, redis.Resume())
		t.Logf("served again %v after it goes on", redisPoll(t, func() error {
			if got := c.MustDo(t, "SET", "plain", "v"); got != "+OK\r\n" {
				return fmt.Errorf("SET: %q", got)
			}
			return nil
		}))
		redisIs(t, c, redisRow(2), "GET", redisItem("a", 2))
		redisIs(t, c, ":1\r\n", "EXISTS", redisItem("a", 2))
	}
}

// beginRedisConnectionHang has the connections to a Redis hang, which itself goes on. What it returns checks that reads are answered over
// the next ones.
func beginRedisConnectionHang(t *testing.T) func(t *testing.T) {
	t.Helper()
	redis, db := harness.NewRedis(t, harness.RedisOptions{}), harness.NewDatabase(t)
	db.MustExec(t, redisSchema)
	gate := newRedisGate(t, redis.Addr())
	s := redisSidecar(t, db, harness.SidecarOptions{}, gate.addr)
	reader, writer, late := redisConn(t, s), redisConn(t, s), redisConn(t, s)
	redisIs(t, reader, "+OK\r\n", "SET", "plain", "v")
	gate.freeze()
	began := time.Now()
	redisMust(t, reader.Send(harness.Command("GET", "plain")))
	redisMust(t, writer.Send(harness.Command("SET", "other", "w")))
	return func(t *testing.T) {
		t.Helper()
		got, err := writer.ReadReply()
		if err != nil || !strings.HasPrefix(string(got), "-UPSTREAMLOST ") {
			t.Errorf("SET: %q, %v", got, err)
		}
		if got, err := reader.ReadReply(); err != nil || string(got) != redisBulk("v") {
			t.Errorf("GET: %q, %v", got, err)
		}
		took := time.Since(began)
		t.Logf("the connection was found to hang and replaced after %v", took)
		if took < redisSilence || took > redisSilence+redisTend+redisSoon {
			t.Error("not when the documents say")
		}
		redisIs(t, late, "+OK\r\n", "SET", "other", "w")
		redisPoll(t, func() error { // the sidecar's own connection, for leases, was frozen too
			redisIs(t, late, redisRow(1), "GET", redisItem("a", 1))
			if redis.MustDo(t, "EXISTS", redisItem("a", 1)).Str != "1" {
				return errRedisIdle
			}
			return nil
		})
	}
}

// beginRedisScript has a Redis run a script for longer than busy-reply-threshold. What it returns checks that the script goes on and is
// answered, and that nothing is lost.
func beginRedisScript(t *testing.T) func(t *testing.T) {
	t.Helper()
	redis, db := harness.NewRedis(t, harness.RedisOptions{}), harness.NewDatabase(t)
	db.MustExec(t, redisSchema)
	s := redisSidecar(t, db, harness.SidecarOptions{}, redis.Addr())
	c, other := redisConn(t, s), redisConn(t, s)
	redisIs(t, c, "+OK\r\n", "SET", "plain", "v")
	dials := redisMetric(t, s, `readthrough_upstream_dials_total{outcome="ok"}`)
	const script = `local function now() local t = redis.call('TIME') return t[1] + t[2] / 1000000 end
		local till = now() + 7 while now() < till do end return redis.call('APPEND', KEYS[1], 'x')`
	began := time.Now()
	redisMust(t, c.Send(harness.Command("EVAL", script, "1", "counter")))
	redisMust(t, other.Send(harness.Command("SET", "plain", "w")))
	return func(t *testing.T) {
		t.Helper()
		got, err := c.ReadReply()
		t.Logf("the script was answered %q after %v", got, time.Since(began))
		if err != nil || string(got) != ":1\r\n" {
			t.Errorf("the script: %q, %v", got, err)
		}
		if got, err := other.ReadReply(); err != nil || string(got) != "+OK\r\n" {
			t.Errorf("SET: %q, %v", got, err)
		}
		if n := redisMetric(t, s, "readthrough_upstream_connections_lost_total"); n != 0 {
			t.Errorf("%v connections were given up", n)
		}
		if n := redisMetric(t, s, `readthrough_upstream_dials_total{outcome="ok"}`); n != dials {
			t.Errorf("%v connections were made", n-dials)
		}
		redisIs(t, c, redisBulk("x"), "GET", "counter") // once
	}
}

// freeze has the connections that are open pass nothing on any more. Those that are made from now on do.
func (g *redisGate) freeze() { g.frozen.Store(g.count.Load()) }

// redisThawed passes on what comes from a connection until that is frozen.
type redisThawed struct {
	io.Reader
	gate   *redisGate
	number int64
}

func (r redisThawed) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if r.number <= r.gate.frozen.Load() && err == nil {
		return r.Read(b) // it is lost
	}
	return n, err
}

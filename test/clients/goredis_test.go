package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"readthrough/test/harness"
)

func TestGoRedis(t *testing.T) {
	onEach(t, func(t *testing.T, to target) {
		for _, protocol := range []int{0, 2} { // 0: the client's own choice, which is 3
			t.Run(fmt.Sprint("protocol ", protocol), func(t *testing.T) {
				to.flush(t)
				c := redis.NewClient(&redis.Options{Addr: to.addr(), Protocol: protocol, ClientName: "tester"})
				defer c.Close()
				if name, err := c.ClientGetName(t.Context()).Result(); name != "tester" || err != nil {
					t.Errorf("CLIENT GETNAME: %q, %v", name, err)
				}
				useGoRedis(t, c)
				goRedisScan(t, c)
				goRedisReconnects(t, c)
			})
		}
		t.Run("user", func(t *testing.T) {
			c := redis.NewClient(&redis.Options{Addr: to.addr(), Username: "app", Password: "app-secret"})
			defer c.Close()
			if who, err := c.ACLWhoAmI(t.Context()).Result(); who != "app" || err != nil {
				t.Errorf("ACL WHOAMI: %q, %v", who, err)
			}
			wrong := redis.NewClient(&redis.Options{Addr: to.addr(), Username: "app", Password: "wrong"})
			defer wrong.Close()
			if err := wrong.Ping(t.Context()).Err(); err == nil {
				t.Error("a wrong password is accepted")
			}
		})
		if !to.cluster {
			t.Run("database", func(t *testing.T) {
				c := redis.NewClient(&redis.Options{Addr: to.addr(), DB: 3})
				defer c.Close()
				if err := c.Set(t.Context(), "in3", "v", 0).Err(); err != nil {
					t.Error(err)
				}
				if got := to.redis.MustDo(t, "INFO", "keyspace").Str; !strings.Contains(got, "db3:keys=1") {
					t.Errorf("the key is not in database 3: %q", got)
				}
			})
			return
		}
		t.Run("ClusterClient", func(t *testing.T) {
			to.flush(t)
			c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{to.addr()}})
			defer c.Close()
			useGoRedis(t, c)
			err := c.ForEachMaster(t.Context(), func(_ context.Context, master *redis.Client) error {
				if got := master.Options().Addr; got != to.addr() {
					t.Errorf("a master is at %s", got)
				}
				goRedisScan(t, master)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	})
}

// useGoRedis does what a client and a client of a cluster can.
func useGoRedis(t *testing.T, c redis.UniversalClient) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Set(ctx, "k", "v", 0).Err())
	if v, err := c.Get(ctx, "k").Result(); v != "v" || err != nil {
		t.Errorf("GET: %q, %v", v, err)
	}
	if _, err := c.Get(ctx, "nothing").Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("GET of nothing: %v", err)
	}
	if err := c.Do(ctx, "NOSUCH").Err(); err == nil || !strings.HasPrefix(err.Error(), "ERR unknown command") {
		t.Errorf("NOSUCH: %v", err)
	}
	must(c.HSet(ctx, "h", "f", "v").Err())
	if h, err := c.HGetAll(ctx, "h").Result(); h["f"] != "v" || err != nil {
		t.Errorf("HGETALL: %v, %v", h, err)
	}
	must(c.Set(ctx, "large", large, 0).Err())
	if v, err := c.Get(ctx, "large").Result(); v != large || err != nil {
		t.Errorf("GET of a large value: %d bytes, %v", len(v), err)
	}
	must(c.Del(ctx, "large").Err())

	results, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range many {
			p.Set(ctx, fmt.Sprint("p:", i), i, 0)
			p.Get(ctx, fmt.Sprint("p:", i))
		}
		return nil
	})
	must(err)
	for i := range many {
		if got := results[2*i+1].(*redis.StringCmd).Val(); got != fmt.Sprint(i) {
			t.Fatalf("reply %d of the pipeline is %q", i, got)
		}
	}

	// Scripts: by EVALSHA, and when that fails by EVAL.
	double := redis.NewScript("return redis.call('GET', KEYS[1]) * 2")
	for i := range 30 { // keys on every node
		if n, err := double.Run(ctx, c, []string{fmt.Sprint("p:", i)}).Int(); n != 2*i || err != nil {
			t.Errorf("script: %d, %v", n, err)
		}
	}
	echo := redis.NewScript("return {KEYS[1], ARGV[1]}")
	must(echo.Load(ctx, c).Err())
	for i := range 30 {
		key := fmt.Sprint("p:", i)
		if got, err := echo.EvalSha(ctx, c, []string{key}, "x").StringSlice(); err != nil || !slices.Equal(got, []string{key, "x"}) {
			t.Errorf("EVALSHA: %q, %v", got, err)
		}
	}

	// Transactions.
	var sum *redis.IntCmd
	_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "{t}a", 1, 0)
		sum = p.Incr(ctx, "{t}a")
		return nil
	})
	if err != nil || sum.Val() != 2 {
		t.Errorf("EXEC: %d, %v", sum.Val(), err)
	}
	conflict := func(disturb bool) error {
		return c.Watch(ctx, func(tx *redis.Tx) error {
			if disturb {
				must(c.Set(ctx, "{t}a", 3, 0).Err())
			}
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "{t}a", 4, 0).Err() })
			return err
		}, "{t}a")
	}
	if err := conflict(true); !errors.Is(err, redis.TxFailedErr) {
		t.Errorf("EXEC when what was watched has changed: %v", err)
	}
	if err := conflict(false); err != nil {
		t.Errorf("EXEC when what was watched has not changed: %v", err)
	}

	// Publish and subscribe.
	heard := func(sub *redis.PubSub, publish func(context.Context, string, any) *redis.IntCmd, channel string) {
		t.Helper()
		defer sub.Close()
		if _, err := sub.Receive(ctx); err != nil { // the confirmation
			t.Fatal(err)
		}
		if n, err := publish(ctx, channel, "hello").Result(); n != 1 || err != nil {
			t.Errorf("PUBLISH: %d, %v", n, err)
		}
		if m, err := sub.ReceiveMessage(ctx); err != nil || m.Channel != channel || m.Payload != "hello" {
			t.Errorf("message: %v, %v", m, err)
		}
	}
	heard(c.Subscribe(ctx, "news"), c.Publish, "news")
	heard(c.PSubscribe(ctx, "new*"), c.Publish, "news")
	for _, channel := range []string{"a", "b", "c"} { // on every node
		heard(c.SSubscribe(ctx, channel), c.SPublish, channel)
	}

	// Blocking.
	popped := make(chan string, 1)
	go func() {
		got, err := c.BLPop(ctx, 10*time.Second, "b:list").Result()
		popped <- fmt.Sprint(got, err)
	}()
	must(c.RPush(ctx, "b:list", "one").Err())
	if got := <-popped; got != "[b:list one] <nil>" {
		t.Errorf("BLPOP: %s", got)
	}
	if _, err := c.Do(ctx, "BLPOP", "b:list", 0.05).Result(); !errors.Is(err, redis.Nil) {
		t.Errorf("BLPOP of nothing: %v", err)
	}
}

// goRedisScan looks for the keys that useGoRedis has set.
func goRedisScan(t *testing.T, c *redis.Client) {
	t.Helper()
	seen := map[string]bool{}
	keys := c.Scan(t.Context(), 0, "p:*", 1000).Iterator()
	for keys.Next(t.Context()) {
		seen[keys.Val()] = true
	}
	if err := keys.Err(); err != nil || len(seen) != many {
		t.Errorf("SCAN finds %d keys, %v", len(seen), err)
	}
}

// goRedisReconnects has the client's connection killed while it is idle, and while it subscribes.
func goRedisReconnects(t *testing.T, c *redis.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	killer := redis.NewClient(c.Options())
	defer killer.Close()

	id := c.ClientID(ctx).Val()
	if n, err := killer.ClientKillByFilter(ctx, "ID", fmt.Sprint(id)).Result(); n != 1 || err != nil {
		t.Fatalf("CLIENT KILL: %d, %v", n, err)
	}
	if now, err := c.ClientID(ctx).Result(); now == id || err != nil {
		t.Errorf("CLIENT ID after the connection was killed: %d, %v", now, err)
	}

	sub := c.Subscribe(ctx, "again")
	defer sub.Close()
	messages := sub.Channel()
	if err := harness.Poll(ctx, func() error { return published(ctx, killer) }); err != nil {
		t.Fatal(err)
	}
	<-messages
	if n, err := killer.ClientKillByFilter(ctx, "TYPE", "pubsub").Result(); n != 1 || err != nil {
		t.Fatalf("CLIENT KILL: %d, %v", n, err)
	}
	if err := harness.Poll(ctx, func() error { return published(ctx, killer) }); err != nil { // it subscribes again by itself
		t.Fatal(err)
	}
	if m := <-messages; m.Payload != "hello" {
		t.Errorf("message after the reconnect: %v", m)
	}
}

func published(ctx context.Context, c *redis.Client) error {
	n, err := c.Publish(ctx, "again", "hello").Result()
	if err == nil && n == 0 {
		err = errors.New("nobody has subscribed")
	}
	return err
}

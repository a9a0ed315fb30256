package clients

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestGoRedis(t *testing.T) {
	onEach(t, func(t *testing.T, to target) {
		for _, protocol := range []int{0, 2, 3} { // 0: the client's own choice
			t.Run(fmt.Sprint("protocol ", protocol), func(t *testing.T) {
				ctx := t.Context()
				c := newGoRedis(t, &redis.Options{Addr: to.addr(), Protocol: protocol, ClientName: "tester"})

				if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
				if v, err := c.Get(ctx, "k").Result(); v != "v" || err != nil {
					t.Errorf("GET: %q, %v", v, err)
				}
				if _, err := c.Get(ctx, "nothing").Result(); !errors.Is(err, redis.Nil) {
					t.Errorf("GET of nothing: %v", err)
				}
				if name, err := c.ClientGetName(ctx).Result(); name != "tester" || err != nil {
					t.Errorf("CLIENT GETNAME: %q, %v", name, err)
				}
				if id, err := c.ClientID(ctx).Result(); id < 1 || err != nil {
					t.Errorf("CLIENT ID: %d, %v", id, err)
				}
				if err := c.HSet(ctx, "h", "f", "v").Err(); err != nil {
					t.Error(err)
				}
				if h, err := c.HGetAll(ctx, "h").Result(); h["f"] != "v" || err != nil {
					t.Errorf("HGETALL: %v, %v", h, err)
				}

				const many = 10_000
				results, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
					for i := range many {
						p.Set(ctx, fmt.Sprint("pipelined:", i), i, 0)
						p.Get(ctx, fmt.Sprint("pipelined:", i))
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				for i := range many {
					if got := results[2*i+1].(*redis.StringCmd).Val(); got != fmt.Sprint(i) {
						t.Fatalf("reply %d of the pipeline is %q", i, got)
					}
				}
			})
		}
		t.Run("user", func(t *testing.T) {
			c := newGoRedis(t, &redis.Options{Addr: to.addr(), Username: "app", Password: "app-secret"})
			if who, err := c.ACLWhoAmI(t.Context()).Result(); who != "app" || err != nil {
				t.Errorf("ACL WHOAMI: %q, %v", who, err)
			}
			wrong := newGoRedis(t, &redis.Options{Addr: to.addr(), Username: "app", Password: "wrong"})
			if err := wrong.Ping(t.Context()).Err(); err == nil {
				t.Error("a wrong password is accepted")
			}
		})
		if !to.cluster {
			t.Run("database", func(t *testing.T) {
				c := newGoRedis(t, &redis.Options{Addr: to.addr(), DB: 3})
				if err := c.Set(t.Context(), "in3", "v", 0).Err(); err != nil {
					t.Error(err)
				}
				if got := to.redis.MustDo(t, "INFO", "keyspace").Str; !strings.Contains(got, "db3:keys=1") {
					t.Errorf("the key is not in database 3: %q", got)
				}
			})
		}
	})
}

// newGoRedis makes a client, which is closed when the test ends.
func newGoRedis(t *testing.T, o *redis.Options) *redis.Client {
	c := redis.NewClient(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

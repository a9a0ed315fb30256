package clients

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"readthrough/test/harness"
)

// TestGoRedisAuthenticates holds that a client library gets by with a user and a password, and only with them, where the sidecar has
// clients authenticate: commands, transactions, subscriptions, and many connections at once.
func TestGoRedisAuthenticates(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Password: "sesame", Config: []string{user}}})
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nrequireAuth: true\nupstream: {addresses: [%s], password: \"${REDIS_PASSWORD}\"}\n",
			strings.Join(cluster.Addrs(), ", ")),
		Env: []string{"REDIS_PASSWORD=sesame"},
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, login := range []redis.Options{{Username: "app", Password: "app-secret"}, {Password: "sesame"}, {Username: "default", Password: "sesame"}} {
		for _, protocol := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s over RESP%d", login.Username, protocol), func(t *testing.T) {
				options := login
				options.Addr, options.Protocol = s.Addr(), protocol
				c := redis.NewClient(&options)
				defer c.Close()
				who, want := c.ACLWhoAmI(ctx).Val(), "app"
				if options.Username != "app" {
					want = "default"
				}
				if who != want {
					t.Fatalf("ACL WHOAMI: %q", who)
				}
				var all sync.WaitGroup
				for i := range 100 {
					all.Go(func() {
						key := fmt.Sprint("app:", i)
						if err := c.Set(ctx, key, i, time.Minute).Err(); err != nil {
							t.Error(err)
						}
						if got, err := c.Get(ctx, key).Int(); got != i || err != nil {
							t.Errorf("GET %s: %d, %v", key, got, err)
						}
					})
				}
				all.Wait()
				if want == "default" { // the other one may neither
					_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
						p.Incr(ctx, "app:n")
						return p.Incr(ctx, "app:n").Err()
					})
					if err != nil {
						t.Errorf("a transaction: %v", err)
					}
					messages := c.Subscribe(ctx, "app:c")
					defer messages.Close()
					if _, err := messages.Receive(ctx); err != nil {
						t.Errorf("SUBSCRIBE: %v", err)
					}
				}
			})
		}
	}
	for name, options := range map[string]redis.Options{
		"NOAUTH":    {},
		"WRONGPASS": {Username: "app", Password: "wrong"},
	} {
		for _, protocol := range []int{2, 3} {
			options.Addr, options.Protocol, options.MaxRetries = s.Addr(), protocol, -1
			c := redis.NewClient(&options)
			if err := c.Set(ctx, "app:k", "v", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), name) {
				t.Errorf("over RESP%d: %v, want %s", protocol, err, name)
			}
			c.Close()
		}
	}
}

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	redisPassword    = "the-password-of-redis"
	postgresPassword = "the-password-of-postgres"
)

// stores are a Redis Cluster and a PostgreSQL in a namespace of their own.
type stores struct {
	namespace string
}

// newStores starts both and waits until they serve.
func newStores(t testing.TB, i images, name string) *stores {
	t.Helper()
	s := &stores{namespace: newNamespace(t, name)}
	values := map[string]string{
		"REDIS_IMAGE": i.redis, "REDIS_PASSWORD": redisPassword, "POSTGRES_IMAGE": i.postgres, "POSTGRES_PASSWORD": postgresPassword,
	}
	for _, file := range []string{"testdata/redis.yaml", "testdata/postgres.yaml"} {
		raw, err := os.ReadFile(file)
		must(t, err)
		apply(t, s.namespace, os.Expand(string(raw), func(name string) string {
			value, is := values[name]
			if !is {
				t.Fatalf("%s: what is ${%s}?", file, name)
			}
			return value
		}))
	}
	s.await(t)
	return s
}

// await waits until both serve, after they were started or scaled up: new nodes of Redis are joined to a cluster first.
func (s *stores) await(t testing.TB) {
	t.Helper()
	kubectl(t, "rollout", "status", "-n", s.namespace, "statefulset/redis", "--timeout=120s")
	create := []string{"--cluster", "create"}
	for _, pod := range object[corev1.PodList](t, "pods", "-n", s.namespace, "-l", "app=redis").Items {
		create = append(create, pod.Status.PodIP+":6379")
	}
	s.redisCLI(t, append(create, "--cluster-yes")...)
	for i := range 3 {
		eventually(t, time.Minute, func() error {
			info, err := s.tryRedisCLI(t, i, "CLUSTER", "INFO")
			return errors.Join(err, contains(info, "cluster_state:ok", "cluster_known_nodes:3"))
		})
	}
	kubectl(t, "rollout", "status", "-n", s.namespace, "deployment/postgres", "--timeout=120s")
}

// scale stops everything (false), or starts it again, empty.
func (s *stores) scale(t testing.TB, up bool) {
	t.Helper()
	redis, postgres := 0, 0
	if up {
		redis, postgres = 3, 1
	}
	kubectl(t, "scale", "-n", s.namespace, "statefulset/redis", fmt.Sprintf("--replicas=%d", redis))
	kubectl(t, "scale", "-n", s.namespace, "deployment/postgres", fmt.Sprintf("--replicas=%d", postgres))
	if up {
		s.await(t)
		return
	}
	kubectl(t, "wait", "-n", s.namespace, "--for=delete", "pods", "--all", "--timeout=60s")
}

// redisCLI runs a command of redis-cli, which follows redirects, in the first node.
func (s *stores) redisCLI(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.tryRedisCLI(t, 0, args...)
	must(t, err)
	return out
}

func (s *stores) tryRedisCLI(t testing.TB, node int, args ...string) (string, error) {
	out, err := command(t.Context(), "", "kubectl", append([]string{
		"exec", "-n", s.namespace, fmt.Sprintf("redis-%d", node), "--",
		"redis-cli", "--no-auth-warning", "-c", "-a", redisPassword,
	}, args...)...)
	return strings.TrimSpace(out), err
}

// redisAddress and originURL are where an application of another namespace finds them.
func (s *stores) redisAddress() string { return fmt.Sprintf("redis.%s.svc:6379", s.namespace) }

func (s *stores) originURL() string {
	return fmt.Sprintf("postgres://postgres:%s@postgres.%s.svc:5432/postgres", postgresPassword, s.namespace)
}

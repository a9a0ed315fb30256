package readthrough

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"readthrough/test/harness"
)

// pods are several sidecars over one cluster and one database.
func (w *world) pods(t *testing.T, n int, maps string) []*harness.Sidecar {
	t.Helper()
	var all []*harness.Sidecar
	for range n {
		all = append(all, harness.NewSidecar(t, harness.SidecarOptions{
			Config: config(w.cluster.Addrs()...) + maps, Env: []string{"ORIGIN_URL=" + w.db.URL()},
		}))
	}
	return all
}

// crowd sends one GET of a key over each of n connections to each sidecar, and calls then with every reply.
func crowd(t *testing.T, pods []*harness.Sidecar, n int, key string, then func(pod int, reply string, err error)) {
	t.Helper()
	var conns [][]*harness.Conn
	for _, pod := range pods {
		var ours []*harness.Conn
		for range n {
			c := harness.NewConn(t, pod.Addr())
			c.Timeout = 30 * time.Second
			ours = append(ours, c)
		}
		conns = append(conns, ours)
	}
	var all sync.WaitGroup
	for pod := range pods {
		for _, c := range conns[pod] {
			all.Go(func() {
				reply, err := c.Do("GET", key)
				then(pod, string(reply), err)
			})
		}
	}
	all.Wait()
}

// A thousand clients of three pods ask for one key that is missing: the database is asked once.
func TestOneQueryForAThousandClients(t *testing.T) {
	w := &world{cluster: harness.NewCluster(t, harness.ClusterOptions{}), db: newDatabase(t)}
	pods := w.pods(t, 3, maps)
	counted := 0
	for _, key := range []string{"slow:everybody", "user:1", "user:100000"} {
		want := map[string]string{
			"slow:everybody": bulk("everybody"), "user:1": bulk(`{"id":1,"name":"user 1","tier":null}`), "user:100000": "$-1\r\n",
		}[key]
		before := w.queries(t, "select")
		crowd(t, pods, 334, key, func(pod int, reply string, err error) {
			if err != nil || reply != want {
				t.Errorf("pod %d: %.100q, %v", pod, reply, err)
			}
		})
		if n := loads(t, pods) - counted; n != 1 {
			t.Errorf("%s: %d loads in all pods, want 1", key, n)
		}
		counted++
		if n := w.queries(t, "select") - before; n != 2 { // that of the settings, and the load
			t.Errorf("%s: PostgreSQL was asked %d queries, want 2", key, n)
		}
	}
}

// loads is how many loads the pods have made.
func loads(t *testing.T, pods []*harness.Sidecar) (sum int) {
	t.Helper()
	for _, pod := range pods {
		for _, m := range []string{"slow", "user"} {
			for _, outcome := range []string{"found", "none", "error", "timeout", "busy", "down"} {
				n, _ := strconv.Atoi(metric(t, pod, fmt.Sprintf("readthrough_loads_total{map=%q,outcome=%q}", m, outcome)))
				sum += n
			}
		}
	}
	return sum
}

// The pod that loads is killed half way: another one loads, and nobody waits for longer than a GET may.
func TestOneQueryMoreWhenThePodDies(t *testing.T) {
	const gated = `
maps:
  - {name: gated, key: "gated:<x:int>", ttl: 1h, timeout: 2s, wait: 20s, value: column,
     query: "SELECT @x::int FROM (SELECT pg_advisory_xact_lock_shared(77)) AS gate"}
`
	w := &world{cluster: harness.NewCluster(t, harness.ClusterOptions{}), db: newDatabase(t)}
	pods := w.pods(t, 3, gated)
	gate, err := pgx.Connect(t.Context(), w.db.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = gate.Close(context.Background()) })
	if _, err := gate.Exec(t.Context(), "SELECT pg_advisory_lock(77)"); err != nil {
		t.Fatal(err)
	}
	before := w.queries(t, "pg_advisory_xact_lock_shared")
	first := harness.NewConn(t, pods[0].Addr())
	if err := first.Send(harness.Command("GET", "gated:1")); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		if v := w.redis(t, "gated:1", "EXISTS", "readthrough:lease:{gated:1}:gated:1"); v.Str != "1" {
			return errors.New("the first pod has no lease yet")
		}
		return nil
	})
	poll(t, func() error {
		if n := w.queries(t, "pg_advisory_xact_lock_shared") - before; n != 1 {
			return fmt.Errorf("%d queries wait", n)
		}
		return nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		crowd(t, pods[1:], 50, "gated:1", func(pod int, reply string, err error) {
			if err != nil || reply != bulk("1") {
				t.Errorf("pod %d: %.100q, %v", pod+1, reply, err)
			}
		})
	}()
	pods[0].Kill()
	if _, err := gate.Exec(t.Context(), "SELECT pg_advisory_unlock(77)"); err != nil {
		t.Fatal(err)
	}
	<-done
	if n := w.queries(t, "pg_advisory_xact_lock_shared") - before; n != 2 {
		t.Errorf("%d queries, want 2", n)
	}
}

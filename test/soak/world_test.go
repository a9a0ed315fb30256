package soak

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"readthrough/test/harness"
)

// rows is how many rows the origin has.
const rows = 50

// tags are hash tags of three masters of equal shares of the slots.
var tags = []string{"a", "b", "c"}

// world is two sidecars between clients, a Redis Cluster with replicas and a PostgreSQL, with a gate before each server.
type world struct {
	ctx      context.Context // of the test
	cluster  *harness.Cluster
	pg       *harness.Postgres
	rows     *pgxpool.Pool // the application's, past the gate
	gates    []*gate       // of the nodes, and then of PostgreSQL
	sidecars []*harness.Sidecar
	slots    []int              // of tags
	versions [rows]atomic.Int64 // of the rows: those that were begun
	losing   atomic.Int64       // odd while a fault lasts by which Redis may lose what it has acknowledged
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		ctx: t.Context(),
		cluster: harness.NewCluster(t, harness.ClusterOptions{Replicas: 1, NodeTimeout: 2 * time.Second, RedisOptions: harness.RedisOptions{
			Config: []string{"cluster-allow-replica-migration no"},
		}}),
		pg: harness.NewPostgres(t, harness.PostgresOptions{}),
	}
	must(t, w.pg.Exec(t.Context(), "postgres", fmt.Sprintf(
		"CREATE TABLE items (id int PRIMARY KEY, version int); INSERT INTO items SELECT n, 0 FROM generate_series(0, %d) n", rows-1)))
	var err error
	w.rows, err = pgxpool.New(t.Context(), w.pg.URL("postgres"))
	must(t, err)
	t.Cleanup(w.rows.Close)
	for _, tag := range tags {
		slot, err := w.cluster.Slot(t.Context(), tag)
		must(t, err)
		w.slots = append(w.slots, slot)
	}
	w.announce(t)
	origin, err := url.Parse(w.pg.URL("postgres"))
	must(t, err)
	before := newGate(t, origin.Host)
	w.gates = append(w.gates, before)
	origin.Host = before.addr

	var seeds []string
	for _, g := range w.gates[:3] {
		seeds = append(seeds, g.addr)
	}
	for i := range 2 {
		w.sidecars = append(w.sidecars, harness.NewSidecar(t, harness.SidecarOptions{
			Plain: i == 0, // whose memory is that of the product; the other one has the race detector, where the test has
			Config: fmt.Sprintf(`apiVersion: readthrough/v1
upstream: {addresses: [%s]}
intercept: [GET, MGET, GETEX]
origins: [{name: main, url: "${ORIGIN_URL}", pool: {max: 4, idle: 2s}}]
maps:
  - {name: item, key: "item:{<tag:text>}:<id:int>", ttl: 5s, stale: 5s, missing: 1s, timeout: 5s, value: column,
     query: "SELECT 'item|' || @tag || '|' || id || '|' || version FROM items WHERE id = @id"}
`, strings.Join(seeds, ", ")),
			Env: []string{"ORIGIN_URL=" + origin.String()},
		}))
	}
	return w
}

// announce puts a gate before each node, and has the cluster tell clients of it instead of the node.
func (w *world) announce(t *testing.T) {
	t.Helper()
	ports := map[string]string{} // by id
	for _, n := range w.cluster.Nodes() {
		g := newGate(t, n.Addr())
		w.gates = append(w.gates, g)
		ports[n.ID()] = g.addr[strings.LastIndexByte(g.addr, ':')+1:]
		n.MustDo(t, "CONFIG", "SET", "cluster-announce-port", ports[n.ID()])
		n.MustDo(t, "CONFIG", "REWRITE") // it is to be so after a restart
	}
	must(t, harness.Poll(t.Context(), func() error {
		for _, n := range w.cluster.Nodes() {
			v, err := n.Do(t.Context(), "CLUSTER", "NODES")
			if err != nil {
				return err
			}
			for id, port := range ports {
				if !strings.Contains(v.Str, id+" 127.0.0.1:"+port+"@") {
					return fmt.Errorf("%s does not know yet that %s announces port %s", n.Addr(), id, port)
				}
			}
		}
		return nil
	}))
	must(t, w.cluster.WaitAgreed(t.Context()))
}

// keeps begins a stretch of time, and the function that it returns tells whether Redis has kept all that it acknowledged in it. While a
// master is being replaced, two nodes may think that a slot is theirs.
func (w *world) keeps() func() bool {
	began := w.losing.Load()
	return func() bool { return began%2 == 0 && w.losing.Load() == began }
}

// change commits the next version of a row. It fails while PostgreSQL is down.
func (w *world) change(id int) (version int64, err error) {
	version = w.versions[id].Add(1)
	_, err = w.rows.Exec(w.ctx, "UPDATE items SET version = $2 WHERE id = $1 AND version < $2", id, version)
	return version, err
}

package checker

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"readthrough/internal/lease"
	"readthrough/test/harness"
)

// world is three sidecars between their clients, a Redis Cluster of three masters and a PostgreSQL, with a delaying proxy before
// each of those servers.
type world struct {
	profile  profile
	cluster  *harness.Cluster
	rows     *pgxpool.Pool // the application's, past the proxies
	sidecars []*sidecar
	proxies  []*proxy // of the masters, then of PostgreSQL
	tags     []string // hash tags whose slots begin on different masters
	ids      int      // of rows so far
}

// Clients with a user of their own authenticate so.
const ownUser, ownPassword = "app", "secret"

// schema keeps a version for each row, which grows when the row goes too. change is a function so that its second statement sees what was
// committed while the first waited for its lock.
const schema = `
	CREATE TABLE versions (id int PRIMARY KEY, version int NOT NULL);
	CREATE TABLE rows (id int PRIMARY KEY, version int NOT NULL);
	CREATE FUNCTION change(which int, absent bool) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
	DECLARE made int;
	BEGIN
		INSERT INTO versions VALUES (which, 1) ON CONFLICT (id) DO UPDATE SET version = versions.version + 1 RETURNING version INTO made;
		IF absent THEN
			DELETE FROM rows WHERE id = which;
		ELSE
			INSERT INTO rows VALUES (which, made) ON CONFLICT (id) DO UPDATE SET version = made;
		END IF;
		RETURN made;
	END $$`

func newWorld(t *testing.T, p profile, binary string) *world {
	t.Helper()
	cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{
		// All but lease keys.
		Config: []string{"user " + ownUser + " on >" + ownPassword + " ~del:* ~set:* ~early:* ~other:* +@all"},
	}})
	w := &world{profile: p, cluster: cluster, tags: []string{"a", "b", "c"}[:p.tags]}
	db := harness.NewDatabase(t)
	db.MustExec(t, schema)
	var err error
	if w.rows, err = pgxpool.New(t.Context(), db.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.rows.Close)

	w.announce(t)
	origin, err := url.Parse(db.URL())
	if err != nil {
		t.Fatal(err)
	}
	before := newProxy(t, origin.Host, func([]byte) (requests, replies manner) { return p.originRequests, p.originReplies })
	w.proxies = append(w.proxies, before)
	origin.Host = before.addr
	for i := range 3 {
		process := harness.NewSidecar(t, harness.SidecarOptions{
			Plain: true, Binary: binary, Config: w.config(), Env: []string{"ORIGIN_URL=" + origin.String()},
		})
		w.sidecars = append(w.sidecars, &sidecar{name: fmt.Sprintf("sidecar %d", i), process: process, totals: figures{}})
	}
	return w
}

// announce puts a proxy before each master, and has the cluster tell clients of it instead of the master. The masters still find
// each other by themselves, and so do the harness and the test.
func (w *world) announce(t *testing.T) {
	t.Helper()
	ports := map[string]string{} // by id
	for _, n := range w.cluster.Nodes() {
		p := newProxy(t, n.Addr(), func(first []byte) (requests, replies manner) {
			if typed(first) {
				return w.profile.scriptRequests, w.profile.scriptReplies
			}
			return w.profile.wireRequests, w.profile.wireReplies
		})
		w.proxies = append(w.proxies, p)
		ports[n.ID()] = p.addr[strings.LastIndexByte(p.addr, ':')+1:]
		n.MustDo(t, "CONFIG", "SET", "cluster-announce-port", ports[n.ID()])
	}
	err := harness.Poll(t.Context(), func() error {
		for _, n := range w.cluster.Nodes() {
			v, err := n.Do(t.Context(), "CLUSTER", "NODES")
			if err != nil {
				return err
			}
			for id, port := range ports {
				if !strings.Contains(v.Str, id+" 127.0.0.1:"+port+"@") {
					return fmt.Errorf("redis %s does not know yet that %s announces port %s:\n%s", n.Addr(), id, port, v.Str)
				}
			}
		}
		return nil
	})
	if err == nil {
		err = w.cluster.WaitAgreed(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// withProtocol says whether this version knows missing:, stale: and intercepting MGET and GETEX.
const withProtocol = true

func (w *world) config() string {
	var addrs []string
	for _, p := range w.proxies {
		addrs = append(addrs, p.addr)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: readthrough/v1\nupstream: {addresses: [%s]}\n", strings.Join(addrs[:3], ", "))
	b.WriteString("origins: [{name: main, url: \"${ORIGIN_URL}\", pool: {max: 4}}]\n")
	more := ""
	if withProtocol {
		b.WriteString("intercept: [GET, MGET, GETEX]\n")
		more = ", missing: 10s, stale: 10s"
	}
	b.WriteString("maps:\n")
	for _, k := range w.profile.kinds {
		fmt.Fprintf(&b, "  - {name: %s, key: \"%s:{<tag:text>}:<id:int>\", ttl: %s, timeout: 1s, value: column%s, "+
			"query: \"SELECT 'v' || version FROM rows WHERE id = @id\"}\n", k.name, k.name, w.profile.ttl, more)
	}
	return b.String()
}

// change commits the next version of a row.
func (w *world) change(ctx context.Context, id int, absent bool) (version int, err error) {
	err = w.rows.QueryRow(ctx, "SELECT change($1, $2)", id, absent).Scan(&version)
	return version, err
}

// nodes are connections to the masters themselves, for one goroutine.
type nodes struct {
	all  []*harness.Redis
	open map[*harness.Redis]*harness.Conn
}

func (w *world) dial() *nodes { return &nodes{w.cluster.Nodes(), map[*harness.Redis]*harness.Conn{}} }

func (n *nodes) close() {
	for _, c := range n.open {
		_ = c.Close()
	}
}

// do runs a command on whichever master has its slot.
func (n *nodes) do(ctx context.Context, args ...string) (harness.Value, error) {
	err := errors.New("there is no node")
	for _, node := range n.all {
		c := n.open[node]
		if c == nil {
			if c, err = node.Dial(ctx); err != nil {
				return harness.Value{}, err
			}
			n.open[node] = c
		}
		raw, failed := c.Do(args...)
		if failed != nil {
			return harness.Value{}, failed
		}
		v, failed := harness.Decode(raw)
		if failed != nil {
			return v, failed
		}
		if err = v.Err(); err == nil {
			return v, nil
		}
	}
	return harness.Value{}, err // MOVED or ASK, of the last one
}

// leaseKey is the name of a key's lease key.
func leaseKey(name string) string {
	l, ok := lease.AppendKey(nil, []byte(name))
	if !ok {
		panic("the checker's keys all have leases")
	}
	return string(l)
}

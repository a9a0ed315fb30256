package readthrough

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// schema is the origin's data.
const schema = `
	CREATE TABLE users (id int PRIMARY KEY, name text, tier text);
	INSERT INTO users SELECT n, 'user ' || n, CASE WHEN n % 2 = 0 THEN 'gold' END FROM generate_series(1, 2000) n;
	CREATE TABLE orders (id int PRIMARY KEY, user_id int, total numeric(10,2));
	INSERT INTO orders VALUES (1, 7, 9.90), (2, 7, 120), (3, 8, 0.01);
	CREATE TABLE files (id uuid PRIMARY KEY, body bytea);
	INSERT INTO files VALUES ('0b8e1a52-3c2f-4a0e-9d53-6f0f3f6f6c01', '\x00ff0d0a2431'), ('0b8e1a52-3c2f-4a0e-9d53-6f0f3f6f6c02', ''),
		('0b8e1a52-3c2f-4a0e-9d53-6f0f3f6f6c03', NULL), ('0b8e1a52-3c2f-4a0e-9d53-6f0f3f6f6c04', decode(repeat('ab', 1 << 20), 'hex'));
	CREATE TABLE notes (name text PRIMARY KEY, body text);
	INSERT INTO notes VALUES ('héllo wörld', E'zwei\r\nZeilen'), ('''; DROP TABLE notes; --', 'safe');
	CREATE TABLE days (day date PRIMARY KEY, visits int);
	INSERT INTO days VALUES ('2024-02-29', 12);
	CREATE TABLE blobs (digest bytea PRIMARY KEY, body text);
	INSERT INTO blobs VALUES ('\xcafe', 'coffee');
	CREATE TABLE pages (path text PRIMARY KEY, body text);
	INSERT INTO pages VALUES ('a/b:c/d', 'deep');
	CREATE FUNCTION slowly(text, float) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep($2); RETURN $1; END'`

// maps are the configuration's maps over schema.
const maps = `
maps:
  - {name: user, key: "user:<id:int>", ttl: 1h, jitter: 10%, timeout: 10s, query: "SELECT id, name, tier FROM users WHERE id = @id"}
  - {name: tagged, key: "{user:<id:int>}:name", ttl: 1h, timeout: 10s, value: column, query: "SELECT name FROM users WHERE id = @id"}
  - {name: orders, key: "orders:<user_id:int>", ttl: 30m, jitter: 0%, timeout: 10s, value: array, query: "SELECT id, total FROM orders WHERE user_id = @user_id ORDER BY id"}
  - {name: file, key: "file:<id:uuid>", ttl: 1h, timeout: 10s, value: column, query: "SELECT body FROM files WHERE id = @id"}
  - {name: note, key: "note:<name:text>:v1", ttl: 1h, timeout: 10s, value: column, query: "SELECT body FROM notes WHERE name = @name"}
  - {name: day, key: "day:<day:date>", ttl: 1h, timeout: 10s, query: "SELECT day, visits FROM days WHERE day = @day"}
  - {name: blob, key: "blob:<digest:hex>", ttl: 1h, timeout: 10s, value: column, query: "SELECT body FROM blobs WHERE digest = decode(@digest, 'hex')"}
  - {name: page, key: "page:<path:path>", ttl: 1h, timeout: 10s, value: column, query: "SELECT body FROM pages WHERE path = @path"}
  - {name: slow, key: "slow:<what:text>", ttl: 1h, timeout: 20s, value: column, query: "SELECT slowly(@what, 0.5) AS answer"}
  - {name: late, key: "late:<what:text>", ttl: 1h, timeout: 100ms, value: column, query: "SELECT slowly(@what, 30) AS answer"}
  - {name: late-nil, key: "late-nil:<what:text>", ttl: 1h, timeout: 100ms, onError: nil, value: column, query: "SELECT slowly(@what, 30) AS answer"}
  - {name: broken, key: "broken:<n:int>", ttl: 1h, timeout: 10s, value: column, query: "SELECT 1 / (@n - 1) AS quotient"}
  - {name: broken-nil, key: "broken-nil:<n:int>", ttl: 1h, timeout: 10s, onError: nil, value: column, query: "SELECT 1 / (@n - 1) AS quotient"}
`

// world is a Redis Cluster of three masters, a database, and a sidecar between them and its clients.
type world struct {
	cluster *harness.Cluster
	db      *harness.Database
	sidecar *harness.Sidecar
	markers int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, harness.ClusterOptions{}, "")
}

// newWorldWith is newWorld with more lines of configuration.
func newWorldWith(t *testing.T, o harness.ClusterOptions, lines string) *world {
	t.Helper()
	w := &world{cluster: harness.NewCluster(t, o), db: newDatabase(t)}
	w.sidecar = harness.NewSidecar(t, harness.SidecarOptions{
		Config: config(w.cluster.Addrs()...) + lines + maps, Env: []string{"ORIGIN_URL=" + w.db.URL()},
	})
	return w
}

// newDatabase has schema, and every query that it is asked in the server's output.
func newDatabase(t *testing.T) *harness.Database {
	t.Helper()
	db := harness.NewDatabase(t)
	db.MustExec(t, schema)
	db.MustExec(t, "ALTER DATABASE "+db.Name+" SET log_statement = 'all'")
	return db
}

// config is a configuration without its maps; the origin's address stands in ORIGIN_URL.
func config(redis ...string) string {
	return fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%s]}\norigins: [{name: main, url: \"${ORIGIN_URL}\", pool: {max: 4}}]\n",
		strings.Join(redis, ", "))
}

// queries counts the queries with a text in them that the sidecar has asked so far.
func (w *world) queries(t *testing.T, text string) int {
	t.Helper()
	// The server's output is read in the background: what stands before a statement of our own is there when that is.
	w.markers++
	marker := fmt.Sprintf("SELECT 'marker %s %d'", w.db.Name, w.markers)
	w.db.MustExec(t, marker)
	var output string
	err := harness.Poll(t.Context(), func() error {
		if output = w.db.Server.Output(); !strings.Contains(output, marker) {
			return fmt.Errorf("PostgreSQL has not logged %q", marker)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(output) {
		if strings.Contains(line, " execute ") && strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// redis asks the key's own node, past the sidecar.
func (w *world) redis(t *testing.T, key string, args ...string) harness.Value {
	t.Helper()
	slot, err := w.cluster.Slot(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	node, err := w.cluster.MasterOf(t.Context(), slot)
	if err != nil {
		t.Fatal(err)
	}
	return node.MustDo(t, args...)
}

// bulk is a bulk string's reply.
func bulk(value string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value) }

// replyIs fails the test unless a command is answered so.
func replyIs(t *testing.T, c *harness.Conn, want string, args ...string) {
	t.Helper()
	if got := c.MustDo(t, args...); got != want {
		t.Errorf("%.200q: %.500q, want %.500q", args, got, want)
	}
}

// poll fails the test when something does not come true.
func poll(t *testing.T, ready func() error) {
	t.Helper()
	if err := harness.Poll(t.Context(), ready); err != nil {
		t.Fatal(err)
	}
}

// fetch gets a page of the admin server.
func fetch(ctx context.Context, s *harness.Sidecar, path string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.AdminURL()+path, nil)
	if err != nil {
		return 0, "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

// metric is a line's value in /metrics, "" where there is none.
func metric(t *testing.T, s *harness.Sidecar, series string) string {
	t.Helper()
	_, body, err := fetch(t.Context(), s, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

package readthrough

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"readthrough/test/harness"
)

// sidecar runs a subcommand to its end.
func sidecar(t *testing.T, env []string, args ...string) (code int, output string) {
	t.Helper()
	binary, err := harness.BuildSidecar(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := harness.StartProcess(harness.ProcessOptions{Path: binary, Args: args, Env: append([]string{"PATH=" + os.Getenv("PATH")}, env...)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if code, err = p.Wait(ctx); err != nil {
		p.Kill()
		t.Fatalf("%v\n%s", err, p.Output())
	}
	return code, p.Output()
}

// containsAll fails the test for what a text lacks.
func containsAll(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	env := []string{"ORIGIN_URL=" + w.db.URL()}
	code, out := sidecar(t, env, "check", "--config", w.sidecar.ConfigFile())
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	containsAll(t, out, "13 maps, 1 origin, no mistakes found in the file", "MAP ", "PARAMETERS ", "COLUMNS",
		"user:<id:int>", "@id integer", "id integer, name text, tier text", "@id uuid", "body bytea", "@day date",
		"warning: origin main: the role postgres ", "has no connection limit", "ACL SETUSER readthrough ")

	code, out = sidecar(t, nil, "check", "--offline", "--config", w.sidecar.ConfigFile())
	if code != 0 {
		t.Errorf("offline: exit code %d", code)
	}
	containsAll(t, out, "${ORIGIN_URL} is not set", "user:<id:int>", "id int")

	bad := filepath.Join(t.TempDir(), "bad.yaml")
	text := config(w.cluster.Addrs()...) + `
maps:
  - {name: one, key: "one:<id:int>", ttl: 1h, query: "SELECT * FROM no_such_table WHERE id = @id"}
  - {name: two, key: "two:<id:int>", ttl: 1h, query: "SELECT id, id FROM users WHERE id = @id"}
  - {name: three, key: "three:<id:int>", ttl: 1h, value: column, query: "SELECT id, name FROM users WHERE id = @id"}
`
	if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out = sidecar(t, env, "check", "--config", bad)
	if code != 1 {
		t.Errorf("bad: exit code %d", code)
	}
	containsAll(t, out, "maps[0].query", "no_such_table", "maps[1].query", "maps[2].", bad+":")
	if strings.Contains(out, w.db.Server.Password()) {
		t.Error("it prints the password")
	}
}

func TestExplain(t *testing.T) {
	w := newWorld(t)
	env := []string{"ORIGIN_URL=" + w.db.URL()}
	explain := func(key string) string {
		t.Helper()
		code, out := sidecar(t, env, "explain", "--config", w.sidecar.ConfigFile(), key)
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		return out
	}
	slot, err := w.cluster.Slot(t.Context(), "user:7")
	if err != nil {
		t.Fatal(err)
	}
	node, err := w.cluster.MasterOf(t.Context(), slot)
	if err != nil {
		t.Fatal(err)
	}
	containsAll(t, explain("user:7"), `"user:7"`, "@id = \"7\" (int)", "SELECT id, name, tier FROM users", fmt.Sprint(slot), node.Addr(), "in redis", "no")
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, bulk(user7), "GET", "user:7")
	containsAll(t, explain("user:7"), "yes, a string that expires in 5")
	replyIs(t, c, "$-1\r\n", "GET", "user:0")
	containsAll(t, explain("user:0"), "that there is no row")
	containsAll(t, explain("user:x"), "none: a GET of this key is relayed and nothing more", "map user, user:<id:int>: fits up to byte 5")
}

func TestProbeAndAdmin(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []string{"startup", "live", "ready"} {
		if code, out := sidecar(t, nil, "probe", kind, "--config", w.sidecar.ConfigFile()); code != 0 || out != "ok\n" {
			t.Errorf("probe %s: exit code %d, %s", kind, code, out)
		}
		if code, out := sidecar(t, nil, "probe", kind, "--admin", "127.0.0.1:1"); code != 1 {
			t.Errorf("probe %s of nothing: exit code %d, %s", kind, code, out)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/startupz"} {
		if status, body, err := fetch(t.Context(), w.sidecar, path); status != 200 || body != "ok\n" || err != nil {
			t.Errorf("%s answers %d %q, %v", path, status, body, err)
		}
	}
	poll(t, func() error {
		_, body, err := fetch(t.Context(), w.sidecar, "/readyz?verbose")
		if err == nil && !strings.Contains(body, "[+] upstream: ok") {
			err = fmt.Errorf("/readyz?verbose answers %q", body)
		}
		return err
	})

	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, bulk(user7), "GET", "user:7")
	replyIs(t, c, bulk(user7), "GET", "user:7")
	replyIs(t, c, "$-1\r\n", "GET", "user:0")
	replyIs(t, c, "-ORIGINERR map broken: 22012 division_by_zero\r\n", "GET", "broken:1")
	replyIs(t, c, "+OK\r\n", "SET", "list", "v")
	c.MustDo(t, "LPUSH", "list", "v")
	for series, want := range map[string]string{
		`readthrough_clients`:                                         "1",
		`readthrough_clients_accepted_total`:                          "1",
		`readthrough_hits_total`:                                      "1",
		`readthrough_misses_total`:                                    "3",
		`readthrough_commands_total{command="get",outcome="ok"}`:      "3",
		`readthrough_commands_total{command="get",outcome="failed"}`:  "1",
		`readthrough_commands_total{command="set",outcome="ok"}`:      "1",
		`readthrough_commands_total{command="lpush",outcome="error"}`: "1",
		`readthrough_loads_total{map="user",outcome="found"}`:         "1",
		`readthrough_loads_total{map="user",outcome="none"}`:          "1",
		`readthrough_loads_total{map="broken",outcome="error"}`:       "1",
		`readthrough_load_duration_seconds_count{map="user"}`:         "2",
		`readthrough_fills_total{map="user",outcome="stored"}`:        "1",
		`readthrough_upstream_up`:                                     "1",
		`readthrough_loops_answered`:                                  "1",
		`readthrough_upstream_dials_total{outcome="failed"}`:          "0",
		`readthrough_upstream_redirects_total{kind="moved"}`:          "0",
	} {
		if got := metric(t, w.sidecar, series); got != want {
			t.Errorf("%s is %q, want %s", series, got, want)
		}
	}
	for _, series := range []string{`readthrough_upstream_connections`, `readthrough_loop_busy_seconds_total{loop="0"}`, `readthrough_loop_turns_total{loop="0"}`} {
		if v, err := strconv.ParseFloat(metric(t, w.sidecar, series), 64); v <= 0 || err != nil {
			t.Errorf("%s is %v, %v", series, v, err)
		}
	}
	_, body, err := fetch(t.Context(), w.sidecar, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	containsAll(t, body, "readthrough_build_info{", "go_goroutines ", "process_resident_memory_bytes ")
}

// TestDrain holds that SIGTERM lets a client finish, answers what is in flight, and ends with 0.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, "+PONG\r\n", "PING")
	if err := w.sidecar.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		status, body, err := fetch(t.Context(), w.sidecar, "/readyz")
		if err == nil && status != 503 {
			err = fmt.Errorf("/readyz answers %d %q", status, body)
		}
		return err
	})
	for kind, want := range map[string]string{"startup": "ok\n", "live": "ok\n", "ready": "draining\n"} { // it must not be killed meanwhile
		if code, out := sidecar(t, nil, "probe", kind, "--config", w.sidecar.ConfigFile()); (code == 0) != (want == "ok\n") || out != want {
			t.Errorf("probe %s: exit code %d, %q", kind, code, out)
		}
	}
	replyIs(t, c, bulk(user7), "GET", "user:7") // served on, as are clients that come now
	late := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, late, bulk(user8), "GET", "user:8")
	if err := late.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(append(harness.Command("GET", "slow:draining"), harness.Command("QUIT")...)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{bulk("draining"), "+OK\r\n"} {
		if got, err := c.ReadReply(); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if code := exit(t, w.sidecar.Process); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// TestDrainGraceEnds holds that at the end of the grace what is in flight is answered, for a client that does not leave.
func TestDrainGraceEnds(t *testing.T) {
	cluster, db := harness.NewCluster(t, harness.ClusterOptions{}), newDatabase(t)
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: "shutdownGrace: 100ms\n" + config(cluster.Addrs()...) + maps, Env: []string{"ORIGIN_URL=" + db.URL()},
	})
	c := harness.NewConn(t, s.Addr())
	replyIs(t, c, "+PONG\r\n", "PING")
	if err := c.Send(harness.Command("GET", "slow:staying")); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		if metric(t, s, "readthrough_misses_total") != "1" {
			return fmt.Errorf("the load has not begun")
		}
		return nil
	})
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ReadReply(); err != nil || string(got) != bulk("staying") {
		t.Errorf("%q, %v", got, err)
	}
	if code := exit(t, s.Process); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// TestSecondSignal holds that a second signal ends the program at once, whoever is connected.
func TestSecondSignal(t *testing.T) {
	w := newWorld(t)
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, "+PONG\r\n", "PING")
	if err := w.sidecar.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		if !strings.Contains(w.sidecar.Logs(), `"msg":"draining"`) {
			return fmt.Errorf("it is not draining")
		}
		return nil
	})
	before := time.Now()
	if err := w.sidecar.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := exit(t, w.sidecar.Process); code != 128+int(syscall.SIGINT) {
		t.Errorf("exit code %d, want 130", code)
	}
	if took := time.Since(before); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// exit waits for a program's end.
func exit(t *testing.T, p *harness.Process) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// TestStartsAlone holds that the sidecar starts, and is ready, while neither Redis nor PostgreSQL is up, and finds both when they
// come.
func TestStartsAlone(t *testing.T) {
	redis, pg := harness.NewRedis(t, harness.RedisOptions{}), harness.NewPostgres(t, harness.PostgresOptions{})
	if err := pg.Exec(t.Context(), "postgres", schema); err != nil {
		t.Fatal(err)
	}
	redis.Kill()
	pg.Stop()
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: config(redis.Addr()) + maps, Env: []string{"ORIGIN_URL=" + pg.URL("postgres")},
	})
	c := harness.NewConn(t, s.Addr())
	for _, path := range []string{"/startupz", "/livez", "/readyz"} {
		if status, body, err := fetch(t.Context(), s, path); status != 200 || body != "ok\n" || err != nil {
			t.Errorf("%s answers %d %q, %v", path, status, body, err)
		}
	}
	if got := c.MustDo(t, "SET", "k", "v"); !strings.HasPrefix(got, "-UPSTREAMDOWN ") {
		t.Errorf("SET answers %q", got)
	}
	if got := c.MustDo(t, "GET", "unmapped"); !strings.HasPrefix(got, "-UPSTREAMDOWN ") {
		t.Errorf("GET answers %q", got)
	}
	if got := c.MustDo(t, "GET", "user:7"); !strings.HasPrefix(got, "-ORIGINDOWN map user: ") { // which would do without Redis
		t.Errorf("GET answers %q", got)
	}
	_, body, err := fetch(t.Context(), s, "/readyz?verbose")
	if err != nil {
		t.Fatal(err)
	}
	containsAll(t, body, "[-] upstream: ")

	if err := redis.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	poll(t, func() error {
		if got := c.MustDo(t, "SET", "k", "v"); got != "+OK\r\n" {
			return fmt.Errorf("SET answers %q", got)
		}
		return nil
	})
	foundRedis := time.Since(began)
	if got := c.MustDo(t, "GET", "late:x"); !strings.HasPrefix(got, "-ORIGINDOWN map late: ") {
		t.Errorf("GET answers %q", got)
	}
	if _, body, err = fetch(t.Context(), s, "/readyz?verbose"); err != nil {
		t.Fatal(err)
	}
	containsAll(t, body, "[+] upstream: ok", "[-] origin main: ")
	if _, body, err = fetch(t.Context(), s, "/metrics"); err != nil {
		t.Fatal(err)
	}
	containsAll(t, body, `readthrough_origin_up{origin="main"} 0`, `readthrough_origin_breaker_open{origin="main"} 0`)
	if err := pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	poll(t, func() error {
		if got := c.MustDo(t, "GET", "user:7"); got != bulk(user7) {
			return fmt.Errorf("GET answers %q", got)
		}
		return nil
	})
	t.Logf("ready after %v; Redis is found after %v, the origin after %v", s.StartTime, foundRedis, time.Since(began))
	if got := redis.MustDo(t, "GET", "user:7").Str; got != user7 {
		t.Errorf("Redis has %q", got)
	}
}

// TestNames holds that Redis and PostgreSQL show which pod a connection is from.
func TestNames(t *testing.T) {
	cluster, db := harness.NewCluster(t, harness.ClusterOptions{}), newDatabase(t)
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: config(cluster.Addrs()...) + maps,
		Env:    []string{"ORIGIN_URL=" + db.URL(), "POD_NAMESPACE=shop", "POD_NAME=checkout-5d9c-x2x"},
	})
	const name = "readthrough/shop/checkout-5d9c-x2x"
	c := harness.NewConn(t, s.Addr())
	for i := range 50 { // on every node
		replyIs(t, c, bulk(fmt.Sprint("user ", i+1)), "GET", fmt.Sprintf("{user:%d}:name", i+1))
	}
	for _, n := range cluster.Nodes() {
		list := n.MustDo(t, "CLIENT", "LIST").Str
		for line := range strings.Lines(list) {
			if !strings.Contains(line, "cmd=client|list") && !strings.Contains(line, " name="+name+" ") {
				t.Errorf("a connection of the sidecar's is named otherwise: %s", line)
			}
		}
		if strings.Count(list, " name="+name+" ") == 0 {
			t.Errorf("no connection is named %s:\n%s", name, list)
		}
	}

	conn, err := pgx.Connect(t.Context(), db.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var n int
	row := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1", name)
	if err := row.Scan(&n); err != nil || n == 0 {
		t.Errorf("%d connections to PostgreSQL are named %s, %v", n, name, err)
	}
}

// TestConfigVariable holds that READTHROUGH_CONFIG is as good as --config.
func TestConfigVariable(t *testing.T) {
	w := newWorld(t)
	env := []string{"ORIGIN_URL=" + w.db.URL(), "READTHROUGH_CONFIG=" + w.sidecar.ConfigFile()}
	if code, out := sidecar(t, env, "explain", "user:7"); code != 0 || !strings.Contains(out, "user:<id:int>") {
		t.Errorf("explain: exit code %d, %s", code, out)
	}
	// A second one cannot listen where the first does, and says so: it has read the same file.
	code, out := sidecar(t, env, "run", "--state-dir", "")
	if code != 1 || !strings.Contains(out, "address already in use") {
		t.Errorf("run: exit code %d, %s", code, out)
	}
	code, out = sidecar(t, nil, "run")
	if code == 0 || !strings.Contains(out, "READTHROUGH_CONFIG") {
		t.Errorf("run without a configuration: exit code %d, %s", code, out)
	}
}

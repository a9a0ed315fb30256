package readthrough

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"readthrough/internal/cgroup"
	"readthrough/test/harness"
)

// podUser is who runs the program in a pod, and who is not the owner of what is mounted there. Only root can have it run so.
func podUser() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: 65532, Gid: 65532}
}

// podFolder is a folder that every user can reach, with the volumes of a pod in it.
func podFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "readthrough-pod-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// podConfig is a configuration by whose one map every key says of which version it is. A load waits for the lock that the test may hold.
func podConfig(redis, version, more string) map[string]string {
	return map[string]string{"readthrough.yaml": fmt.Sprintf(`apiVersion: readthrough/v1
upstream: {addresses: [%q]}
origins: [{name: main, url: "${ORIGIN_URL}", pool: {max: 4}}]
%s
maps:
  - name: m
    key: "m:<x:text>"
    ttl: 1h
    timeout: 30s
    value: column
    query: "SELECT '%s ' || @x FROM pg_advisory_xact_lock_shared(7)"
`, redis, more, version)}
}

// TestConfigMapOfAPod is the life of a configuration in a pod: mounted as a kubelet does it, read by a user who owns nothing there, changed
// while a load is in flight, replaced by a bad one, found again in an emptyDir after the container died, and made good.
func TestConfigMapOfAPod(t *testing.T) {
	redis, db, dir := harness.NewRedis(t, harness.RedisOptions{}), newDatabase(t), podFolder(t)
	config := harness.NewVolume(t, filepath.Join(dir, "config"), podConfig(redis.Addr(), "first", ""))
	secret := harness.NewVolume(t, filepath.Join(dir, "secret"), map[string]string{"url": db.URL() + "\n"})
	emptyDir := filepath.Join(dir, "state")
	if err := os.Mkdir(emptyDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(emptyDir, 0o777); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(emptyDir, "state")
	s := harness.NewSidecar(t, harness.SidecarOptions{
		ConfigFile: config.Path("readthrough.yaml"), User: podUser(),
		Args: []string{"--state-dir", state}, Env: []string{"ORIGIN_URL_FILE=" + secret.Path("url")},
	})
	verbose := func() string {
		t.Helper()
		status, body, err := fetch(t.Context(), s, "/readyz?verbose")
		if err != nil || status != 200 {
			t.Fatalf("/readyz?verbose answers %d %q, %v", status, body, err)
		}
		return body
	}
	shows := func(wanted ...string) {
		t.Helper()
		poll(t, func() error {
			body := verbose()
			for _, want := range wanted {
				if !strings.Contains(body, want) {
					return fmt.Errorf("/readyz?verbose lacks %q: %s", want, body)
				}
			}
			return nil
		})
	}
	reloads := func(outcome string) string {
		t.Helper()
		return metric(t, s, `readthrough_config_reloads_total{outcome="`+outcome+`"}`)
	}
	c := harness.NewConn(t, s.Addr())
	replyIs(t, c, bulk("first 1"), "GET", "m:1")
	if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the state directory: %v, %v", info, err)
	}
	shows("[+] configuration: loaded\n[+] listener: serving\n[+] upstream: ok\n[+] origin main: ok\nok\n")

	// A load that is in flight ends under the maps with which it began.
	release := holdLock(t, db)
	if err := c.Send(harness.Command("GET", "m:2")); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		if n := metric(t, s, `readthrough_origin_connections{origin="main",state="busy"}`); n != "1" {
			return fmt.Errorf("%s loads", n)
		}
		return nil
	})
	config.Update(t, podConfig(redis.Addr(), "second", ""))
	poll(t, func() error {
		if n := reloads("applied"); n != "2" {
			return fmt.Errorf("%s applied", n)
		}
		return nil
	})
	release()
	if got, err := c.ReadReply(); err != nil || string(got) != bulk("first 2") {
		t.Errorf("the load in flight: %q, %v", got, err)
	}
	replyIs(t, c, bulk("second 3"), "GET", "m:3")

	// A bad file changes nothing but what is said of it.
	bad := podConfig(redis.Addr(), "third", "loops: many\nnonsense: 1")
	config.Update(t, bad)
	shows("[-] configuration: the file is refused, the last good one stays in use (does not count for readiness)\n",
		config.Path("readthrough.yaml")+":4: loops: must be a whole number", config.Path("readthrough.yaml")+":5: nonsense: unknown field")
	if n := reloads("refused"); n != "1" {
		t.Errorf("%s refused", n)
	}
	if n := metric(t, s, "readthrough_config_last_reload_successful"); n != "0" {
		t.Errorf("the last reload counts as successful: %s", n)
	}
	containsAll(t, s.Logs(), "configuration refused, the last good one stays in use", "loops: must be a whole number")
	replyIs(t, c, bulk("second 4"), "GET", "m:4")

	// The container dies and starts again.
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	shows("[-] configuration: the file is refused, the last good one is in use, as the state directory has kept it (does not count for readiness)\n",
		"loops: must be a whole number")
	c = harness.NewConn(t, s.Addr())
	replyIs(t, c, bulk("second 5"), "GET", "m:5")

	// A good one again, of which a part has to wait.
	config.Update(t, podConfig(redis.Addr(), "fourth", "loops: 2"))
	shows("[+] configuration: loaded\n[-] restart: needed for what has changed besides maps: loops (does not count for readiness)\n")
	replyIs(t, c, bulk("fourth 6"), "GET", "m:6")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	shows("[+] configuration: loaded\n[+] listener: serving\n")
}

// holdLock has the loads of podConfig wait until release is called.
func holdLock(t *testing.T, db *harness.Database) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock(7)"); err != nil {
		t.Fatal(err)
	}
	return func() { _ = conn.Close(context.WithoutCancel(t.Context())) }
}

// TestStartsWithoutNames holds that the sidecar starts, and is ready, where no name can be resolved, and that its probes say so.
func TestStartsWithoutNames(t *testing.T) {
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: config("redis.invalid:6379") + maps, Env: []string{"ORIGIN_URL=postgres://app@postgres.invalid/app"},
	})
	for _, kind := range []string{"startup", "live", "ready"} {
		if code, out := sidecar(t, nil, "probe", kind, "--config", s.ConfigFile()); code != 0 || out != "ok\n" {
			t.Errorf("probe %s: exit code %d, %s", kind, code, out)
		}
	}
	c := harness.NewConn(t, s.Addr())
	for command, want := range map[string]string{"SET k v": "-UPSTREAMDOWN ", "GET k": "-UPSTREAMDOWN ", "GET user:7": "-ORIGINDOWN map user: "} {
		if got := c.MustDo(t, strings.Fields(command)...); !strings.HasPrefix(got, want) {
			t.Errorf("%s answers %q, want %s", command, got, want)
		}
	}
	poll(t, func() error {
		_, body, err := fetch(t.Context(), s, "/readyz?verbose")
		if err == nil && (!strings.Contains(body, "[-] upstream: ") || !strings.Contains(body, "redis.invalid") || !strings.Contains(body, "[-] origin main: ")) {
			err = fmt.Errorf("/readyz?verbose answers %q", body)
		}
		return err
	})
	t.Logf("ready after %v", s.StartTime)
}

// ownLimit is the program's own: three quarters of what the container may take that the tests run in, and the sidecar with them, or of 128
// MiB where there is no such limit.
func ownLimit() float64 {
	if limit := cgroup.MemoryLimit(os.DirFS("/")); limit > 0 {
		return float64(limit / 4 * 3)
	}
	return 96 << 20
}

// TestMemoryLimit holds that the runtime's limit is that of GOMEMLIMIT, as the injector derives it from the container's, and else the
// program's own.
func TestMemoryLimit(t *testing.T) {
	for name, test := range map[string]struct {
		env  []string
		want float64
	}{
		"by itself":  {[]string{"GOMEMLIMIT="}, ownLimit()},
		"GOMEMLIMIT": {[]string{"GOMEMLIMIT=48MiB"}, 48 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewSidecar(t, harness.SidecarOptions{Config: config("127.0.0.1:1"), Env: append(test.env, "ORIGIN_URL=postgres://127.0.0.1:1/x")})
			got, err := strconv.ParseFloat(metric(t, s, "go_gc_gomemlimit_bytes"), 64)
			if err != nil || math.Abs(got-test.want) > 8 {
				t.Errorf("the limit is %f, want %f (%v)", got, test.want, err)
			}
		})
	}
}

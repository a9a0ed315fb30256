package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestClientName(t *testing.T) {
	for _, c := range []struct{ namespace, pod, host, want string }{
		{"shop", "cart-0", "ignored", "readthrough/shop/cart-0"},
		{"shop", "", "cart-1", "readthrough/shop/cart-1"},
		{"", "cart-0", "ignored", "readthrough/cart-0"},
		{"", "", "laptop", "readthrough"},
		{"shop", "a b\n", "", "readthrough/shop/ab"},
	} {
		t.Setenv("POD_NAMESPACE", c.namespace)
		t.Setenv("POD_NAME", c.pod)
		t.Setenv("HOSTNAME", c.host)
		if got := clientName(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestLogger(t *testing.T) {
	for format, want := range map[string]string{"auto": `{"level":"warn"`, "json": `{"level":"warn"`, "console": "WARN\tkept\t{\"n\": 1}"} {
		t.Run(format, func(t *testing.T) {
			path := writeFile(t, t.TempDir(), "log", "")
			file, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			level := zap.NewAtomicLevelAt(zap.WarnLevel)
			log := newLogger(file, format, level)
			log.Info("dropped")
			log.Warn("kept", zap.Int("n", 1))
			level.SetLevel(zap.DebugLevel)
			log.Debug("live")
			got := readFile(t, path)
			if strings.Contains(got, "dropped") || !strings.Contains(got, want) || !strings.Contains(got, "live") {
				t.Errorf("log: %s", got)
			}
			if format != "console" {
				var entry struct{ Time time.Time }
				first, _, _ := strings.Cut(got, "\n")
				if err := json.Unmarshal([]byte(first), &entry); err != nil || time.Since(entry.Time) > time.Minute {
					t.Errorf("%s: %v, %s", first, err, entry.Time)
				}
			}
		})
	}
}

func TestParseLevel(t *testing.T) {
	if level, err := parseLevel("warn"); err != nil || level.Level() != zap.WarnLevel {
		t.Errorf("warn: %v, %v", level, err)
	}
	for _, bad := range []string{"loud", "panic"} {
		if _, err := parseLevel(bad); err == nil || !strings.Contains(err.Error(), "write debug, info, warn or error") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func ask(handler http.Handler, method, target, host, body string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(method, target, strings.NewReader(body))
	request.Host = host
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

func TestDebugHandler(t *testing.T) {
	level := zap.NewAtomicLevel()
	handler := debugHandler(func() status { return status{Phase: "serving", Clients: 3} }, newFakeRelay(0).Explain, level)
	const local = "localhost:6382"
	for _, c := range []struct {
		method, target, host, body string
		code                       int
		want                       string
	}{
		{"GET", "/status", local, "", 200, `"clients": 3`},
		{"GET", "/status", "127.0.0.1", "", 200, `"phase": "serving"`},
		{"GET", "/status", "[::1]:6382", "", 200, ""},
		{"GET", "/status", "evil.example", "", 403, "loopback"},
		{"POST", "/status", local, "", 405, ""},
		{"GET", "/explain?key=a%20b", local, "", 200, `key  "a b"`},
		{"GET", "/explain", local, "", 400, "name a key"},
		{"GET", "/explain?key=broken", local, "", 500, "redis: unreachable"},
		{"PUT", "/loglevel", local, `{"level":"debug"}`, 200, "debug"},
		{"GET", "/debug/pprof/", local, "", 200, "goroutine"},
		{"GET", "/debug/pprof/heap?debug=1", local, "", 200, "heap profile"},
	} {
		if r := ask(handler, c.method, c.target, c.host, c.body); r.Code != c.code || !strings.Contains(r.Body.String(), c.want) {
			t.Errorf("%s %s on %s: %d %s", c.method, c.target, c.host, r.Code, r.Body)
		}
	}
	if level.Level() != zap.DebugLevel {
		t.Error("the level did not change")
	}
}

func TestAdminIsProbesAndMetricsOnly(t *testing.T) {
	h := &health{live: func(context.Context) error { return nil }}
	handler := adminHandler(h, newRegistry())
	for target, want := range map[string]int{
		"/livez": 200, "/startupz": 503, "/readyz": 503, "/metrics": 200, "/status": 404, "/explain?key=a": 404, "/debug/pprof/": 404, "/": 404,
	} {
		if r := ask(handler, "GET", target, "10.0.0.1:6381", ""); r.Code != want {
			t.Errorf("%s while starting: %d, want %d", target, r.Code, want)
		}
	}
	if r := ask(handler, "POST", "/livez", "", ""); r.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /livez: %d", r.Code)
	}
}

// TestLivenessHasADeadline hangs: the probe is answered all the same.
func TestLivenessHasADeadline(t *testing.T) {
	h := &health{live: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
	began := time.Now()
	r := ask(adminHandler(h, newRegistry()), "GET", "/livez", "", "")
	if r.Code != 503 || time.Since(began) > 10*liveTimeout {
		t.Errorf("%d after %s", r.Code, time.Since(began))
	}
}

// TestServersHaveTimeouts sends half a request header: the connection is closed and the server can be.
func TestServersHaveTimeouts(t *testing.T) {
	s, err := serveHTTP("localhost:0", http.NotFoundHandler(), time.Second, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]time.Duration{
		"header": s.server.ReadHeaderTimeout, "read": s.server.ReadTimeout, "write": s.server.WriteTimeout, "idle": s.server.IdleTimeout,
	} {
		if d <= 0 {
			t.Errorf("no %s timeout", name)
		}
	}
	for _, l := range s.listeners {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatalf("%s: %v", l.Addr(), err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 12)
		if _, err := conn.Read(answer); err != nil || string(answer) != "HTTP/1.1 404" {
			t.Errorf("%s: %q, %v", l.Addr(), answer, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestProbe(t *testing.T) {
	code, text := 200, "ok\n"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			code = 404
		}
		answer(w, code, strings.TrimSpace(text))
	}))
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	ask := func(admin string) (string, error) {
		t.Helper()
		url, err := probeURL(admin, "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		return probe(t.Context(), url)
	}
	if got, err := ask(":" + port); err != nil || got != "ok" {
		t.Errorf("%q, %v", got, err)
	}
	code, text = 503, "draining\n"
	if _, err := ask("0.0.0.0:" + port); err == nil || err.Error() != "draining" {
		t.Errorf("draining: %v", err)
	}
	s.Close()
	if _, err := ask("127.0.0.1:" + port); err == nil || !strings.HasPrefix(err.Error(), "no answer from a sidecar") {
		t.Errorf("gone: %v", err)
	}
}

// TestAdminAddress finds it in files that cannot be served: without their secrets, bad, and gone.
func TestAdminAddress(t *testing.T) {
	dir := t.TempDir()
	state := stateDir(filepath.Join(dir, "state"))
	path := writeFile(t, dir, "c.yaml", "admin: :7001\nupstream: {password: \"${UNSET_PASSWORD}\", adresses: []}\n")
	if got := adminAddress(path, state); got != ":7001" {
		t.Errorf("bad file: %q", got)
	}
	if err := state.save(path, []byte(minimal+"admin: :7002\n")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "c.yaml", "admin: [\n")
	if got := adminAddress(path, state); got != ":7002" {
		t.Errorf("last good copy: %q", got)
	}
	if got := adminAddress("", state); got != ":6381" {
		t.Errorf("no file: %q", got)
	}
	t.Setenv("READTHROUGH_ADMIN", ":7003")
	if got := adminAddress("", state); got != ":7003" {
		t.Errorf("variable: %q", got)
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{0: nil, 1: errors.New("x"), 2: usageError{errors.New("x")}} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	t.Setenv("READTHROUGH_CONFIG", "")
	for _, args := range [][]string{{}, {"nonsense"}, {"run"}, {"run", "--config", "c.yaml", "extra"}, {"check", "--nonsense"}, {"explain", "--config", "c.yaml"}, {"probe"}, {"probe", "nonsense"}} {
		root := rootCommand()
		root.SetArgs(args)
		root.SetOut(&bytes.Buffer{})
		if err := root.ExecuteContext(t.Context()); exitCode(err) != 2 {
			t.Errorf("%q: %v, exit code %d, want 2", args, err, exitCode(err))
		}
	}
}

package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSidecarServesAndStops(t *testing.T) {
	redis, db := NewRedis(t, RedisOptions{}), NewDatabase(t)
	db.MustExec(t, "CREATE TABLE users (user_id int PRIMARY KEY, tier text); INSERT INTO users VALUES (1, 'gold')")
	config := fmt.Sprintf(`
apiVersion: readthrough/v1
upstream: {addresses: [%q]}
origins: [{name: main, url: "${ORIGIN_URL}"}]
maps:
  - name: tier
    key: "tier:<user_id:int>"
    query: SELECT tier FROM users WHERE user_id = @user_id
    value: column
    ttl: 1h
`, redis.Addr())
	s := NewSidecar(t, SidecarOptions{Config: config, Env: []string{"ORIGIN_URL=" + db.URL()}})
	if got := NewConn(t, s.Addr()).MustDo(t, "GET", "tier:1"); got != "$4\r\ngold\r\n" {
		t.Errorf("GET = %q\n%s", got, s.Logs())
	}
	if s.StartTime <= 0 || s.StartTime > time.Minute {
		t.Errorf("start took %v", s.StartTime)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.AdminURL()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), "readthrough_") {
		t.Errorf("metrics: %v\n%s", err, text)
	}

	// The connection above holds the shutdown up; the second signal ends it.
	for range 2 {
		if err := s.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		err := Poll(t.Context(), func() error {
			if s.Running() && !strings.Contains(s.Logs(), "drain") {
				return fmt.Errorf("it did not take the signal:\n%s", s.Logs())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // less than the grace that the first signal gives
	defer cancel()
	if _, err := s.Wait(ctx); err != nil {
		t.Error(err)
	}
}

func TestSidecarThatCannotStartSaysWhy(t *testing.T) {
	_, err := StartSidecar(t.Context(), SidecarOptions{Config: "no-such-field: 1"})
	if err == nil || !strings.Contains(err.Error(), "no-such-field") {
		t.Errorf("error: %v", err)
	}
}

func TestSidecarRestart(t *testing.T) {
	redis := NewRedis(t, RedisOptions{})
	s := NewSidecar(t, SidecarOptions{Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%q]}\n", redis.Addr())})
	first, before := s.Process, NewConn(t, s.Addr())
	before.MustDo(t, "SET", "k", "v")
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if first.Running() || first.Pid() == s.Pid() {
		t.Error("the first process runs still")
	}
	if reply, err := before.Do("GET", "k"); err == nil {
		t.Errorf("the first one's connection answers %q", reply)
	}
	if got := NewConn(t, s.Addr()).MustDo(t, "GET", "k"); got != "$1\r\nv\r\n" {
		t.Errorf("GET = %q", got)
	}
}

package chaos

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

// program runs the sidecar with a configuration, to which the version is added.
func program(t *testing.T, config string, args ...any) *harness.Sidecar {
	t.Helper()
	return harness.NewSidecar(t, harness.SidecarOptions{Config: "apiVersion: readthrough/v1\n" + fmt.Sprintf(config, args...)})
}

// replace writes a file in one step, as a rotated secret is.
func replace(t *testing.T, path, text string) {
	t.Helper()
	next := path + ".next"
	must(t, os.WriteFile(next, []byte(text), 0o600))
	must(t, os.Rename(next, path))
}

// as runs a command on a node with a password of the moment.
func as(t *testing.T, n *harness.Redis, password string, command ...string) {
	t.Helper()
	c, err := harness.Dial(t.Context(), n.Addr(), n.TLSConfig())
	must(t, err)
	defer c.Close()
	if got := c.MustDo(t, "AUTH", password); got != "+OK\r\n" {
		t.Fatalf("AUTH: %q", got)
	}
	raw := c.MustDo(t, command...)
	if strings.HasPrefix(raw, "-") {
		t.Fatalf("%q: %q", command, raw)
	}
}

// The password of Redis is rotated under load: the new one is added, the file changes, the old one is taken away. Nothing fails. Then
// all connections are cut, and new ones are made with the new password.
func TestTheRedisPasswordIsRotated(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{Password: "old"}})
	secret := harness.NewVolume(t, t.TempDir(), map[string]string{"password": "old\n"}) // as a mounted Secret is changed
	s := program(t, "upstream: {addresses: [%q], passwordFile: %q}", cluster.Addrs()[0], secret.Path("password"))
	awaitRedis(t, s.Addr())
	crew := startWorkers(t, s.Addr(), false, tags...)
	crew.progress(t, 2)
	for _, n := range cluster.Nodes() {
		as(t, n, "old", "ACL", "SETUSER", "default", ">new")
	}
	secret.Update(t, map[string]string{"password": "new\n"})
	poll(t, func() error {
		if !strings.Contains(s.Logs(), "Redis credentials changed") {
			return fmt.Errorf("the change has not been seen")
		}
		return nil
	})
	crew.progress(t, 2)
	for _, n := range cluster.Nodes() {
		as(t, n, "new", "ACL", "SETUSER", "default", "<old")
	}
	crew.progress(t, 2)
	crew.stop(t, s.Addr())
	c := harness.NewConn(t, s.Addr())
	for _, n := range cluster.Nodes() {
		as(t, n, "new", "CLIENT", "KILL", "TYPE", "normal")
		for _, tag := range tags {
			if got := c.MustDo(t, "SET", tag, "v"); got != "+OK\r\n" {
				t.Fatalf("after the connections were cut: %q", got)
			}
		}
	}
	if logs := s.Logs(); strings.Contains(logs, "refuse") {
		t.Errorf("a password was refused:\n%s", logs)
	}
}

// The password of PostgreSQL is rotated under load: connections that are open go on, and when they are cut, new ones are made
// with the new password. No load fails.
func TestThePostgresPasswordIsRotated(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	db := harness.NewDatabase(t)
	db.MustExec(t, `CREATE ROLE rotating LOGIN PASSWORD 'old'`)
	t.Cleanup(func() {
		if err := db.Exec(context.Background(), "DROP ROLE rotating"); err != nil {
			t.Error(err)
		}
	})
	secret := harness.NewVolume(t, t.TempDir(), map[string]string{"password": "old\n"}) // as a mounted Secret is changed
	s := program(t, `
upstream: {addresses: [%q]}
origins: [{name: main, url: "postgres://rotating@%s/%s?sslmode=disable", passwordFile: %q}]
maps: [{name: numbers, key: "n:<n:int>", origin: main, query: "SELECT @n::int * 2 AS v", value: column, ttl: 1h, timeout: 5s}]
`, redis.Addr(), db.Server.Addr(), db.Name, secret.Path("password"))
	awaitRedis(t, s.Addr())
	c := harness.NewConn(t, s.Addr())
	n := 0
	load := func(atLeast int) {
		t.Helper()
		for range atLeast {
			n++
			want := fmt.Sprint(2 * n)
			if got := c.MustDo(t, "GET", fmt.Sprint("n:", n)); got != fmt.Sprintf("$%d\r\n%s\r\n", len(want), want) {
				t.Fatalf("n:%d: %q\n%s", n, got, s.Logs())
			}
		}
	}
	load(20)
	db.MustExec(t, `ALTER ROLE rotating PASSWORD 'new'`)
	load(20)
	secret.Update(t, map[string]string{"password": "new\n"})
	load(20)
	for range 3 {
		db.MustExec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'`)
		load(20)
	}
}

// tlsFiles writes the files of a client of an authority and returns the configuration that names them.
func tlsFiles(t *testing.T, dir string, ca *harness.CA) string {
	t.Helper()
	client, err := ca.Client("app")
	must(t, err)
	caFile, certFile, keyFile, err := ca.WriteFiles(dir, "client", client)
	must(t, err)
	return fmt.Sprintf("tls: {enabled: true, caFile: %q, certFile: %q, keyFile: %q}", caFile, certFile, keyFile)
}

// A cluster that speaks TLS alone and demands certificates, moving slots included.
func TestAClusterOverTLS(t *testing.T) {
	ca := harness.MustCA(t)
	cluster := harness.NewCluster(t, harness.ClusterOptions{RedisOptions: harness.RedisOptions{CA: ca, ClientCerts: true, Password: "secret"}})
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%q], password: \"${REDIS_PASSWORD}\", %s}",
			cluster.Addrs()[0], tlsFiles(t, t.TempDir(), ca)),
		Env: []string{"REDIS_PASSWORD=secret"},
	})
	awaitRedis(t, s.Addr())
	crew := startWorkers(t, s.Addr(), false, tags...)
	crew.progress(t, 2)
	slot, owner := ownerOf(t, cluster, "a")
	to := cluster.Nodes()[0]
	if owner == to {
		to = cluster.Nodes()[1]
	}
	must(t, cluster.MigrateSlot(t.Context(), slot, to))
	crew.progress(t, 2)
	crew.stop(t, s.Addr())
	big := strings.Repeat("x", 20<<20)
	c := harness.NewConn(t, s.Addr())
	if got := c.MustDo(t, "SET", "big", big); got != "+OK\r\n" {
		t.Fatalf("SET: %q", got)
	}
	if got := c.MustDo(t, "GET", "big"); got != fmt.Sprintf("$%d\r\n%s\r\n", len(big), big) {
		t.Fatalf("GET returned other bytes, %d of them", len(got))
	}
}

// The client's certificate is rotated to one of another authority, and Redis then trusts that one only: connections made from
// then on use the files as they are.
func TestTheClientCertificateIsRotated(t *testing.T) {
	ca, next := harness.MustCA(t), harness.MustCA(t)
	redis := harness.NewRedis(t, harness.RedisOptions{CA: ca, ClientCerts: true})
	dir, nextDir := t.TempDir(), t.TempDir()
	s := program(t, "upstream: {addresses: [%q], %s}", redis.Addr(), tlsFiles(t, dir, ca))
	awaitRedis(t, s.Addr())
	c := harness.NewConn(t, s.Addr())
	if got := c.MustDo(t, "SET", "k", "v"); got != "+OK\r\n" {
		t.Fatalf("SET: %q", got)
	}
	control, err := redis.Dial(t.Context()) // from before the change
	must(t, err)
	defer control.Close()
	tlsFiles(t, nextDir, next)
	for _, name := range []string{"client.crt", "client.key"} {
		text, err := os.ReadFile(filepath.Join(nextDir, name))
		must(t, err)
		replace(t, filepath.Join(dir, name), string(text))
	}
	if got := control.MustDo(t, "CONFIG", "SET", "tls-ca-cert-file", filepath.Join(nextDir, "ca.crt")); got != "+OK\r\n" {
		t.Fatalf("CONFIG SET: %q", got)
	}
	control.MustDo(t, "CLIENT", "KILL", "TYPE", "normal")
	if got := c.MustDo(t, "GET", "k"); got != "$1\r\nv\r\n" {
		t.Fatalf("with the new certificate: %q", got)
	}
}

// A Redis whose certificate is of an unknown authority: the reason stands in the reply and in readyz?verbose, and readiness does
// not depend on it.
func TestAWrongAuthority(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{CA: harness.MustCA(t)})
	s := program(t, "upstream: {addresses: [%q], %s}", redis.Addr(), tlsFiles(t, t.TempDir(), harness.MustCA(t)))
	const cause = "x509: certificate signed by unknown authority"
	if got := harness.NewConn(t, s.Addr()).MustDo(t, "GET", "k"); !strings.HasPrefix(got, "-UPSTREAMDOWN ") || !strings.Contains(got, cause) {
		t.Errorf("reply %q", got)
	}
	poll(t, func() error {
		status, text, err := fetch(t.Context(), s.AdminURL()+"/readyz?verbose")
		if err == nil && (status != http.StatusOK || !strings.Contains(text, "[-] upstream: ") || !strings.Contains(text, cause)) {
			err = fmt.Errorf("readyz: %d %s", status, text)
		}
		return err
	})
}

func fetch(ctx context.Context, url string) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// localhost is 127.0.0.1 and ::1.
func TestLocalhostIsBothAddresses(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	s := program(t, "upstream: {addresses: [%q]}", redis.Addr())
	awaitRedis(t, s.Addr())
	_, port, err := net.SplitHostPort(s.Addr())
	must(t, err)
	hosts := []string{"127.0.0.1"}
	if harness.HasIPv6() {
		hosts = append(hosts, "::1")
	}
	for i, host := range hosts {
		c := harness.NewConn(t, net.JoinHostPort(host, port))
		c.Timeout = 5 * time.Second
		if got := c.MustDo(t, "INCR", "n"); got != fmt.Sprintf(":%d\r\n", i+1) {
			t.Errorf("%s: %q", host, got)
		}
	}
}

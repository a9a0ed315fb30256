// Package fanout holds the tests of commands that several nodes of a cluster answer together.
package fanout

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

// newSidecar runs a sidecar before Redis servers that it knows, with more lines of configuration.
func newSidecar(t *testing.T, addrs []string, lines ...string) *harness.Sidecar {
	t.Helper()
	return newSidecarWith(t, harness.SidecarOptions{}, addrs, lines...)
}

func newSidecarWith(t *testing.T, o harness.SidecarOptions, addrs []string, lines ...string) *harness.Sidecar {
	t.Helper()
	o.Config = fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%s]}\n%s\n", strings.Join(addrs, ", "), strings.Join(lines, "\n"))
	s := harness.NewSidecar(t, o)
	if err := harness.Poll(t.Context(), func() error { return upstreamFound(t.Context(), s) }); err != nil {
		t.Fatal(err)
	}
	return s
}

// upstreamFound is nil once the sidecar knows its Redis, which it learns in the background.
func upstreamFound(ctx context.Context, s *harness.Sidecar) error {
	body, err := fetch(ctx, s.AdminURL()+"/readyz?verbose")
	if err == nil && !strings.Contains(body, "[+] upstream") {
		err = fmt.Errorf("/readyz?verbose answers %q", body)
	}
	return err
}

func get(t *testing.T, url string) string {
	t.Helper()
	body, err := fetch(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func fetch(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // leaves no goroutine behind
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// newConn connects to a sidecar and says HELLO.
func newConn(t *testing.T, s *harness.Sidecar, protocol int) *harness.Conn {
	t.Helper()
	c := harness.NewConn(t, s.Addr())
	if protocol == 3 {
		c.MustDo(t, "HELLO", "3")
	}
	return c
}

// do sends a command and decodes its reply.
func do(t *testing.T, c *harness.Conn, args ...string) harness.Value {
	t.Helper()
	v, err := harness.Decode([]byte(c.MustDo(t, args...)))
	if err != nil {
		t.Fatalf("%.200q: %v", args, err)
	}
	return v
}

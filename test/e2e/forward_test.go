//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// showsItself: what listens on the pod's localhost alone, Redis and the debug server, is reached by "kubectl port-forward".
func (w *world) showsItself(t *testing.T) {
	namespace := newNamespace(t, "look")
	w.stores.prepare(t, namespace)
	apply(t, namespace, deployment(w.appPod("app", "serve", "user:25")))
	awaitPods(t, namespace, "app=app")

	client := redis.NewClient(&redis.Options{Addr: forward(t, namespace, "deployment/app", 6380)})
	defer client.Close()
	if got, err := client.Get(t.Context(), "user:26").Result(); err != nil || got != "user 26" {
		t.Fatalf("GET user:26 answers %q, %v", got, err)
	}
	debug := "http://" + forward(t, namespace, "deployment/app", 6382)
	must(t, contains(fetch(t, debug+"/explain?key=user:26"), "user", "SELECT name FROM users"))
	fetch(t, debug+"/status")
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// forward gives an address of this machine that leads to a port of a pod for as long as the test runs.
func forward(t testing.TB, namespace, to string, port int) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := exec.CommandContext(ctx, "kubectl", "port-forward", "-n", namespace, to, fmt.Sprintf(":%d", port))
	out, err := c.StdoutPipe()
	must(t, err)
	c.Stderr = t.Output()
	must(t, c.Start())
	t.Cleanup(func() {
		cancel()
		_ = c.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	found := forwarding.FindStringSubmatch(line)
	if found == nil {
		t.Fatalf("kubectl port-forward says %q, %v", line, err)
	}
	return found[1]
}

// fetch gets a page.
func fetch(t testing.TB, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	must(t, err)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != http.StatusOK {
		must(t, errors.New(response.Status+": "+string(content)))
	}
	return string(content)
}

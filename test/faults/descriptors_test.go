package faults

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

// answered counts the clients that have an answer, or were closed.
func answered(clients []*harness.Conn) int {
	n := 0
	for _, c := range clients {
		if c.Pending() {
			n++
		}
	}
	return n
}

// More clients come than the sidecar has descriptors for: those that it has are served, as are probes, loads over new connections, and
// Redis after its connections were lost. The others wait, and come in as soon as some have gone.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	const files, count = 128, 300
	w := newWorld(t, "", user, harness.SidecarOptions{Files: files, Plain: true})
	first := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, first, "+PONG\r\n", "PING")
	clients := make([]*harness.Conn, count)
	for i := range clients {
		clients[i] = harness.NewConn(t, w.sidecar.Addr())
		must(t, clients[i].Send(harness.Command("PING")))
	}
	poll(t, func() error {
		if !strings.Contains(w.sidecar.Logs(), "no connection can be accepted now") {
			return fmt.Errorf("%d of %d clients are served", answered(clients), count)
		}
		return nil
	})
	served := answered(clients)
	if served < files/4 || served > files {
		t.Errorf("%d clients are served with %d descriptors", served, files)
	}

	if got := fetch(t, w.sidecar.AdminURL()+"/livez"); got != "ok\n" {
		t.Errorf("/livez answers %q", got)
	}
	if got := fetch(t, w.sidecar.AdminURL()+"/readyz"); got != "ok\n" {
		t.Errorf("/readyz answers %q", got)
	}
	replyIs(t, first, bulk("user 1"), "GET", "user:1") // the first connection to the origin
	w.redis.MustDo(t, "CLIENT", "KILL", "TYPE", "normal")
	poll(t, func() error {
		if got := first.MustDo(t, "GET", "user:1"); got != bulk("user 1") {
			return fmt.Errorf("GET answers %q", got)
		}
		return nil
	})
	cpu, err := w.sidecar.CPUTime()
	must(t, err)
	began := time.Now()
	var took times
	for n := 0; time.Since(began) < time.Second; n++ { // little work of its own
		if n < 100 {
			_, d := timed(t, first, "GET", "user:1")
			took = append(took, d)
		}
		runtime.Gosched()
	}
	after, err := w.sidecar.CPUTime()
	must(t, err)
	if after-cpu > 300*time.Millisecond {
		t.Errorf("%v of CPU in a second", after-cpu)
	}

	gone := 0
	for _, c := range clients {
		if gone < 20 && c.Pending() {
			_ = c.Close()
			gone++
		}
	}
	began = time.Now()
	poll(t, func() error {
		if n := answered(clients); n < served+gone-5 { // Redis and the origin have taken some
			return fmt.Errorf("%d clients are served, %d were before, %d have gone", n, served, gone)
		}
		return nil
	})
	t.Logf("%d of %d clients are served with %d descriptors; a GET meanwhile: %v, %v of CPU in a second; when %d have gone others are served after %v",
		served, count, files, took, after-cpu, gone, round(time.Since(began)))
	if n := strings.Count(w.sidecar.Logs(), "no connection can be accepted now"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
}

package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

// Thousands ask for keys of their own, more than the origin can take: as many loads as the map, and the origin, may have under way wait,
// the others are told at once. Those who wait cost no goroutine, once the bound is reached.
func TestMoreMissesThanTheOriginTakes(t *testing.T) {
	t.Parallel()
	const bound, clients = 200, 5000
	for name, test := range map[string]struct{ origin, queue, text string }{
		"a map":     {"queue: 1000", ", queue: 200", "200 loads of this map are under way"},
		"an origin": {"queue: 200", ", queue: 4000", "200 loads from origin main are under way"},
	} {
		if name == "an origin" && !harness.Long() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			maps := user + strings.Replace(slow, "ttl: 1h, timeout: 300ms, wait: 600ms", "ttl: 1h, timeout: 5s, wait: 10s"+test.queue, 1)
			w := newWorld(t, test.origin, maps, harness.SidecarOptions{Plain: true})
			c := harness.NewConn(t, w.sidecar.Addr())
			replyIs(t, c, bulk("user 1"), "GET", "user:1")
			memory, before := rss(t, w.sidecar), goroutines(t, w.sidecar)
			crowd := crowd{Addr: w.sidecar.Addr(), Clients: clients, Command: []string{"GET", "slow:%d"}}.start(t)
			said(t, crowd, "connected")
			hit := watch(t, w.sidecar.Addr(), hits)
			refused := `readthrough_loads_total{map="slow",outcome="busy"}`
			poll(t, func() error {
				if n := metric(t, w.sidecar, refused); n != clients-bound {
					return fmt.Errorf("%v of %d GETs are refused", n, clients)
				}
				return nil
			})
			during := goroutines(t, w.sidecar)
			replyBegins(t, c, "-ORIGINBUSY map slow: "+test.text, "GET", "slow:another")
			var busy times
			for i := range 200 {
				got, took := timed(t, c, "GET", fmt.Sprint("slow:one", i))
				if !strings.HasPrefix(got, "-ORIGINBUSY ") {
					t.Fatalf("GET answers %q", got)
				}
				busy = append(busy, took)
			}
			if test.origin == "queue: 1000" { // another map of the same origin has room
				replyIs(t, c, bulk("user 2"), "GET", "user:2")
			}
			got, hitTook := result(t, crowd), hit.stop(t)
			most := peak(t, w.sidecar)
			t.Logf("%d GETs: %v; told that it is busy: %v; hits meanwhile: %v; goroutines %d before, %d during; memory %d MiB before, %d MiB at most",
				clients, got, busy, hitTook, before, during, memory>>20, most>>20)
			if during > before+bound+50 {
				t.Errorf("%d goroutines for %d clients, %d before", during, clients, before)
			}
			if busy.median() > 50*time.Millisecond {
				t.Errorf("told that it is busy: %v", busy)
			}
			if most > memoryLimit {
				t.Errorf("%d MiB of memory", most>>20)
			}
			n := 0
			for kind, a := range got {
				n += a.Count
				if kind != "-ORIGINTIMEOUT" && kind != "-ORIGINBUSY" {
					t.Errorf("%d GETs are answered by %q", a.Count, kind)
				}
			}
			if n != clients {
				t.Errorf("%d answers for %d GETs", n, clients)
			}
			poll(t, func() error {
				if n := goroutines(t, w.sidecar); n > before+20 {
					return fmt.Errorf("%d goroutines are left, %d were before", n, before)
				}
				return nil
			})
		})
	}
}

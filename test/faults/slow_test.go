package faults

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"readthrough/test/harness"
)

// running is how many of the sidecar's queries with a text in them the server is at.
func (w *world) running(t testing.TB, text string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.db.URL())
	must(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	var n int
	must(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle' AND query LIKE '%' || $1 || '%'`, text).Scan(&n))
	return n
}

// A query that takes too long, and a server that says nothing more: the GET ends at the map's timeout, the query too.
func TestTheOriginIsSlow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "pool: {max: 4}", user+slow, harness.SidecarOptions{Plain: true})
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, bulk("user 1"), "GET", "user:1")
	const timeout = 300 * time.Millisecond
	for _, what := range []string{"query", "server"} {
		t.Run(what, func(t *testing.T) {
			if what == "server" {
				w.proxy.set(stall)
				defer w.proxy.cut()
				defer w.proxy.set(pass)
			}
			others := watch(t, w.sidecar.Addr(), hits)
			var took times
			for i := range size(5, 15) {
				got, d := timed(t, c, "GET", fmt.Sprint("slow:", what, i))
				// A connection over which the server says nothing is still in use while the next load wants one.
				if late := got == "-ORIGINTIMEOUT map slow: no answer in 300ms\r\n"; !late && (what == "query" || !strings.HasPrefix(got, "-ORIGIN")) {
					t.Fatalf("GET answers %q", got)
				}
				took = append(took, d)
			}
			alike := others.stop(t)
			t.Logf("a GET: %v; hits meanwhile: %v", took, alike)
			if took.max() > timeout+2*time.Second || took.median() < timeout {
				t.Errorf("a GET took %v, the timeout is %v", took, timeout)
			}
			if alike.median() > 100*time.Millisecond {
				t.Errorf("hits meanwhile took %v", alike)
			}
			poll(t, func() error {
				if n := w.running(t, "slowly"); n > 0 {
					return fmt.Errorf("%d queries run on", n)
				}
				return nil
			})
		})
	}
}

// Thousands of GETs wait for loads that are slow: each ends within its bound, other maps of the same origin and hits go on, and memory
// is bounded.
func TestThousandsWaitForASlowOrigin(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{"one key": {"GET", "slow:x"}, "keys of their own": {"GET", "slow:%d"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			maps := user + strings.Replace(slow, "ttl: 1h", "ttl: 1h, queue: 4000", 1)
			w := newWorld(t, "queue: 5000", maps, harness.SidecarOptions{Plain: true})
			c := harness.NewConn(t, w.sidecar.Addr())
			replyIs(t, c, bulk("user 1"), "GET", "user:1")
			const wait = 600 * time.Millisecond
			clients := size(2000, 4000)
			before := rss(t, w.sidecar)
			crowd := crowd{Addr: w.sidecar.Addr(), Clients: clients, Command: command}.start(t)
			said(t, crowd, "connected")
			hit := watch(t, w.sidecar.Addr(), hits)
			miss := watch(t, w.sidecar.Addr(), func(i int) ([]string, string) {
				return []string{"GET", fmt.Sprint("user:", 2+i)}, bulk(fmt.Sprint("user ", 2+i))
			})
			got := result(t, crowd)
			hitTook, missTook := hit.stop(t), miss.stop(t)
			most := peak(t, w.sidecar)
			t.Logf("%d GETs: %v; meanwhile hits: %v, misses of another map: %v; memory %d MiB before, %d MiB at most",
				clients, got, hitTook, missTook, before>>20, most>>20)
			n := 0
			for kind, a := range got {
				n += a.Count
				if kind != "-ORIGINTIMEOUT" && kind != "-ORIGINBUSY" {
					t.Errorf("%d GETs are answered by %q", a.Count, kind)
				}
				if a.Max > wait+3*time.Second {
					t.Errorf("%q took up to %v, may wait for %v", kind, a.Max, wait)
				}
			}
			if n != clients {
				t.Errorf("%d answers for %d GETs", n, clients)
			}
			if most > memoryLimit {
				t.Errorf("%d MiB of memory", most>>20)
			}
		})
	}
}

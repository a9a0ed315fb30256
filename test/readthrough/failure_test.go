package readthrough

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

// lonely is a world whose database is a server of its own, to be stopped.
type lonely struct {
	cluster *harness.Cluster
	pg      *harness.Postgres
	sidecar *harness.Sidecar
}

func newLonely(t *testing.T) *lonely {
	t.Helper()
	l := &lonely{cluster: harness.NewCluster(t, harness.ClusterOptions{}), pg: harness.NewPostgres(t, harness.PostgresOptions{})}
	if err := l.pg.Exec(t.Context(), "postgres", schema); err != nil {
		t.Fatal(err)
	}
	l.sidecar = harness.NewSidecar(t, harness.SidecarOptions{
		Config: config(l.cluster.Addrs()...) + maps, Env: []string{"ORIGIN_URL=" + l.pg.URL("postgres")},
	})
	return l
}

// TestOriginDown holds that while the database is down, misses are errors that say so, and all else goes on; and that it is found
// again when it is back.
func TestOriginDown(t *testing.T) {
	l := newLonely(t)
	c := harness.NewConn(t, l.sidecar.Addr())
	replyIs(t, c, bulk(user7), "GET", "user:7")
	l.pg.Stop()

	const late = 150 * time.Millisecond // the map's timeout, and a little
	before := time.Now()
	got := c.MustDo(t, "GET", "late:x")
	if !strings.HasPrefix(got, "-ORIGINDOWN map late: cannot connect to origin main: ") && !strings.HasPrefix(got, "-ORIGINERR map late: ") {
		t.Errorf("GET answers %q", got)
	}
	if took := time.Since(before); took > 20*late {
		t.Errorf("the error took %v", took)
	}
	got = c.MustDo(t, "GET", "late:x")
	if !strings.HasPrefix(got, "-ORIGINDOWN map late: cannot connect to origin main: ") {
		t.Errorf("GET answers %q", got)
	}
	if strings.Contains(got, l.pg.Password()) || strings.Contains(got, l.pg.Addr()) {
		t.Errorf("GET answers %q, which tells too much", got)
	}
	replyIs(t, c, "$-1\r\n", "GET", "late-nil:x")
	replyIs(t, c, bulk(user7), "GET", "user:7")
	replyIs(t, c, "+OK\r\n", "SET", "other", "v")
	replyIs(t, c, bulk("v"), "GET", "other")
	replyIs(t, c, "$-1\r\n", "GET", "nothing")
	if status, body, err := fetch(t.Context(), l.sidecar, "/readyz"); status != 200 || err != nil {
		t.Errorf("/readyz answers %d %q, %v", status, body, err)
	}

	if err := l.pg.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		if got := c.MustDo(t, "GET", "user:8"); got != bulk(user8) {
			return fmt.Errorf("GET answers %q", got)
		}
		return nil
	})
}

// TestOriginRestartsUnderLoad holds that no reply is wrong while the database restarts: a miss is its value or an error of the
// origin, never a null, and no client loses its connection.
func TestOriginRestartsUnderLoad(t *testing.T) {
	l := newLonely(t)
	var ending atomic.Bool
	var right, failed atomic.Int64
	var asking sync.WaitGroup
	const clients = 8
	for client := range clients {
		c := harness.NewConn(t, l.sidecar.Addr())
		asking.Go(func() {
			for i := client; !ending.Load(); i += clients {
				n := 1 + i%2000
				key := fmt.Sprintf("{user:%d}:name", n)
				got, err := c.Do("GET", key)
				if err != nil {
					t.Errorf("GET: %v", err)
					return
				}
				switch {
				case string(got) == bulk(fmt.Sprint("user ", n)):
					right.Add(1)
				case strings.HasPrefix(string(got), "-ORIGIN"):
					failed.Add(1)
				default:
					t.Errorf("%q: %q", key, got)
				}
				if _, err := c.Do("UNLINK", key); err != nil {
					t.Errorf("UNLINK: %v", err)
					return
				}
			}
		})
	}
	more := func() { // a hundred right answers more
		poll(t, func() error {
			if n := right.Load(); n < 100 {
				return fmt.Errorf("%d right answers, %d errors", n, failed.Load())
			}
			return nil
		})
		right.Store(0)
	}
	more()
	if err := l.pg.Restart(t.Context()); err != nil {
		t.Error(err)
	}
	more()
	ending.Store(true)
	asking.Wait()
}

package faults

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"readthrough/test/harness"
)

// The program is told to end while clients go on sending, pipelines of writes and keys that are missing. What has run has been answered,
// to each of them, when it closes their connections; and it ends in time.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	const grace = 300 * time.Millisecond
	const maps = user + `  - {name: late, key: "late:<what:text>", ttl: 1h, timeout: 5s, queue: 4096, value: column, query: "SELECT slowly(@what, 0.02) AS answer"}
`
	for round := range size(3, 20) {
		w := newWorld(t, "pool: {max: 8}, queue: 4096", maps, harness.SidecarOptions{Config: fmt.Sprintf("\nshutdownGrace: %v\n", grace)})
		const clients, depth = 20, 50
		conns := make([]*harness.Conn, clients)
		for i := range conns {
			conns[i] = harness.NewConn(t, w.sidecar.Addr())
			conns[i].Timeout = 30 * time.Second
		}
		var answered [clients]int // INCRs
		var room [clients]chan struct{}
		var working sync.WaitGroup
		for i, c := range conns {
			room[i] = make(chan struct{}, 3) // pipelines on their way
			working.Go(func() {
				incr := harness.Command("INCR", fmt.Sprint("n", i))
				for n := 0; c.Send(append(harness.Command("GET", fmt.Sprintf("late:%d-%d", i, n)), bytes.Repeat(incr, depth)...)) == nil; n++ {
					room[i] <- struct{}{}
				}
			})
			working.Go(func() {
				defer func() {
					_ = c.Close()
					<-room[i]
				}()
				for {
					for at := range 1 + depth {
						got, err := c.ReadReply()
						if err != nil {
							if len(got) > 0 {
								t.Errorf("client %d: half a reply: %.100q", i, got)
							}
							return
						}
						want := fmt.Sprintf(":%d\r\n", answered[i]+1)
						switch {
						case at == 0 && (got[0] == '$' || strings.HasPrefix(string(got), "-ORIGIN")):
						case at > 0 && string(got) == want:
							answered[i]++
						default:
							t.Errorf("client %d: %.100q, want %q", i, got, want)
							return
						}
					}
					<-room[i]
				}
			})
		}
		poll(t, func() error { // the load is on
			if n := metric(t, w.sidecar, `readthrough_commands_total{command="incr",outcome="ok"}`); n < clients*depth {
				return fmt.Errorf("%v commands", n)
			}
			return nil
		})
		began := time.Now()
		must(t, w.sidecar.Signal(syscall.SIGTERM))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		code, err := w.sidecar.Wait(ctx)
		took := time.Since(began)
		cancel()
		for _, c := range conns {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		}
		if err != nil || code != 0 {
			t.Errorf("exit code %d, %v", code, err)
		}
		working.Wait()
		sum := 0
		for i, n := range answered {
			if got := w.redis.MustDo(t, "GET", fmt.Sprint("n", i)).Str; got != fmt.Sprint(n) {
				t.Errorf("round %d, client %d: Redis has run %s INCRs, %d are answered", round, i, got, n)
			}
			sum += n
		}
		t.Logf("%d clients, %d writes, each that ran is answered; it ended after %v, the grace is %v", clients, sum, took.Round(time.Millisecond), grace)
		if took > grace+3*time.Second {
			t.Errorf("it took %v to end", took)
		}
		if t.Failed() {
			return
		}
	}
}

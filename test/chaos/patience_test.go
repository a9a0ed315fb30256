package chaos

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"readthrough/internal/slot"
	"readthrough/test/harness"
	"readthrough/upstream"
)

// own are commands that need a connection of their own, with what they are answered over RESP2.
var own = map[string]struct {
	commands [][]string
	replies  []string
}{
	"blocking":     {[][]string{{"BLPOP", "{k}queue", "0"}}, []string{"*2\r\n$8\r\n{k}queue\r\n$1\r\nx\r\n"}},
	"transaction":  {[][]string{{"MULTI"}, {"SET", "{k}t", "v"}, {"EXEC"}}, []string{"+OK\r\n", "+QUEUED\r\n", "*1\r\n+OK\r\n"}},
	"WATCH":        {[][]string{{"WATCH", "{k}t"}, {"MULTI"}, {"EXEC"}}, []string{"+OK\r\n", "+OK\r\n", "*0\r\n"}},
	"large":        {[][]string{{"SETRANGE", "{k}large", "0", strings.Repeat("x", 3<<20)}}, []string{":3145728\r\n"}},
	"subscription": {[][]string{{"SSUBSCRIBE", "{k}"}}, []string{"*3\r\n$10\r\nssubscribe\r\n$3\r\n{k}\r\n:1\r\n"}},
	"WAIT":         {[][]string{{"WAIT", "0", "0"}}, []string{":0\r\n"}},
}

// A node that is down for a moment is waited for by commands with connections of their own too.
func TestConnectionsOfTheirOwnWaitForANode(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	for name, test := range own {
		t.Run(name, func(t *testing.T) {
			redis.MustDo(t, "FLUSHALL")
			redis.MustDo(t, "RPUSH", "{k}queue", "x")
			c := harness.NewConn(t, r.Addr)
			p.refuse()
			before := r.Stats(t).DialsFailed
			go func() { _ = c.Send(pipeline(test.commands...)) }()
			poll(t, func() error {
				if r.Stats(t).DialsFailed < before+3 {
					return errors.New("it has not been tried three times")
				}
				return nil
			})
			p.accept(t)
			expect(t, c, test.replies...)
		})
	}
}

// And the slot's next master, where the node does not come back.
func TestConnectionsOfTheirOwnGoToTheNextMaster(t *testing.T) {
	for name, test := range own {
		t.Run(name, func(t *testing.T) {
			cluster := harness.NewCluster(t, harness.ClusterOptions{Replicas: 1})
			r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()})
			master, err := cluster.MasterOf(t.Context(), int(slot.Of([]byte("{k}"))))
			must(t, err)
			replicas, err := cluster.ReplicasOf(t.Context(), master)
			must(t, err)
			c := harness.NewConn(t, r.Addr)
			c.MustDo(t, "RPUSH", "{k}queue", "x")
			c.MustDo(t, "WAIT", "1", "0")
			master.Kill()
			before := r.Stats(t).DialsFailed
			go func() { _ = c.Send(pipeline(test.commands...)) }()
			poll(t, func() error {
				if r.Stats(t).DialsFailed == before {
					return errors.New("it has not been tried")
				}
				return nil
			})
			replicas[0].MustDo(t, "CLUSTER", "FAILOVER", "TAKEOVER")
			expect(t, c, test.replies...)
		})
	}
}

// What waits for a connection to be made counts as memory in use, whichever connection that is, and is bounded.
func TestWhatWaitsForANodeIsCounted(t *testing.T) {
	const bound = 32 << 20
	for name, test := range map[string]struct{ clients, commands, size int }{
		"shared": {100, 3, 900 << 10}, "of its own": {100, 2, 2 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			r, p, _ := bentRelay(t, upstream.Options{})
			clients := make([]*harness.Conn, test.clients)
			for i := range clients {
				clients[i] = harness.NewConn(t, r.Addr)
				clients[i].MustDo(t, "CLIENT", "ID")
			}
			p.refuse()
			command := harness.Command("SET", "k", strings.Repeat("x", test.size))
			for _, c := range clients {
				go func() {
					for range test.commands {
						if c.Send(command) != nil {
							return
						}
					}
				}()
			}
			most := 0
			poll(t, func() error {
				n := r.LoopStats(t).Buffered
				most = max(most, n)
				if most < bound/4 {
					return fmt.Errorf("%d bytes are held", n)
				}
				return nil
			})
			poll(t, func() error { // until they are all told
				n := r.LoopStats(t).Buffered
				if most = max(most, n); n > 0 {
					return fmt.Errorf("%d bytes are left", n)
				}
				return nil
			})
			if most > 3*bound { // much may come in one turn, and buffers grow by more than comes
				t.Errorf("%d bytes were held", most)
			}
		})
	}
}

package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"readthrough/internal/loop"
	"readthrough/resp"
	"readthrough/test/harness"
	"readthrough/upstream"
)

// At steady state a relayed command allocates nothing: not one object for each of 100,000, in either protocol, one at a time or
// pipelined, over a cluster.
func TestRelayingAllocatesNothing(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	for _, protocol := range []string{"2", "3"} {
		for _, depth := range []int{1, 100} {
			t.Run(fmt.Sprintf("RESP%s,depth=%d", protocol, depth), func(t *testing.T) {
				c := harness.NewConn(t, r.Addr)
				c.MustDo(t, "HELLO", protocol)
				var batch, answer []byte
				for i := range depth {
					key := fmt.Sprint("key", i)
					c.MustDo(t, "SET", key, "value")
					if i%2 == 0 {
						batch = append(batch, harness.Command("SET", key, "value")...)
						answer = append(answer, "+OK\r\n"...)
					} else {
						batch = append(batch, harness.Command("GET", key)...)
						answer = append(answer, "$5\r\nvalue\r\n"...)
					}
				}
				got := make([]byte, len(answer))
				round := func() {
					if _, err := c.Write(batch); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(c.Conn, got); err != nil || !bytes.Equal(got, answer) {
						t.Fatalf("%v, %q", err, got)
					}
				}
				commands := 100_000
				if depth == 1 {
					commands = 20_000
				}
				for range 100 { // to its steady state
					round()
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range commands / depth {
					round()
				}
				runtime.ReadMemStats(&after)
				// What runs beside, such as discovery and timers, allocates a little, whatever the number of commands.
				if n := after.Mallocs - before.Mallocs; n > uint64(commands)/20 {
					t.Errorf("%d allocations for %d commands", n, commands)
				}
			})
		}
	}
}

// When the relay has shut down, with clients of all kinds connected, no goroutine of it is left.
func TestNothingIsLeftAfterShutdown(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	ignore := goleak.IgnoreCurrent()
	l, err := loop.New()
	must(t, err)
	up, err := upstream.New(upstream.Options{Addresses: []string{redis.Addr()}}, []*loop.Loop{l})
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := resp.New(resp.Options{
		Listeners: []net.Listener{listener}, Loops: []*loop.Loop{l}, Upstreams: []resp.Upstream{up.Side(0)}, Logger: zap.NewNop(),
	})
	up.Start()
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	addr := listener.Addr().String()
	awaitRedis(t, addr)
	for _, text := range [][]byte{
		nil, []byte("*2\r\n$3\r\nGE"), pipeline([]string{"GET", "k"}), harness.Command("SET", "k", string(make([]byte, 2<<20)))[:1500<<10],
		pipeline([]string{"AUTH", "wrong"}), pipeline([]string{"HELLO", "3"}, []string{"GET", "k"}),
	} {
		c := harness.NewConn(t, addr)
		must(t, c.Send(text))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_ = server.Close(ctx) // clients that are in the middle of something stay
	l.Stop()
	select {
	case err := <-ended:
		must(t, err)
	case <-time.After(patience):
		t.Fatal("the loop does not stop")
	}
	up.Close()
	if err := goleak.Find(ignore); err != nil {
		t.Error(err)
	}
}

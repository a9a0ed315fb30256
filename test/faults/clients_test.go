package faults

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"readthrough/test/harness"
)

// 10,000 clients that have said something and are idle now add less than 40 MiB, and others do not feel them.
func TestTenThousandClients(t *testing.T) {
	t.Parallel()
	const count, limit = 10_000, 40 << 20
	w := newWorld(t, "", user, harness.SidecarOptions{Plain: true})
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, bulk("user 1"), "GET", "user:1")
	before := rss(t, w.sidecar)
	hit := watch(t, w.sidecar.Addr(), hits)
	const own = 3 // clients: c, awaitRedis's and the watch
	crowd := crowd{Addr: w.sidecar.Addr(), Clients: count, Command: []string{"GET", "user:1"}, Stay: true}.start(t)
	began := time.Now()
	said(t, crowd, "connected")
	connected := time.Since(began)
	got := result(t, crowd)
	took := hit.stop(t)
	after := rss(t, w.sidecar)
	t.Logf("%d clients connect in %v; each asks: %v; others meanwhile: %v; memory %d MiB before, %d MiB with them idle",
		count, round(connected), got, took, before>>20, after>>20)
	if got["$"].Count != count {
		t.Errorf("%v", got)
	}
	if n := metric(t, w.sidecar, "readthrough_clients"); n != count+own {
		t.Errorf("%v clients", n)
	}
	if after-before > limit {
		t.Errorf("%d idle clients add %d MiB, the limit is %d MiB", count, (after-before)>>20, limit>>20)
	}
	if before > 25<<20 {
		t.Errorf("without clients it takes %d MiB, the limit is 25 MiB", before>>20)
	}
	crowd.Kill() // all leave at once
	poll(t, func() error {
		if n := metric(t, w.sidecar, "readthrough_clients"); n != own {
			return fmt.Errorf("%v clients are left", n)
		}
		return nil
	})
	replyIs(t, c, bulk("user 1"), "GET", "user:1")
}

// Clients that read nothing, and clients that send the half of a command, share one bound of memory, and others do not feel them.
func TestClientsThatDoNotReadOrDoNotFinish(t *testing.T) {
	t.Parallel()
	const each = 10
	w := newWorld(t, "", user, harness.SidecarOptions{Plain: true})
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, bulk("user 1"), "GET", "user:1")
	w.redis.MustDo(t, "SET", "big", strings.Repeat("x", 1<<20))
	before := rss(t, w.sidecar)
	hit := watch(t, w.sidecar.Addr(), hits)

	// Each asks for 50 MiB, or sends 800 KB of an argument that would be larger.
	command := harness.Command("SET", "half", strings.Repeat("x", 900_000))
	var conns []net.Conn
	for range each {
		for _, text := range [][]byte{[]byte(strings.Repeat(string(harness.Command("GET", "big")), 50)), command[:800_000]} {
			conn, err := net.Dial("tcp", w.sidecar.Addr())
			must(t, err)
			defer conn.Close()
			_ = conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // it may not be read, or closed
			_, _ = conn.Write(text)
			conns = append(conns, conn)
		}
	}
	most := 0.0
	began := time.Now()
	poll(t, func() error {
		most = max(most, metric(t, w.sidecar, `readthrough_loop_buffer_bytes{loop="0"}`))
		if time.Since(began) < time.Duration(size(2, 20))*time.Second {
			return fmt.Errorf("they stay")
		}
		return nil
	})
	replyIs(t, c, bulk("user 2"), "GET", "user:2")
	replyIs(t, c, "+OK\r\n", "SET", "k", "v")
	took, killed := hit.stop(t), metric(t, w.sidecar, "readthrough_clients_killed_total")
	for _, conn := range conns {
		_ = conn.Close()
	}
	poll(t, func() error {
		if n := metric(t, w.sidecar, `readthrough_loop_buffer_bytes{loop="0"}`); n > 1<<20 {
			return fmt.Errorf("%v bytes are held", n)
		}
		return nil
	})
	t.Logf("%d clients that ask for 50 MiB each and read nothing, %d that send 800 KB of a command: up to %.1f MiB of buffers, %v of them closed; others: %v; memory %d MiB before, %d MiB at most",
		each, each, most/(1<<20), killed, took, before>>20, peak(t, w.sidecar)>>20)
	if most > 40<<20 {
		t.Errorf("%.1f MiB of buffers, the budget is 32 MiB", most/(1<<20))
	}
	if p := peak(t, w.sidecar); p > memoryLimit {
		t.Errorf("%d MiB of memory", p>>20)
	}
}

// Replies of a million elements pass through a sidecar with little memory.
func TestAReplyOfAMillionElements(t *testing.T) {
	t.Parallel()
	const elements = 1_000_000
	clients := size(2, 10)
	w := newWorld(t, "", user, harness.SidecarOptions{Plain: true})
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, bulk("user 1"), "GET", "user:1")
	w.redis.MustDo(t, "EVAL", "for i = 1, 1000 do local t = {} for j = 1, 1000 do t[j] = i * 1000 + j end redis.call('RPUSH', KEYS[1], unpack(t)) end", "1", "list")
	before := rss(t, w.sidecar)
	hit := watch(t, w.sidecar.Addr(), hits)
	var all errgroup.Group
	began := time.Now()
	for range clients {
		conn, err := net.Dial("tcp", w.sidecar.Addr())
		must(t, err)
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		all.Go(func() error {
			if _, err := conn.Write(harness.Command("LRANGE", "list", "0", "-1")); err != nil {
				return err
			}
			in := bufio.NewReaderSize(conn, 64<<10)
			if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("*%d\r\n", elements) {
				return fmt.Errorf("%q, %w", line, err)
			}
			for i := 1; i <= elements; i++ {
				want := bulk(fmt.Sprint(1000 + i))
				got, err := in.Peek(len(want))
				if err != nil || string(got) != want {
					return fmt.Errorf("element %d: %q, want %q, %w", i, got, want, err)
				}
				if _, err := in.Discard(len(want)); err != nil {
					return err
				}
			}
			if n := in.Buffered(); n > 0 {
				return fmt.Errorf("%d bytes too many", n)
			}
			return nil
		})
	}
	must(t, all.Wait())
	took := time.Since(began)
	most := peak(t, w.sidecar)
	t.Logf("%d clients read %d elements each in %v; others meanwhile: %v; memory %d MiB before, %d MiB at most",
		clients, elements, round(took), hit.stop(t), before>>20, most>>20)
	if most > memoryLimit {
		t.Errorf("%d MiB of memory", most>>20)
	}
}

// The largest value that Redis takes passes in both directions, and a larger one is refused as Redis refuses it.
func TestTheLargestValue(t *testing.T) {
	t.Parallel()
	largest := size(128<<20, 512<<20)
	w := newWorld(t, "", user, harness.SidecarOptions{Plain: true})
	c := harness.NewConn(t, w.sidecar.Addr())
	replyIs(t, c, bulk("user 1"), "GET", "user:1")
	hit := watch(t, w.sidecar.Addr(), hits)
	conn, err := net.Dial("tcp", w.sidecar.Addr())
	must(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	in := bufio.NewReaderSize(conn, 64<<10)
	began := time.Now()
	_, err = io.Copy(conn, io.MultiReader(strings.NewReader(fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n", largest)),
		io.LimitReader(zeros{}, int64(largest)), strings.NewReader("\r\n")))
	must(t, err)
	if line, err := in.ReadString('\n'); err != nil || line != "+OK\r\n" {
		t.Fatalf("SET is answered by %q, %v", line, err)
	}
	set := time.Since(began)
	began = time.Now()
	_, err = conn.Write(harness.Command("GET", "v"))
	must(t, err)
	if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("$%d\r\n", largest) {
		t.Fatalf("GET is answered by %q, %v", line, err)
	}
	if n, err := io.CopyN(io.Discard, in, int64(largest)+2); err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	get := time.Since(began)
	most := peak(t, w.sidecar)
	t.Logf("%d MiB: SET in %v, GET in %v; others meanwhile: %v; memory %d MiB at most", largest>>20, round(set), round(get), hit.stop(t), most>>20)
	if most > memoryLimit {
		t.Errorf("%d MiB of memory", most>>20)
	}
	_, err = fmt.Fprintf(conn, "*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n", 512<<20+1)
	must(t, err)
	if line, err := in.ReadString('\n'); err != nil || line != "-ERR Protocol error: invalid bulk length\r\n" {
		t.Errorf("a larger one is answered by %q, %v", line, err)
	}
}

// zeros is an endless value.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

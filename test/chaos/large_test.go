package chaos

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"readthrough/test/harness"
	"readthrough/upstream"
)

// memoryLimit is what the sidecar has in its pod, in bytes.
const memoryLimit = 128 << 20

// peak is the most memory that a process has had, in bytes.
func peak(t testing.TB, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "VmHWM:" {
			kib, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// content is a stream of size bytes that depend on the seed.
func content(seed uint64, size int) io.Reader {
	var key [32]byte
	key[0] = byte(seed)
	return io.LimitReader(rand.NewChaCha8(key), int64(size))
}

func digest(r io.Reader) [32]byte {
	h := sha256.New()
	_, _ = io.Copy(h, r)
	return [32]byte(h.Sum(nil))
}

// set streams a SET and reads its reply.
func set(c *net.TCPConn, in *bufio.Reader, key string, seed uint64, size int) error {
	head := fmt.Sprintf("*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n", len(key), key, size)
	if _, err := io.Copy(c, io.MultiReader(strings.NewReader(head), content(seed, size), strings.NewReader("\r\n"))); err != nil {
		return err
	}
	line, err := in.ReadString('\n')
	if err == nil && line != "+OK\r\n" {
		err = fmt.Errorf("SET: %q", line)
	}
	return err
}

// get sends a GET and compares its reply with what set has sent.
func get(c *net.TCPConn, in *bufio.Reader, key string, seed uint64, size int) error {
	if _, err := c.Write(harness.Command("GET", key)); err != nil {
		return err
	}
	line, err := in.ReadString('\n')
	if err != nil || line != fmt.Sprintf("$%d\r\n", size) {
		return fmt.Errorf("GET: %q, %w", line, err)
	}
	if digest(io.LimitReader(in, int64(size))) != digest(content(seed, size)) {
		return fmt.Errorf("GET: other bytes than were SET")
	}
	_, err = in.Discard(2)
	return err
}

// Large values pass through a sidecar that has far less memory than they are large.
func TestLargeValuesFitIntoTheMemory(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	sidecar := harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%q]}", cluster.Addrs()[0]), Plain: true,
	})
	dial := func() (*net.TCPConn, *bufio.Reader) {
		c, err := net.Dial("tcp", sidecar.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		return c.(*net.TCPConn), bufio.NewReader(c)
	}
	awaitRedis(t, sidecar.Addr())
	c, in := dial()
	const huge = 256 << 20
	if err := set(c, in, "huge", 1, huge); err != nil {
		t.Fatal(err)
	}
	if err := get(c, in, "huge", 1, huge); err != nil {
		t.Fatal(err)
	}
	harness.NewConn(t, sidecar.Addr()).MustDo(t, "DEL", "huge")
	t.Logf("peak after 256 MiB: %d MiB", peak(t, sidecar.Pid())>>20)

	var all errgroup.Group
	for i := range uint64(4) {
		c, in := dial()
		all.Go(func() error {
			key := fmt.Sprint("large", i)
			if err := set(c, in, key, i, 64<<20); err != nil {
				return err
			}
			return get(c, in, key, i, 64<<20)
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	most := peak(t, sidecar.Pid())
	t.Logf("peak after 4 times 64 MiB at once: %d MiB", most>>20)
	if most > memoryLimit {
		t.Errorf("%d MiB of memory, the limit is %d MiB", most>>20, memoryLimit>>20)
	}
}

// awaitRedis waits until a sidecar knows Redis.
func awaitRedis(t testing.TB, addr string) {
	t.Helper()
	c := harness.NewConn(t, addr)
	poll(t, func() error {
		raw, err := c.Do("GET", "awaited")
		if err == nil {
			_, err = decode(raw)
		}
		return err
	})
}

// Commands before and behind a large one are answered in their order, and see what it did.
func TestALargeCommandInAPipeline(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	big, bigger := strings.Repeat("a", 3<<20), strings.Repeat("b", 5<<20)
	commands := pipeline(
		[]string{"SET", "{k}", "small"}, []string{"GET", "{k}"},
		[]string{"SET", "{k}", big}, []string{"STRLEN", "{k}"},
		[]string{"GETSET", "{k}", bigger}, []string{"STRLEN", "{k}"},
		[]string{"APPEND", "{k}", big}, []string{"GET", "{k}"}, []string{"PING"},
		[]string{"MSET", "{k}", big, "{k}2", bigger}, []string{"STRLEN", "{k}2"}, []string{"DEL", "{k}", "{k}2"},
	)
	c := harness.NewConn(t, r.Addr)
	go func() { // in pieces that end anywhere
		for len(commands) > 0 {
			n := min(len(commands), 1+rand.IntN(300_000))
			if c.Send(commands[:n]) != nil {
				return
			}
			commands = commands[n:]
		}
	}()
	bulk := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	expect(t, c, "+OK\r\n", "$5\r\nsmall\r\n", "+OK\r\n", ":3145728\r\n", bulk(big), ":5242880\r\n",
		":8388608\r\n", bulk(bigger+big), "+PONG\r\n", "+OK\r\n", ":5242880\r\n", ":2\r\n")
}

// A large argument where nothing can be done with it is read to its end and answered, and the session goes on.
func TestALargeArgumentThatIsOfNoUse(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	c := harness.NewConn(t, r.Addr)
	big := strings.Repeat("x", 3<<20)
	for _, command := range [][]string{
		{"AUTH", big},
		{"HELLO", "3", "SETNAME", big},
		{"CLIENT", "SETNAME", big},
		{"SUBSCRIBE", big + big},
		{"SCAN", "0", "MATCH", big},
		{"NOSUCHCOMMAND", big},
		{"GET", "k", big},
		{big},
		{big, "k"},
	} {
		go func() { _ = c.Send(pipeline(command, []string{"PING"})) }()
		got, err := c.ReadReply()
		if err != nil || !strings.HasPrefix(string(got), "-") || len(got) > 1000 {
			t.Fatalf("%.30q: %.200q, %v", command, got, err)
		}
		expect(t, c, "+PONG\r\n")
	}
}

// A connection that is lost while a large command passes over it: an error, and the session goes on.
func TestAConnectionLostUnderALargeCommand(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	big := strings.Repeat("x", 8<<20)
	for name, taken := range map[string]int{"at its beginning": 10, "in its middle": 4 << 20, "at its end": len(harness.Command("SET", "k", big))} {
		t.Run(name, func(t *testing.T) {
			p.once(func(b *bent) { b.requests(taken) })
			c := harness.NewConn(t, r.Addr)
			go func() {
				_ = c.Send(pipeline([]string{"SET", "k", big}, []string{"SET", "k", "after"}, []string{"GET", "k"}))
			}()
			expectLost(t, c, p)
			expect(t, c, "+OK\r\n", "$5\r\nafter\r\n")
		})
	}
	p.refuse()
	defer p.accept(t)
	c := harness.NewConn(t, r.Addr)
	go func() { _ = c.Send(harness.Command("SET", "k", big)) }()
	got, err := c.ReadReply()
	if want := "-UPSTREAMDOWN Redis at " + p.addr + ": connect: connection refused\r\n"; string(got) != want || err != nil {
		t.Fatalf("reply %q, %v, want %q", got, err, want)
	}
	if got := redis.MustDo(t, "GET", "k").Str; got != "after" {
		t.Fatalf("Redis has %.100q", got)
	}
}

// A client that goes away in the middle of a large command leaves nothing behind.
func TestAClientThatLeavesInTheMiddleOfALargeCommand(t *testing.T) {
	r, _, redis := bentRelay(t, upstream.Options{})
	command := harness.Command("SET", "k", strings.Repeat("x", 4<<20))
	for range 10 {
		c := harness.NewConn(t, r.Addr)
		if err := c.Send(command[:2<<20]); err != nil {
			t.Fatal(err)
		}
		poll(t, func() error { // it is on its way
			if n := len(strings.Split(redis.MustDo(t, "CLIENT", "LIST").Str, "\n")); n < 4 {
				return fmt.Errorf("%d lines of CLIENT LIST", n)
			}
			return nil
		})
		_ = c.Close()
		poll(t, func() error {
			if st := r.LoopStats(t); st.Conns > 1 || st.Buffered > 0 {
				return fmt.Errorf("%d connections, %d bytes are left", st.Conns, st.Buffered)
			}
			return nil
		})
	}
	if got := redis.MustDo(t, "EXISTS", "k").Str; got != "0" {
		t.Fatal("half a command ran")
	}
}

// A large command that reaches a node which does not own the slot any more cannot be sent again: the client is told to repeat it,
// and the repetition works.
func TestALargeCommandForASlotThatMoved(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	r := newRelay(t, upstream.Options{Addresses: cluster.Addrs()[:1]})
	c := harness.NewConn(t, r.Addr)
	big := bytes.Repeat([]byte("x"), 3<<20)
	command := harness.Command("SET", "k", string(big))
	if got := c.MustDo(t, "SET", "k", "v"); got != "+OK\r\n" {
		t.Fatalf("reply %q", got)
	}
	slot, err := cluster.Slot(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	nodes := cluster.Nodes()
	owner, err := cluster.MasterOf(t.Context(), slot)
	if err != nil {
		t.Fatal(err)
	}
	to := nodes[0]
	if owner == to {
		to = nodes[1]
	}
	if err := cluster.MigrateSlot(t.Context(), slot, to); err != nil {
		t.Fatal(err)
	}
	tries := 0
	poll(t, func() error {
		tries++
		go func() { _ = c.Send(command) }()
		got, err := c.ReadReply()
		if err != nil {
			t.Fatal(err)
		}
		if want := "-TRYAGAIN the slot is moving, and a command this large is not kept for sending it again: repeat it\r\n"; string(got) != "+OK\r\n" && string(got) != want {
			t.Fatalf("reply %q", got)
		}
		_, err = decode(got)
		return err
	})
	if tries > 2 {
		t.Errorf("it took %d tries", tries)
	}
	if got := c.MustDo(t, "STRLEN", "k"); got != ":3145728\r\n" {
		t.Fatalf("reply %q", got)
	}
}

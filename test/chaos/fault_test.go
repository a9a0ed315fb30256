package chaos

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
	"readthrough/upstream"
)

// bentRelay is a relay to a standalone Redis behind a proxy.
func bentRelay(t *testing.T, opts upstream.Options) (*relay, *proxy, *harness.Redis) {
	t.Helper()
	redis := harness.NewRedis(t, harness.RedisOptions{})
	p := newProxy(t, redis.Addr())
	opts.Addresses = []string{p.addr}
	return newRelay(t, opts), p, redis
}

// once has the first shared connection from now on handled by a script, and those after it passed on.
func (p *proxy) once(script func(*bent)) {
	var used atomic.Bool
	p.bend(func(b *bent) {
		if used.Swap(true) {
			b.pass()
			return
		}
		script(b)
	})
}

// lostText matches the error of a write that may have run.
func lostText(p *proxy) string {
	return "-UPSTREAMLOST connection to Redis at " + p.addr + " was lost ("
}

// expectLost reads one reply, which must say that the command may have run.
func expectLost(t *testing.T, c *harness.Conn, p *proxy) {
	t.Helper()
	got, err := c.ReadReply()
	if err != nil || !strings.HasPrefix(string(got), lostText(p)) || !strings.HasSuffix(string(got), "the command may have run\r\n") {
		t.Fatalf("reply %.200q, %v, want %q…", got, err, lostText(p))
	}
}

func TestAReadWhoseConnectionIsLostIsSentAgain(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	redis.MustDo(t, "SET", "k", "v")
	for name, script := range map[string]func(*bent){
		"before it is read":            func(b *bent) {},
		"after it is read":             func(b *bent) { b.requests(len(harness.Command("GET", "k"))) },
		"in the middle of the command": func(b *bent) { b.requests(5) },
		"in the middle of the reply": func(b *bent) {
			b.requests(len(harness.Command("GET", "k")))
			b.replies(3)
		},
		"by a reset": func(b *bent) {
			b.requests(len(harness.Command("GET", "k")))
			_ = b.client.SetLinger(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p.once(script)
			c := harness.NewConn(t, r.Addr)
			if got := c.MustDo(t, "GET", "k"); got != "$1\r\nv\r\n" {
				t.Fatalf("reply %q", got)
			}
		})
	}
}

// So is a command that does nothing to anybody, though Redis does not call it a read.
func TestAHarmlessCommandWhoseConnectionIsLostIsSentAgain(t *testing.T) {
	r, p, _ := bentRelay(t, upstream.Options{})
	for _, args := range [][]string{{"PING"}, {"ECHO", "+PONG"}, {"INFO", "server"}, {"CONFIG", "GET", "maxmemory"}} {
		p.once(func(b *bent) { b.requests(len(harness.Command(args...))) })
		c := harness.NewConn(t, r.Addr)
		if got := c.MustDo(t, args...); got[0] == '-' {
			t.Errorf("%q: %q", args, got)
		}
	}
	p.once(func(b *bent) { b.requests(len(harness.Command("PUBLISH", "c", "m"))) })
	c := harness.NewConn(t, r.Addr)
	if err := c.Send(harness.Command("PUBLISH", "c", "m")); err != nil {
		t.Fatal(err)
	}
	expectLost(t, c, p)
}

// A write that was written when its connection was lost may have run, whatever came back, and is not sent again.
func TestAWriteWhoseConnectionIsLostIsAnErrorThatSaysSo(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	command := harness.Command("INCR", "n")
	for name, test := range map[string]struct {
		script func(*bent)
		ran    string
	}{
		"before it ran": {func(b *bent) {}, "0"},
		"after it ran":  {func(b *bent) { b.requests(len(command)); _, _ = io.ReadFull(b.server, make([]byte, 4)) }, "1"},
		"in its reply":  {func(b *bent) { b.requests(len(command)); b.replies(2) }, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			redis.MustDo(t, "SET", "n", "0")
			p.once(test.script)
			c := harness.NewConn(t, r.Addr)
			if err := c.Send(command); err != nil {
				t.Fatal(err)
			}
			expectLost(t, c, p)
			if got := redis.MustDo(t, "GET", "n").Str; got != test.ran {
				t.Fatalf("the write ran %s times, want %s", got, test.ran)
			}
			if got := c.MustDo(t, "GET", "n"); got != fmt.Sprintf("$1\r\n%s\r\n", test.ran) {
				t.Fatalf("the next command's reply is %q", got)
			}
		})
	}
}

// Of a pipeline that loses its connection, what was answered stays answered, each write has its error, a read that a write
// followed is an error too, since it could see that write, and a read behind the last write is sent again. The replies are in
// the order of the commands.
func TestAPipelineThatLosesItsConnection(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	redis.MustDo(t, "SET", "n", "0")
	commands := pipeline([]string{"INCR", "n"}, []string{"INCR", "n"}, []string{"GET", "n"}, []string{"INCR", "n"}, []string{"GET", "n"}, []string{"GET", "n"})
	p.once(func(b *bent) {
		b.requests(len(commands))
		b.replies(len(":1\r\n"))
	})
	c := harness.NewConn(t, r.Addr)
	other := harness.NewConn(t, r.Addr)
	if err := c.Send(commands); err != nil {
		t.Fatal(err)
	}
	expect(t, c, ":1\r\n")
	expectLost(t, c, p)
	expectLost(t, c, p)
	expectLost(t, c, p)
	expect(t, c, "$1\r\n3\r\n", "$1\r\n3\r\n")
	if got := other.MustDo(t, "GET", "n"); got != "$1\r\n3\r\n" {
		t.Fatalf("another client's reply is %q", got)
	}
}

// Commands of which the node cannot have seen the end, since they were not written, are sent again, writes too.
func TestCommandsThatWereNotWrittenAreSentAgain(t *testing.T) {
	r, p, _ := bentRelay(t, upstream.Options{})
	value := strings.Repeat("x", 500_000)
	const clients, count = 4, 8 // 16 MB: more than the socket buffers take, each client less than it may have under way
	p.once(func(b *bent) {
		_, _ = b.in.Peek(1)
		_ = harness.Poll(t.Context(), func() error { // all of it is written, or waits in the relay
			if r.LoopStats(t).Buffered < clients*count*len(value) {
				return errors.New("not there yet")
			}
			return nil
		})
	})
	var conns []*harness.Conn
	for i := range clients {
		c := harness.NewConn(t, r.Addr)
		conns = append(conns, c)
		go func() {
			for n := range count {
				_ = c.Send(harness.Command("RPUSH", fmt.Sprint("list", i), fmt.Sprint(n)+value))
			}
		}()
	}
	again := 0
	for i, c := range conns {
		ran := 0
		for n := range count {
			got, err := c.ReadReply()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(got), lostText(p)) {
				if ran > 0 {
					t.Fatalf("client %d: write %d may have run, but one before it was sent again", i, n)
				}
				continue
			}
			ran++
			if want := fmt.Sprintf(":%d\r\n", ran); string(got) != want {
				t.Fatalf("client %d: reply %d is %q, want %q", i, n, got, want)
			}
		}
		again += ran
	}
	if again == 0 || again == clients*count {
		t.Fatalf("%d of %d commands were sent again", again, clients*count)
	}
}

// A large reply that has begun cannot be taken back: its client is closed, and nobody else.
func TestAConnectionLostInTheMiddleOfALargeReply(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	redis.MustDo(t, "SET", "big", strings.Repeat("x", 1<<20))
	redis.MustDo(t, "SET", "k", "v")
	p.once(func(b *bent) {
		b.requests(len(harness.Command("GET", "big")))
		b.replies(500_000)
	})
	c, other := harness.NewConn(t, r.Addr), harness.NewConn(t, r.Addr)
	if err := c.Send(pipeline([]string{"GET", "big"}, []string{"GET", "k"})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadReply(); !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Fatalf("the client was told %v", err)
	}
	if got := other.MustDo(t, "GET", "k"); got != "$1\r\nv\r\n" {
		t.Fatalf("another client's reply is %q", got)
	}
}

// A node that takes commands and never answers: what waits there is answered when the silence has lasted.
func TestANodeThatHangs(t *testing.T) {
	const silence = 300 * time.Millisecond
	r, p, redis := bentRelay(t, upstream.Options{Silence: silence})
	redis.MustDo(t, "SET", "k", "v")
	p.once((*bent).hang)
	writer, reader := harness.NewConn(t, r.Addr), harness.NewConn(t, r.Addr)
	began := time.Now()
	if err := errors.Join(writer.Send(harness.Command("INCR", "n")), reader.Send(harness.Command("GET", "k"))); err != nil {
		t.Fatal(err)
	}
	expectLost(t, writer, p)
	if since := time.Since(began); since < silence {
		t.Errorf("given up after %v", since)
	}
	expect(t, reader, "$1\r\nv\r\n")
}

// The same while a large command is on its way, which has a connection of its own.
func TestANodeThatHangsUnderALargeCommand(t *testing.T) {
	r, p, _ := bentRelay(t, upstream.Options{Silence: 300 * time.Millisecond})
	for name, size := range map[string]int{"before it is taken": 32 << 20, "before it is answered": 2 << 20} {
		t.Run(name, func(t *testing.T) {
			p.once(func(b *bent) {
				if size == 2<<20 {
					b.hang()
				} else {
					<-b.done // reads nothing
				}
			})
			c := harness.NewConn(t, r.Addr)
			go func() {
				_ = c.Send(pipeline([]string{"SET", "k", strings.Repeat("x", size)}, []string{"SET", "k", "v"}, []string{"GET", "k"}))
			}()
			expectLost(t, c, p)
			expect(t, c, "+OK\r\n", "$1\r\nv\r\n")
		})
	}
}

func TestANodeThatAnswersGarbage(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	redis.MustDo(t, "SET", "k", "v")
	for _, garbage := range []string{"HTTP/1.1 400 Bad Request\r\n\r\n", "$x\r\n", "*-\r\n", "$99999999999999999999\r\n", "\x00\x01\x02", "\r\n"} {
		p.once(func(b *bent) {
			_, _ = b.in.Peek(1)
			_, _ = io.WriteString(b.client, garbage)
			b.hang()
		})
		c := harness.NewConn(t, r.Addr)
		if err := c.Send(pipeline([]string{"GET", "k"}, []string{"INCR", "n"})); err != nil {
			t.Fatal(err)
		}
		expectLost(t, c, p) // a write followed it
		expectLost(t, c, p)
		if got := c.MustDo(t, "GET", "k"); got != "$1\r\nv\r\n" {
			t.Fatalf("after %q: reply %q", garbage, got)
		}
	}
	// A reply that nobody asked for: what comes after it could be anybody's.
	p.once(func(b *bent) {
		b.requests(len(harness.Command("GET", "k")))
		_, _ = io.CopyN(b.client, b.server, int64(len("$1\r\nv\r\n")))
		_, _ = io.WriteString(b.client, "+stray\r\n")
		b.hang()
	})
	c := harness.NewConn(t, r.Addr)
	for range 3 {
		if got := c.MustDo(t, "GET", "k"); got != "$1\r\nv\r\n" {
			t.Fatalf("reply %q", got)
		}
	}
}

// A node that refuses connections: commands wait for it for a while, then fail at once, naming address and cause, and work again
// as soon as it is back.
func TestANodeThatIsDown(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	redis.MustDo(t, "SET", "k", "v")
	p.refuse()
	want := "-UPSTREAMDOWN Redis at " + p.addr + ": connect: connection refused\r\n"
	c := harness.NewConn(t, r.Addr)
	began := time.Now()
	if got := c.MustDo(t, "SET", "k", "w"); got != want {
		t.Fatalf("reply %q, want %q", got, want)
	}
	if since := time.Since(began); since < 2*time.Second || since > 5*time.Second {
		t.Errorf("the first command was given up after %v, want about 3s", since)
	}
	began = time.Now()
	for range 50 {
		if got := c.MustDo(t, "GET", "k"); got != want {
			t.Fatalf("reply %q, want %q", got, want)
		}
	}
	if since := time.Since(began); since > 2*time.Second {
		t.Errorf("50 commands to a node known to be down took %v", since)
	}
	p.accept(t)
	began = time.Now()
	poll(t, func() error {
		_, err := decode([]byte(c.MustDo(t, "GET", "k")))
		return err
	})
	if since := time.Since(began); since > time.Second {
		t.Errorf("it took %v to find that the node is back", since)
	}
	if got := c.MustDo(t, "GET", "k"); got != "$1\r\nv\r\n" {
		t.Fatalf("reply %q", got)
	}
}

// A node that is down for less than that is not noticed.
func TestANodeThatIsDownForAMoment(t *testing.T) {
	r, p, redis := bentRelay(t, upstream.Options{})
	redis.MustDo(t, "SET", "n", "0")
	c := harness.NewConn(t, r.Addr)
	p.refuse()
	if err := c.Send(pipeline([]string{"INCR", "n"}, []string{"INCR", "n"}, []string{"GET", "n"})); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error { // it has been tried in vain
		if r.Stats(t).DialsFailed == 0 {
			return errors.New("no dial has failed yet")
		}
		return nil
	})
	p.accept(t)
	expect(t, c, ":1\r\n", ":2\r\n", "$1\r\n2\r\n")
}

// Redis is not there when the relay starts, and one of the seeds never answers.
func TestRedisComesLate(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	p := newProxy(t, redis.Addr())
	p.refuse()
	hung, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts there
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	r := startRelay(t, upstream.Options{Addresses: []string{hung.Addr().String(), p.addr}})
	c := harness.NewConn(t, r.Addr)
	got := c.MustDo(t, "SET", "k", "v")
	if !strings.HasPrefix(got, "-UPSTREAMDOWN Redis: ") || !strings.Contains(got, p.addr) || !strings.Contains(got, "connection refused") {
		t.Fatalf("reply %q", got)
	}
	p.accept(t)
	r.await(t)
	if got := c.MustDo(t, "SET", "k", "v"); got != "+OK\r\n" {
		t.Fatalf("reply %q", got)
	}
}

// A client whose own password does not hold any more is told so; for others the node is not down.
func TestARefusedUserDoesNotTakeTheNodeFromOthers(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, upstream.Options{Addresses: []string{redis.Addr()}})
	redis.MustDo(t, "ACL", "SETUSER", "alice", "on", ">secret", "~*", "+@all")
	alice, other := harness.NewConn(t, r.Addr), harness.NewConn(t, r.Addr)
	if got := alice.MustDo(t, "AUTH", "alice", "secret") + alice.MustDo(t, "GET", "k"); got != "+OK\r\n$-1\r\n" {
		t.Fatalf("replies %q", got)
	}
	redis.MustDo(t, "ACL", "SETUSER", "alice", "resetpass", ">changed")
	redis.MustDo(t, "CLIENT", "KILL", "USER", "alice")
	want := "-UPSTREAMDOWN Redis at " + redis.Addr() + ": WRONGPASS invalid username-password pair or user is disabled.\r\n"
	if got := alice.MustDo(t, "GET", "k"); got != want {
		t.Fatalf("reply %q, want %q", got, want)
	}
	for range 100 { // alice keeps trying, others have to connect again
		if err := alice.Send(harness.Command("GET", "k")); err != nil {
			t.Fatal(err)
		}
		redis.MustDo(t, "CLIENT", "KILL", "TYPE", "normal", "USER", "default")
		if got := other.MustDo(t, "GET", "k"); got != "$-1\r\n" {
			t.Fatalf("another client's reply is %q", got)
		}
		// Her connection may be cut before Redis has looked at the password.
		if got, err := alice.ReadReply(); err != nil || !strings.HasPrefix(string(got), "-UPSTREAMDOWN Redis at "+redis.Addr()+": ") {
			t.Fatalf("reply %q, %v", got, err)
		}
	}
}

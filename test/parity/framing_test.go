package parity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"readthrough/test/harness"
)

// framingPatience bounds every wait for bytes or for the end of a connection.
const framingPatience = 20 * time.Second

// framingParty is one side of the comparison: a server that gets hostile bytes, and a control connection that must not mind.
type framingParty struct {
	addr    string
	control *harness.Conn
}

// framingPair is a Redis, and a sidecar in front of another that is configured alike.
type framingPair struct {
	redis, sidecar framingParty
	own            []*harness.Redis // of each party
	process        *harness.Sidecar
}

// framingAllowed are the commands that the servers let their users run: those whose answer is no matter of time or chance, and
// below, those that the sidecar needs itself.
const (
	framingAllowed = "+ping +echo +set +get +getset +mget +mset +del +incr +append +strlen +exists +type +lpush +lrange +quit +auth +select"
	framingNeeded  = "+hello +client +cluster +command +info"
)

// framingUncomparable matches inputs that may name a command which tells of its own server or connection.
var framingUncomparable = regexp.MustCompile(`(?i)hello|client|cluster|command|info`)

// framingSetUps are the deployments that are compared.
var framingSetUps = map[string]func(t testing.TB) *harness.Redis{
	"standalone": func(t testing.TB) *harness.Redis { return harness.NewRedis(t, harness.RedisOptions{}) },
	"cluster": func(t testing.TB) *harness.Redis {
		return harness.NewCluster(t, harness.ClusterOptions{Masters: 1}).Nodes()[0]
	},
}

func newFramingPair(t testing.TB, start func(t testing.TB) *harness.Redis) *framingPair {
	t.Helper()
	p := &framingPair{own: []*harness.Redis{start(t), start(t)}}
	for _, r := range p.own {
		r.MustDo(t, "ACL", "SETUSER", "control", "on", "nopass", "~*", "&*", "+@all")
		rules := strings.Fields("ACL SETUSER default -@all " + framingAllowed + " " + framingNeeded)
		r.MustDo(t, rules...)
	}
	p.process = harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%q]}", p.own[1].Addr()),
	})
	p.redis.addr, p.sidecar.addr = p.own[0].Addr(), p.process.Addr()
	for _, party := range []*framingParty{&p.redis, &p.sidecar} {
		party.control = harness.NewConn(t, party.addr)
		if got := party.control.MustDo(t, "PING"); got != "+PONG\r\n" {
			t.Fatalf("%s answers PING with %q", party.addr, got)
		}
	}
	return p
}

// empty has both servers forget their keys.
func (p *framingPair) empty(t testing.TB) {
	t.Helper()
	for _, r := range p.own {
		c := harness.NewConn(t, r.Addr())
		c.MustDo(t, "AUTH", "control", "any")
		if got := c.MustDo(t, "FLUSHALL"); got != "+OK\r\n" {
			t.Fatalf("FLUSHALL: %q", got)
		}
		_ = c.Close()
	}
}

// compare sends the same bytes to both, and compares what comes back and whether the connection stays open. It returns what
// Redis does.
func (p *framingPair) compare(t testing.TB, in []byte) (out []byte, open bool) {
	t.Helper()
	p.empty(t)
	out = p.redis.all(t, in)
	if got := p.sidecar.all(t, in); !bytes.Equal(got, out) {
		t.Fatalf("to %.300q\nRedis answers    %.1000q\nthe sidecar      %.1000q", in, out, got)
	}

	p.empty(t)
	redis, sidecar := p.redis.begin(t, in, len(out)), p.sidecar.begin(t, in, len(out))
	open = p.redis.open(t, redis)
	if !open {
		if rest := framingRest(t, sidecar); len(rest) > 0 {
			t.Fatalf("to %.300q\nthe sidecar sends %.300q where Redis closes", in, rest)
		}
	} else if !p.sidecar.open(t, sidecar) {
		t.Fatalf("to %.300q\nthe sidecar closes the connection after %.1000q, Redis does not", in, out)
	}
	if open {
		// What comes next has the same effect as well: a command, or a part of the one that is unfinished.
		next := harness.Command("PING", "what comes next")
		for _, c := range []*net.TCPConn{redis, sidecar} {
			framingSend(c, next)
			_ = c.CloseWrite()
		}
		want, got := framingRest(t, redis), framingRest(t, sidecar)
		if !bytes.Equal(got, want) {
			t.Fatalf("to %.300q, and then %q\nRedis answers    %.1000q\nthe sidecar      %.1000q", in, next, want, got)
		}
	}
	_, _ = redis.Close(), sidecar.Close()
	p.canary(t)
	return out, open
}

// canary holds that the sidecar lives and that another client is served.
func (p *framingPair) canary(t testing.TB) {
	t.Helper()
	if !p.process.Running() {
		t.Fatal("the sidecar has ended")
	}
	p.sidecar.roundTrip(t)
}

// roundTrip returns when the party has handled what it was sent before.
func (p *framingParty) roundTrip(t testing.TB) {
	t.Helper()
	for range 2 { // Redis sends replies before it closes connections, in one round of its loop
		if got := p.control.MustDo(t, "GET", "framing:none"); got != "$-1\r\n" {
			t.Fatalf("another client gets %q", got)
		}
	}
}

// dial connects, and returns when the party has accepted the connection.
func (p *framingParty) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", p.addr, framingPatience)
	if err != nil {
		t.Fatal(err)
	}
	conn := c.(*net.TCPConn)
	_ = conn.SetDeadline(time.Now().Add(framingPatience))
	framingSend(conn, []byte("GET framing:none\r\n"))
	framingRead(t, conn, []byte("$-1\r\n"))
	return conn
}

// all sends pieces on a new connection, each when the one before was handled, shuts the client's side, and returns all that
// comes back.
func (p *framingParty) all(t testing.TB, pieces ...[]byte) []byte {
	t.Helper()
	c := p.dial(t)
	defer func() { _ = c.Close() }()
	for i, piece := range pieces {
		if i > 0 {
			p.roundTrip(t)
		}
		framingSend(c, piece)
	}
	_ = c.CloseWrite()
	return framingRest(t, c)
}

// begin sends bytes on a new connection and reads as many as must come back.
func (p *framingParty) begin(t testing.TB, in []byte, replies int) *net.TCPConn {
	t.Helper()
	c := p.dial(t)
	framingSend(c, in)
	if _, err := io.ReadFull(c, make([]byte, replies)); err != nil {
		t.Fatalf("%d bytes of replies to %.300q: %v", replies, in, err)
	}
	return c
}

// open tells whether the party leaves a connection open whose replies were all read.
func (p *framingParty) open(t testing.TB, c *net.TCPConn) bool {
	t.Helper()
	p.roundTrip(t)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var peeked error
	if err := raw.Read(func(fd uintptr) bool {
		n, _, peeked = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if n > 0 {
		t.Fatalf("unexpected bytes %.300q", framingRest(t, c))
	}
	return errors.Is(peeked, unix.EAGAIN)
}

// framingSend writes what the other side takes: it may close the connection at any time.
func framingSend(c *net.TCPConn, b []byte) { _, _ = c.Write(b) }

// framingRead reads exactly what must come.
func framingRead(t testing.TB, c *net.TCPConn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %.300q, %v, want %.300q", got[:n], err, want)
	}
}

// framingRest reads until the other side closes the connection; that it had not read everything is no error.
func framingRest(t testing.TB, c *net.TCPConn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("after %.300q: %v", b, err)
	}
	return b
}

// framingCases are bytes whose fate is known.
var framingCases = []struct {
	in   string
	open bool // Redis leaves the connection open
}{
	// Ordinary commands, and what is as good.
	{"", true},
	{"*1\r\n$4\r\nPING\r\n", true},
	{"*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n", true},
	{"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", true},
	{"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n", true},
	{"*2\r\n$3\r\nget\r\n$4\r\nnone\r\n", true},
	{"*2\rx$4\ryECHOzz$2\rxhiyy", true},
	{"*3\r\n$3\r\nSET\r\n$3\r\n\x00\r\n\r\n$3\r\n\xff\x00\n\r\n*2\r\n$3\r\nGET\r\n$3\r\n\x00\r\n\r\n", true},

	// No command at all.
	{"\r\n", true},
	{"\n\n\r\n \t \r\n", true},
	{"*0\r\n", true},
	{"*-1\r\n", true},
	{"*-9223372036854775808\r\n", true},
	{"*0\r\n*-1\r\n\r\n*0\r\nPING\r\n", true},
	{"*1\r\n$0\r\n\r\n", true},
	{"*2\r\n$0\r\n\r\n$1\r\nx\r\n", true},
	{"\"\"\r\n", true},
	{"'' x\r\n", true},

	// Unfinished ones.
	{"*", true},
	{"*1\r", true},
	{"*1\r\n", true},
	{"*1\r\n$", true},
	{"*1\r\n$4\r\nPIN", true},
	{"*1\r\n$4\r\nPING\r", true},
	{"*2147483647\r\n", true},
	{"*1\r\n$536870912\r\nPING", true},
	{"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2000000\r\nvalue", true},
	{"PING", true},
	{"PING\r", true},
	{"\r", true},

	// Lengths.
	{"*1\r\n$9223372036854775807\r\n", false},
	{"*1\r\n$9223372036854775808\r\n", false},
	{"*1\r\n$-9223372036854775808\r\n", false},
	{"*1\r\n$18446744073709551620\r\nPING\r\n", false},
	{"*1\r\n$-1\r\n", false},
	{"*1\r\n$-0\r\n", false},
	{"*1\r\n$536870913\r\n", false},
	{"*1\r\n$four\r\nPING\r\n", false},
	{"*1\r\n$04\r\nPING\r\n", false},
	{"*1\r\n$+4\r\nPING\r\n", false},
	{"*1\r\n$ 4\r\nPING\r\n", false},
	{"*1\r\n$4 \r\nPING\r\n", false},
	{"*1\r\n$4.0\r\nPING\r\n", false},
	{"*1\r\n$0x4\r\nPING\r\n", false},
	{"*1\r\n$\r\n", false},
	{"*1\r\n$4\n\rPING\r\n", false},
	{"*\r\n", false},
	{"*one\r\n", false},
	{"*01\r\n$4\r\nPING\r\n", false},
	{"*00\r\n", false},
	{"*-0\r\n", false},
	{"*+1\r\n$4\r\nPING\r\n", false},
	{"* 1\r\n$4\r\nPING\r\n", false},
	{"*1 \r\n$4\r\nPING\r\n", false},
	{"**1\r\n", false},
	{"*2147483648\r\n", false},
	{"*9223372036854775807\r\n", false},
	{"*9223372036854775808\r\n", false},
	{"*-9223372036854775809\r\n", false},
	{"*99999999999999999999999999\r\n", false},
	{"*1\n$4\nPING\n\r\n", false},

	// Something else in the place of an argument.
	{"*1\r\n\r\n", false},
	{"*1\r\n\r\n\r\n\r\n", false},
	{"*1\r\nPING\r\n", false},
	{"*1\r\n:4\r\nPING\r\n", false},
	{"*1\r\n*1\r\n$4\r\nPING\r\n", false},
	{strings.Repeat("*1\r\n", 1000), false},
	{"*1\r\n\n\r\n", false},
	{"*1\r\n\x01\r\n", false},
	{"*1\r\n\x7f\r\n", false},
	{"*1\r\n\xff\r\n", false},
	{"*1\r\n'\r\n", false},
	{"*2\r\n$4\r\nPING\r\nx\r\n", false},
	{"*1\r\n$3\r\nPING\r\n*1\r\n$4\r\nPING\r\n", true},
	{"*2\r\n$3\r\nPING\r\n$2\r\nhi\r\n", false},

	// NUL in lines: no end is found behind it.
	{"PI\x00NG\r\nPING\r\n", true},
	{"\x00\r\n", true},
	{"*1\x00\r\n$4\r\nPING\r\n", true},
	{"*1\r\n$4\x00\r\nPING\r\n", true},
	{"*1\r\n\x00\r\n", true},
	{"*1\r\x00$4\r\x00PING\x00\x00", true},

	// Inline commands.
	{"PING\r\n", true},
	{"PING\n", true},
	{"  PING  \r\n", true},
	{"\tPING\thi\r\n", true},
	{"PING\rhi\r\n", true},
	{"PING\r\r\n", true},
	{"\vPING\r\n", true},
	{"PING\vhi\r\n", true},
	{"PING \vhi\v\f\r\n", true},
	{"ping \"hello world\"\r\n", true},
	{"ping 'hello world'\r\n", true},
	{"PI\"NG\" hi\r\n", true},
	{"'PING' \"\"\r\n", true},
	{`PING "\x41\xfF\x00\xg1\x4"` + "\r\n", true},
	{`PING "\n\r\t\b\a\q\"\\"` + "\r\n", true},
	{`PING '\n\x41\'\\ '` + "\r\n", true},
	{"PING \"a\"\vx\r\n", true},
	{`PING a\nb` + "\r\n", true},
	{"PING \xff\xfe\r\n", true},
	{"SET k \"a b\"\nGET k\n", true},
	{"$4\r\nPING\r\n", true},
	{"+OK\r\n", true},
	{":1\r\n-ERR\r\n", true},
	{"PING \"hi\r\n", false},
	{"PING 'hi\r\n", false},
	{"PING \"hi\"there\r\n", false},
	{"PING 'hi'there\r\n", false},
	{"PING \"hi\"\"there\"\r\n", false},
	{"PING \"hi\\\"\r\n", false},
	{"PING 'hi\\'\r\n", false},
	{"\"\r\n", false},
	{"PING \"a\"\xa0\r\n", false},
	{"PING \"\r\n\"\r\n", false},

	// Too long.
	{strings.Repeat("x", 200<<10), false},
	{strings.Repeat(" ", 200<<10), false},
	{"PING " + strings.Repeat("x", 1<<20) + "\r\n", false},
	{"\x00" + strings.Repeat("x\r\n", 70<<10), false},
	{"*" + strings.Repeat("1", 200<<10), false},
	{"*1\x00" + strings.Repeat("\r\n", 100<<10), false},
	{"*1\r\n$" + strings.Repeat("1", 200<<10), false},
	{"*1\r\n" + strings.Repeat("x", 200<<10), false},
	{"PING " + strings.Repeat("x", 60<<10) + "\r\n", true},
	{"ECHO " + strings.Repeat("x", 60<<10) + "\r\n*1\r\n$4\r\nPING\r\n", true},

	// Errors of commands.
	{"NOSUCH\r\n", true},
	{"*1\r\n$6\r\nNO\r\nCH\r\n", true},
	{string(harness.Command("no\x00such", "a\r\nb", "\xff\x00", "")), true},
	{string(harness.Command("nosuch", strings.Repeat("a", 100), strings.Repeat("b", 100), "c")), true},
	{string(harness.Command(strings.Repeat("n", 1000), strings.Repeat("a", 1000))), true},
	{string(harness.Command(strings.Repeat("n", 2_000_000))), true},
	{string(harness.Command("nosuch", strings.Repeat("a", 2_000_000), "b")), true},
	{string(harness.Command("nosuch", strings.Repeat("a", 120), "bbbbbbbbbbbb", "c", "d")), true},
	{"GET\r\nGET a b\r\nSET k\r\nECHO\r\nPING a b\r\n", true},
	{"SET k v NONSENSE\r\nSET k v EX 0\r\nSET k v EX x\r\n", true},
	{"LPUSH l x\r\nGET l\r\nINCR l\r\n", true},
	{"FLUSHALL\r\nTIME\r\n", true}, // not allowed
	{"GET\x00 k\r\n", true},

	// The end.
	{"QUIT\r\n", false},
	{"QUIT now please\r\n", false},
	{"quit\r\nPING\r\n", false},
	{"SET k v\r\nGET k\r\n*1\r\n$4\r\nQUIT\r\nSET k w\r\nGET k\r\n", false},
	{"PING\r\nQUIT\r\n*x\r\n", false},
	{"POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nSET k v\r\n", false},
	{"Host: localhost\r\n", false},
	{"hOsT:\r\n", false},
	{"*1\r\n$4\r\npost\r\n", false},
	{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", false},

	// Pipelines.
	{"PING\r\n*2\r\n$4\r\nECHO\r\n$1\r\na\r\n*0\r\nECHO b\n\r\n*2\r\n$4\r\nECHO\r\n$1\r\nc\r\n", true},
	{strings.Repeat("PING\r\n*1\r\n$4\r\nPING\r\n", 500), true},
	{strings.Repeat("SET k v\r\nGET k\r\nNOSUCH\r\nDEL k\r\nGET k\r\n", 300), true},
	{"PING\r\nSET k v\r\nGET k\r\n*1\r\n$-1\r\nPING\r\n", false},
	{"GET k\r\nSET k v\r\nNOSUCH x\r\nPING \"\r\nPING\r\n", false},
	{strings.Repeat("SET k v\r\nGET k\r\n", 300) + "*1\r\nx\r\n", false},
	{"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n" + strings.Repeat("v", 1<<20+1) + "\r\nSTRLEN k\r\nPING\r\n", true},
	{"PING\r\n*3\r\n$3\r\nSET\r\n$1048577\r\n" + strings.Repeat("k", 1<<20+1) + "\r\n$1\r\nv\r\n*1\r\n$4\r\nPING\r\n", true},
	{"PING\r\n*3\r\n$3\r\nSET\r\n$1048577\r\n" + strings.Repeat("k", 1<<20+1) + "\r\n$-1\r\n", false},
	{"*3\r\n$3\r\nSET\r\n$1048577\r\n" + strings.Repeat("k", 1<<20+1) + "\r\nx\r\n", false},
}

func TestFramingParity(t *testing.T) {
	for name, start := range framingSetUps {
		t.Run(name, func(t *testing.T) {
			p := newFramingPair(t, start)
			for _, tc := range framingCases {
				t.Run(fmt.Sprintf("%.40q", tc.in), func(t *testing.T) {
					if out, open := p.compare(t, []byte(tc.in)); open != tc.open {
						t.Errorf("Redis answers %.300q and leaves the connection open: %v, unlike this table", out, open)
					}
				})
			}
		})
	}
}

// TestFramingCuts sends pipelines in two pieces, cut at every byte, and byte by byte.
func TestFramingCuts(t *testing.T) {
	p := newFramingPair(t, framingSetUps["cluster"])
	for _, in := range []string{
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$11\r\nv\r\n*0\r\n$1\r\n\r\nGET k\r\n*-1\r\n\r\n*2\r\n$3\r\nGET\r\n$4\r\nnone\r\nECHO \"a \\x41\\\"\" 'b'\n*1\r\n$6\r\nNOSUCH\r\n*1\r\n$4\r\nQUIT\r\nPING\r\n",
		"PING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n*2\r\n$4\r\nECHO\r\n$-1\r\nPING\r\n",
	} {
		p.empty(t)
		want := p.redis.all(t, []byte(in))
		for at := 1; at < len(in); at++ {
			p.empty(t)
			if got := p.sidecar.all(t, []byte(in[:at]), []byte(in[at:])); !bytes.Equal(got, want) {
				t.Fatalf("%q cut at %d\nRedis answers    %q\nthe sidecar      %q", in, at, want, got)
			}
		}
		var pieces [][]byte
		for i := range len(in) {
			pieces = append(pieces, []byte(in[i:i+1]))
		}
		p.empty(t)
		if got := p.sidecar.all(t, pieces...); !bytes.Equal(got, want) {
			t.Fatalf("%q byte by byte\nRedis answers    %q\nthe sidecar      %q", in, want, got)
		}
		p.canary(t)
	}
}

// FuzzFramingParity compares the sidecar with Redis over any bytes that fit into one read of both.
func FuzzFramingParity(f *testing.F) {
	const oneRead = 16 << 10
	for _, tc := range framingCases {
		if len(tc.in) <= oneRead {
			f.Add([]byte(tc.in))
		}
	}
	p := newFramingPair(f, framingSetUps["cluster"])
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > oneRead || framingUncomparable.Match(in) {
			return
		}
		if bytes.Contains(p.sidecar.all(t, in), []byte("is refused by Readthrough")) {
			return
		}
		p.compare(t, in)
	})
}

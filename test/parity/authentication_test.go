package parity

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"readthrough/test/harness"
)

// authenticationUsers are the users besides default, whose password is sesame.
const authenticationUsers = "user app on >app-secret ~app:* &* +@read +@write +@connection +client +acl|whoami -@dangerous"

// authenticationPair is a Redis that has clients authenticate, and a sidecar that does before another one.
type authenticationPair struct{ redis, sidecar string }

func newAuthenticationPair(t testing.TB) authenticationPair {
	t.Helper()
	options := harness.RedisOptions{Password: "sesame", Config: []string{authenticationUsers}}
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nrequireAuth: true\nupstream: {addresses: [%q], password: \"${REDIS_PASSWORD}\"}",
			harness.NewRedis(t, options).Addr()),
		Env: []string{"REDIS_PASSWORD=sesame"},
	})
	return authenticationPair{harness.NewRedis(t, options).Addr(), s.Addr()}
}

// authenticationID is where a reply has what differs from one connection to another: the client's id and its address.
var authenticationID = regexp.MustCompile(`\$2\r\nid\r\n:[0-9]+\r\n`)

// answers are all bytes that come to what a client sends before it closes its side.
func (p authenticationPair) answers(t testing.TB, addr string, in []byte) []byte {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, framingPatience)
	if err != nil {
		t.Fatal(err)
	}
	conn := c.(*net.TCPConn)
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(framingPatience))
	framingSend(conn, in)
	_ = conn.CloseWrite()
	return authenticationID.ReplaceAll(framingRest(t, conn), nil)
}

// compare holds that both answer alike.
func (p authenticationPair) compare(t testing.TB, in []byte) {
	t.Helper()
	want := p.answers(t, p.redis, in)
	if got := p.answers(t, p.sidecar, in); !bytes.Equal(got, want) {
		t.Fatalf("to %.300q\nRedis answers    %.2000q\nthe sidecar      %.2000q", in, want, got)
	}
}

// authenticationConversations are what clients say, command for command; "" is an empty argument.
var authenticationConversations = map[string]string{
	"nothing but errors": `PING; ping; GET k; SET k v; MGET a b; COMMAND; INFO; CLIENT ID; CLIENT SETNAME x; CLIENT SETINFO lib-name x; CLIENT LIST
		SUBSCRIBE a; SSUBSCRIBE a; UNSUBSCRIBE; MONITOR; MULTI; EXEC; EXEC x; DISCARD; WATCH k; SELECT 1; EVAL return(1) 0; CLUSTER SLOTS; READONLY; ASKING
		BLPOP l 0; WAIT 0 0; SCAN 0; KEYS *; RANDOMKEY; DBSIZE; CONFIG GET maxmemory; ACL WHOAMI; SYNC; PSYNC ? -1; REPLCONF a b; CLIENT REPLY OFF
		CLIENT TRACKING ON; CLIENT NO-EVICT ON; SCRIPT KILL; FLUSHALL; SHUTDOWN NOSAVE; SWAPDB 0 1; GETEX k; XREAD BLOCK 0 STREAMS s $; PING`,
	"commands that are none": `NOSUCH; NOSUCH a b; nosuch ''; CONFIG; CONFIG NOSUCH; config nosuch x; CLIENT; CLIENT NOSUCH; GET; GET a b; SET k; PING a b
		MULTI x; AUTH; HELLO; CLUSTER NOSUCH; ACL NOSUCH; COMMAND NOSUCH; OBJECT; OBJECT NOSUCH x; XGROUP; SCRIPT NOSUCH; a\rb c\rd`,
	"AUTH": `AUTH; AUTH wrong; AUTH nobody x; AUTH default wrong; AUTH app; AUTH app wrong; AUTH a b c; GET k; AUTH sesame; ACL WHOAMI; SET k v; GET k
		AUTH wrong; ACL WHOAMI; GET k; AUTH app app-secret; ACL WHOAMI; GET k; SET app:k v; GET app:k; MGET app:k k; RESET; GET app:k; ACL WHOAMI
		RESET; PING; AUTH default sesame; ACL WHOAMI; GET k; AUTH default wrong; GET k; RESET; GET k`,
	"HELLO": `HELLO; HELLO 2; HELLO 3; HELLO 4; HELLO 1; HELLO abc; HELLO 3 NONSENSE; HELLO 3 AUTH app; HELLO 3 AUTH app wrong; HELLO 3 AUTH nobody x
		HELLO 3 AUTH default wrong; PING; HELLO 3 AUTH app app-secret SETNAME two; CLIENT GETNAME; ACL WHOAMI; GET app:none; GET none; HELLO 2
		GET app:none; HELLO 3; RESET; HELLO 3; GET app:none; HELLO 3 AUTH default sesame; ACL WHOAMI; GET none; HELLO 2 AUTH app wrong; ACL WHOAMI`,
	"a user without a name": `AUTH "" sesame; ACL WHOAMI; AUTH ""; AUTH "" ""; HELLO 3 AUTH "" sesame; HELLO 3 AUTH "" sesame SETNAME two
		PING; AUTH sesame; AUTH "" sesame; ACL WHOAMI; HELLO 3 AUTH "" sesame SETNAME two; CLIENT GETNAME; ACL WHOAMI; GET k; AUTH "" app-secret; GET k`,
	"a transaction ends with RESET": `AUTH sesame; WATCH k; MULTI; SET k 1; RESET; EXEC; GET k; AUTH sesame; EXEC; GET k`,
	"subscriptions end with RESET":  `AUTH sesame; SUBSCRIBE a; PING; RESET; PING; SUBSCRIBE a; AUTH app app-secret; SUBSCRIBE a`,
	"replies that are turned off":   `AUTH sesame; CLIENT REPLY OFF; GET k; RESET; GET k; AUTH wrong; AUTH sesame; CLIENT REPLY SKIP; RESET; GET k`,
	"QUIT":                          `GET k; QUIT; PING`,
	"QUIT with more":                `QUIT now; PING`,
	"RESET":                         `RESET; RESET now; PING; RESET`,
	"HTTP":                          `GET / HTTP/1.1; Host: localhost; PING`,
	"POST":                          `POST / HTTP/1.1`,
}

// TestAuthenticationParity holds that a client which has to authenticate gets the bytes of Redis: one command after the other, and all in
// one pipeline, whose first login is not judged yet when the rest is there.
func TestAuthenticationParity(t *testing.T) {
	p := newAuthenticationPair(t)
	for name, text := range authenticationConversations {
		var all [][]string
		for command := range strings.SplitSeq(strings.ReplaceAll(text, "\n", ";"), ";") {
			args := strings.Split(strings.ReplaceAll(strings.TrimSpace(command), `\r`, "\r"), " ")
			for i := range args {
				if args[i] == `""` {
					args[i] = ""
				}
			}
			all = append(all, args)
		}
		t.Run(name, func(t *testing.T) {
			redis, sidecar := harness.NewConn(t, p.redis), harness.NewConn(t, p.sidecar)
			var pipeline []byte
			for _, args := range all {
				pipeline = append(pipeline, harness.Command(args...)...)
				silent := redis.Send(harness.Command(args...))
				if err := sidecar.Send(harness.Command(args...)); (err == nil) != (silent == nil) {
					t.Fatalf("%q: %v, want %v", args, err, silent)
				}
				if name == "replies that are turned off" {
					continue // the pipeline shows them
				}
				want, wantErr := redis.ReadReply()
				got, gotErr := sidecar.ReadReply()
				want, got = authenticationID.ReplaceAll(want, nil), authenticationID.ReplaceAll(got, nil)
				if string(got) != string(want) || (gotErr == nil) != (wantErr == nil) {
					t.Fatalf("%q:\n%q, %v, want\n%q, %v", args, got, gotErr, want, wantErr)
				}
				if wantErr != nil {
					break
				}
			}
			p.compare(t, pipeline)
		})
	}
}

// authenticationInputs are bytes with which Redis has less patience before a login, and some after it.
func authenticationInputs() []string {
	words := func(n int) []string { return strings.Split(strings.Repeat("x ", n-1)+"x", " ") }
	login := "AUTH sesame\r\n"
	array := func(n int) string { return string(harness.Command(append([]string{"NOSUCH"}, words(n-1)...)...)) }
	bulk := func(n int) string { return string(harness.Command("NOSUCH", strings.Repeat("b", n))) }
	return []string{
		array(10), array(11), "*11\r\n", "*10\r\n", "*2147483647\r\n", "*2147483648\r\n", "*-1\r\n*0\r\nPING\r\n",
		bulk(16384), bulk(16385), "*1\r\n$16385\r\n", "*1\r\n$16384\r\n", "*1\r\n$536870912\r\n", "*1\r\n$536870913\r\n", "*1\r\n$-1\r\n",
		string(harness.Command(strings.Repeat("n", 16384), "a")), string(harness.Command("AUTH", strings.Repeat("p", 16384))),
		string(harness.Command("AUTH", strings.Repeat("u", 16384), strings.Repeat("p", 16385))),
		string(harness.Command("HELLO", "3", "AUTH", "app", strings.Repeat("p", 16385))),
		"NOSUCH " + strings.Join(words(200), " ") + "\r\n", "NOSUCH " + strings.Repeat("w", 60_000) + "\r\n", strings.Repeat("w", 70_000), "PING \"\r\n",
		"NOSUCH \"a\\x00b\" c\r\n", "\"a\\r\\nb\" \"c\\nd\"\r\n", "CONFIG \"a\\r\\nb\"\r\n",
		array(11) + login, login + array(11), login + bulk(16385), login + "SET k " + strings.Repeat("v", 20_000) + "\r\nGET k\r\n",
		login + array(11) + "RESET\r\n" + array(10) + array(11), login + "RESET\r\n" + bulk(16385) + login,
		"AUTH wrong\r\n" + array(11), "AUTH wrong\r\n" + array(10) + login + array(11), login + "AUTH wrong\r\n" + array(11),
		strings.Repeat("PING\r\n", 200), strings.Repeat("GET k\r\nNOSUCH\r\n", 80) + login + "GET none\r\n",
		"PING\r\nPING\r\nQUIT\r\nPING\r\n", "*1\r\n$4\r\nPING\r\n*11\r\n$4\r\nPING\r\n",
	}
}

// TestUnauthenticatedFraming compares the limits before a login, whole and in two pieces.
func TestUnauthenticatedFraming(t *testing.T) {
	p := newAuthenticationPair(t)
	for _, in := range authenticationInputs() {
		t.Run(fmt.Sprintf("%.40q", in), func(t *testing.T) { p.compare(t, []byte(in)) })
	}
	const cut = "PING\r\n*2\r\n$4\r\nAUTH\r\n$6\r\nsesame\r\n*11\r\n$4\r\nMGET\r\n" + "$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n" +
		"$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\n$1\r\na\r\nRESET\r\n*11\r\n"
	want := p.answers(t, p.redis, []byte(cut))
	if !bytes.HasSuffix(want, []byte("-ERR Protocol error: unauthenticated multibulk length\r\n")) {
		t.Fatalf("Redis answers %q", want)
	}
	for at := 1; at < len(cut); at++ {
		c := harness.NewConn(t, p.sidecar)
		err := c.Send([]byte(cut[:at]))
		if err == nil {
			err = c.Send([]byte(cut[at:]))
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("cut at %d: %q, %v, want %q", at, got, err, want)
		}
	}
}

// authenticationUncomparable matches what tells of its own server or connection after a login, or is allowed only by a configuration
// that Redis looks at before it asks for a login.
var authenticationUncomparable = regexp.MustCompile(`(?i)client|cluster|command|info|debug|module|time|acl|sync|shutdown|latency|memory|slowlog|monitor|randomkey|role|lastsave|replicaof|slaveof|failover|config`)

// FuzzUnauthenticated compares what clients get who have not authenticated, or have, over any bytes that fit into one read. A client that
// has not is closed by Redis for many KiB of replies at once, which the sidecar sends as the client takes them.
func FuzzUnauthenticated(f *testing.F) {
	const (
		oneRead      = 16 << 10
		manyCommands = 200
	)
	add := func(in []byte) {
		if len(in) <= oneRead {
			f.Add(in)
		}
	}
	for _, in := range authenticationInputs() {
		add([]byte(in))
	}
	for _, tc := range framingCases {
		add([]byte(tc.in))
	}
	p := newAuthenticationPair(f)
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > oneRead || bytes.Count(in, []byte("\n")) > manyCommands || authenticationUncomparable.Match(in) {
			return
		}
		p.compare(t, in)
	})
}

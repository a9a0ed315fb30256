package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"readthrough/resp"
	"readthrough/test/harness"
	"readthrough/test/inprocess"
	"readthrough/upstream"
)

const noAuth = "-NOAUTH Authentication required.\r\n"

// newGuarded starts a relay whose clients must authenticate, within a time; 0 is that of the program.
func newGuarded(t testing.TB, resolver resp.Resolver, redis *harness.Redis, within time.Duration) *relay {
	t.Helper()
	r := &relay{inprocess.Start(t, upstream.Options{Addresses: []string{redis.Addr()}}, resolver, func(o *resp.Options) {
		o.RequireAuth, o.AuthTimeout = true, within
	})}
	do(t, r.connect(t), "PING", noAuth) // is held until Redis has been found
	return r
}

// appUser is a user with all rights.
var appUser = harness.RedisOptions{Config: []string{"user app on >secret ~* &* +@all"}}

// clientStats are the figures of the clients' side.
func (r *relay) clientStats(t testing.TB) resp.Stats {
	t.Helper()
	got := make(chan resp.Stats, 1)
	if !r.Loop.Post(func() { got <- r.Server.Stats(0) }) {
		t.Fatal("the loop has stopped")
	}
	return <-got
}

// Before a login nothing that a client sends reaches Redis, or the origin: not what nobody knows either, which a module may have made
// known to Redis, nor a command that Redis would have to be asked about.
func TestNothingReachesRedisBeforeALogin(t *testing.T) {
	redis, o := harness.NewRedis(t, appUser), newOrigin()
	r := newGuarded(t, o, redis, 0)
	redis.MustDo(t, "CONFIG", "RESETSTAT")
	c := r.connect(t)
	refused := []string{
		"GET map:k", "MGET map:a map:b", "SET k v", "DEL k", "EVAL return(1) 0", "GETEX map:k", "SUBSCRIBE a", "MONITOR", "MULTI", "WATCH k", "SELECT 1",
		"BLPOP l 0", "WAIT 1 0", "CLIENT TRACKING ON", "CLIENT NO-EVICT ON", "CLIENT REPLY OFF", "CLIENT LIST", "CLIENT KILL ID 1", "SCAN 0", "DBSIZE",
		"SCRIPT KILL", "RANDOMKEY", "SORT k BY x", "GET readthrough:lease:k", "SYNC", "CLUSTER SLOTS",
	}
	for _, command := range refused {
		do(t, c, command, noAuth)
	}
	do(t, c, "MODULE.COMMAND k", "-ERR unknown command 'MODULE.COMMAND', with args beginning with: 'k' \r\n")
	do(t, c, "HELLO 3 SETNAME x", "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option "+
		"can be used to authenticate the client and select the RESP protocol version at the same time\r\n")
	do(t, c, "RESET", "+RESET\r\n")

	stats := redis.MustDo(t, "INFO", "commandstats").Str + redis.MustDo(t, "INFO", "errorstats").Str
	own := []string{
		"cmdstat_config|resetstat", "cmdstat_cluster|", "cmdstat_command", "cmdstat_hello", "cmdstat_info", "cmdstat_ping", "cmdstat_client|",
		"cmdstat_role", "errorstat_ERR:count=1", // of CLUSTER, where there is none
	}
	for line := range strings.Lines(stats) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if !slices.ContainsFunc(own, func(known string) bool { return strings.HasPrefix(line, known) }) {
			t.Errorf("Redis was asked for a client that has not authenticated: %s", line)
		}
	}
	if n := o.loads.Load(); n != 0 {
		t.Errorf("%d loads", n)
	}
	if got, want := r.clientStats(t).Unauthenticated, uint64(len(refused)+2); got != want { // with the unknown one, and that of newGuarded
		t.Errorf("%d refused commands are counted, want %d", got, want)
	}

	do(t, c, "AUTH app secret", ok)
	do(t, c, "SET k v", ok)
	do(t, c, "GET map:k", bulk("loaded"))
	do(t, c, "RESET", "+RESET\r\n")
	do(t, c, "GET k", noAuth)
}

// Where Redis takes any password for its user default, a login as that one proves nothing, in whichever form. It does where the user has
// a password, and for other users.
func TestAUserWithoutPasswordIsNoLogin(t *testing.T) {
	redis := harness.NewRedis(t, appUser)
	r := newGuarded(t, nil, redis, 0)
	c := r.connect(t)
	const noProof = "-WRONGPASS Redis takes any password for its user default, so that this one proves nothing: give that user a password, or log in as another one\r\n"
	logins := []string{"AUTH any", "AUTH default any", "HELLO 2 AUTH default any", "HELLO 3 AUTH default any SETNAME x"}
	for _, login := range logins {
		do(t, c, login, noProof)
		do(t, c, "GET k", noAuth)
	}
	if got := c.MustDo(t, "AUTH", "default", ""); got != noProof {
		t.Errorf("an empty password: %q", got)
	}
	send(t, c, "AUTH default any", "SET k v", "AUTH app secret", "GET k", "AUTH default any", "GET k")
	expect(t, c, noProof, noAuth, ok, "$-1\r\n", noProof, "$-1\r\n")
	if got := r.clientStats(t); got.Logins != 1 || got.LoginsFailed != uint64(len(logins)+3) {
		t.Errorf("%d logins and %d that failed are counted", got.Logins, got.LoginsFailed)
	}

	redis.MustDo(t, "CONFIG", "SET", "requirepass", "sesame")
	for _, login := range []string{"AUTH sesame", "AUTH default sesame", "HELLO 2 AUTH default sesame"} {
		c := r.connect(t)
		do(t, c, "AUTH any", "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
		send(t, c, login)
		if got := read(t, c); got[0] == '-' {
			t.Errorf("%s: %q", login, got)
		}
		do(t, c, "GET k", "$-1\r\n")
	}
}

// A login that names its user by nothing is none as default, and counts as one that failed. Thousands of them at once do not have their
// answers wait in memory.
func TestAUserWithoutNameIsNoLogin(t *testing.T) {
	redis := harness.NewRedis(t, appUser)
	r := newGuarded(t, nil, redis, 0)
	redis.MustDo(t, "CONFIG", "SET", "requirepass", "sesame")
	c := r.connect(t)
	const nobody = "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
	const count = 5000
	login := harness.Command("AUTH", "", "sesame")
	sent := make(chan error, 1)
	go func() { sent <- c.Send(append(bytes.Repeat(login, count), harness.Command("GET", "k")...)) }()
	for range count {
		expect(t, c, nobody)
	}
	expect(t, c, noAuth)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if got := r.clientStats(t); got.Logins != 0 || got.LoginsFailed != count {
		t.Errorf("%d logins and %d that failed are counted", got.Logins, got.LoginsFailed)
	}
}

// While Redis is gone nobody can log in, and the origin does not stand in for it: neither for those who have not authenticated, nor for
// those who have, since nobody but Redis knows what they may read.
func TestNobodyLogsInWithoutRedis(t *testing.T) {
	redis, o := harness.NewRedis(t, appUser), newOrigin()
	r := newGuarded(t, o, redis, 0)
	proven, c := r.connect(t), r.connect(t)
	do(t, proven, "AUTH app secret", ok)
	do(t, proven, "GET map:k", bulk("loaded"))
	loads := o.loads.Load()

	redis.Kill()
	send(t, c, "AUTH app secret", "GET map:k", "HELLO 3 AUTH app secret", "GET map:k")
	for i, want := range []string{"-UPSTREAMDOWN ", noAuth, "-UPSTREAMDOWN ", noAuth} {
		if got := read(t, c); !strings.HasPrefix(got, want) {
			t.Errorf("reply %d: %q, want %q", i, got, want)
		}
	}
	send(t, proven, "GET map:k")
	if got := read(t, proven); !strings.HasPrefix(got, "-UPSTREAM") {
		t.Errorf("who has authenticated is answered %q", got)
	}
	if n := o.loads.Load() - loads; n != 0 {
		t.Errorf("the origin was asked %d times", n)
	}

	if err := redis.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		send(t, c, "AUTH app secret", "GET map:k")
		if got := read(t, c) + read(t, c); got != ok+bulk("loaded") {
			return errors.New(got)
		}
		return nil
	})
}

// A client has so long to authenticate, whatever it does meanwhile, and again from a RESET on. Who has authenticated stays, and so does
// who waits for Redis's word.
func TestLoginsThatDoNotComeEndTheConnection(t *testing.T) {
	redis := harness.NewRedis(t, appUser)
	r := newGuarded(t, nil, redis, 200*time.Millisecond)
	// gone waits until the sidecar closes a connection.
	gone := func(c *harness.Conn) {
		t.Helper()
		for {
			got, err := c.ReadReply()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil || string(got) != noAuth && string(got) != "+RESET\r\n" {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	stays, idle, busy, reset := r.connect(t), r.connect(t), r.connect(t), r.connect(t)
	do(t, stays, "AUTH app secret", ok)
	do(t, reset, "AUTH app secret", ok)
	for range 3 { // new ones each time, and that one all the time
		gone(r.connect(t))
	}
	gone(idle)
	do(t, reset, "RESET", "+RESET\r\n")
	gone(reset)
	for busy.Send(pipeline("PING", "RESET", "GET k")) == nil {
		if _, err := busy.ReadReply(); err != nil {
			break
		}
	}
	do(t, stays, "PING", "+PONG\r\n")

	waits := r.connect(t)
	if err := redis.Pause(); err != nil {
		t.Fatal(err)
	}
	send(t, waits, "AUTH app secret")
	for range 2 {
		gone(r.connect(t))
	}
	if err := redis.Resume(); err != nil {
		t.Fatal(err)
	}
	expect(t, waits, ok)
	do(t, waits, "PING", "+PONG\r\n")
	if n := r.clientStats(t).Killed; n < 7 {
		t.Errorf("%d clients are counted as closed", n)
	}
}

// A client that has not authenticated and reads nothing costs some KiB, however much it sends; and when it reads, it has all its answers.
func TestAnswersBeforeALoginAreBounded(t *testing.T) {
	redis := harness.NewRedis(t, appUser)
	r := newGuarded(t, nil, redis, 0)
	const count = 400_000 // whose answers do not fit into the sockets
	c := r.connect(t)
	sent := make(chan error, 1)
	go func() { sent <- c.Send([]byte(strings.Repeat("PING\r\n", count))) }()
	most, still := 0, 0
	var answered uint64
	poll(t, func() error {
		most = max(most, r.LoopStats(t).Buffered)
		now := r.clientStats(t).Unauthenticated
		if still++; now != answered {
			still = 0
		}
		answered = now
		if still < 10 {
			return errors.New("it still takes commands")
		}
		return nil
	})
	if answered > count {
		t.Errorf("all %d commands were taken, so that nothing was shown", count)
	}
	if most > 256<<10 {
		t.Errorf("the connections held %d bytes", most)
	}
	for i := range count {
		if got, err := c.ReadReply(); err != nil || string(got) != noAuth {
			t.Fatalf("reply %d: %q, %v", i, got, err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	do(t, c, "AUTH app secret", ok)
}

// Any number of logins may come at once. So many wait for their turn at Redis; the rest is told so at once.
func TestACrowdThatLogsIn(t *testing.T) {
	const waiting, over = 1024, 10
	redis := harness.NewRedis(t, appUser)
	r := newGuarded(t, nil, redis, 0)
	if err := redis.Pause(); err != nil {
		t.Fatal(err)
	}
	var crowd []*harness.Conn
	for range waiting + over {
		c := r.connect(t)
		send(t, c, "AUTH app secret")
		crowd = append(crowd, c)
	}
	for _, c := range crowd[waiting:] {
		expect(t, c, "-UPSTREAMBUSY too many clients log in at once: try again\r\n")
	}
	if err := redis.Resume(); err != nil {
		t.Fatal(err)
	}
	down := 0
	for i, c := range crowd[:waiting] {
		switch got := read(t, c); {
		case got == ok:
			do(t, c, "PING", "+PONG\r\n")
		case strings.HasPrefix(got, "-UPSTREAMDOWN "): // of the first ones, which Redis left waiting
			down++
		default:
			t.Fatal(fmt.Sprint(i), got)
		}
	}
	if down > waiting/2 {
		t.Errorf("%d of %d logins failed", down, waiting)
	}
	for _, c := range crowd[waiting:] {
		do(t, c, "AUTH app secret", ok)
	}
}

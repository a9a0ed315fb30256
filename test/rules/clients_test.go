package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// idOf is a client's id as it is told.
func idOf(t testing.TB, c *harness.Conn) string {
	t.Helper()
	return strings.Trim(c.MustDo(t, "CLIENT", "ID"), ":\r\n")
}

// Ids are the sidecar's own in all commands that have them: those of Redis are of connections that many share.
func TestIdsAreThoseOfTheSidecarsClients(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	a, b := r.connect(t), r.connect3(t)
	do(t, a, "CLIENT SETNAME first", ok)
	do(t, b, "CLIENT SETNAME second", ok)
	first, second := idOf(t, a), idOf(t, b)
	if n, err := strconv.ParseInt(first, 10, 64); err != nil || n < 1<<40 || first == second {
		t.Fatalf("ids %s and %s", first, second)
	}
	if got := b.MustDo(t, "HELLO"); !strings.Contains(got, ":"+second+"\r\n") {
		t.Errorf("HELLO: %q", got)
	}
	if got := a.MustDo(t, "CLIENT", "INFO"); !strings.Contains(got, "id="+first+" ") || !strings.Contains(got, "name=first ") ||
		!strings.Contains(got, "addr="+a.LocalAddr().String()) {
		t.Errorf("CLIENT INFO: %q", got)
	}
	list := a.MustDo(t, "CLIENT", "LIST")
	for _, id := range []string{first, second} {
		if strings.Count(list, "id="+id+" ") != 1 {
			t.Errorf("CLIENT LIST without client %s: %q", id, list)
		}
	}
	if n := strings.Count(list, "\n") - 2; n != 2 && n != 3 { // one of before may not have left yet
		t.Errorf("CLIENT LIST has %d clients: %q", n, list)
	}
	if got := a.MustDo(t, "CLIENT", "LIST", "ID", second); strings.Contains(got, "id="+first) || !strings.Contains(got, "id="+second) {
		t.Errorf("CLIENT LIST ID: %q", got)
	}
}

// CLIENT KILL closes the clients that it names, and none that share a connection with them.
func TestKillClosesWhomItNames(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user app on >secret ~* &* +@all"}})
	r := newRelay(t, nil, redis.Addr())
	other := r.connect(t)
	for name, filter := range map[string]func(c *harness.Conn) string{
		"id":    func(c *harness.Conn) string { return "ID " + idOf(t, c) },
		"addr":  func(c *harness.Conn) string { return "ADDR " + c.LocalAddr().String() },
		"user":  func(c *harness.Conn) string { do(t, c, "AUTH app secret", ok); return "USER app" },
		"type":  func(c *harness.Conn) string { send(t, c, "SUBSCRIBE x"); read(t, c); return "TYPE pubsub" },
		"three": func(c *harness.Conn) string { return "ID " + idOf(t, c) + " TYPE normal SKIPME yes" },
	} {
		t.Run(name, func(t *testing.T) {
			c := r.connect(t)
			do(t, c, "SET k v", ok)
			do(t, other, "CLIENT KILL "+filter(c), ":1\r\n")
			if got, err := c.ReadReply(); err == nil {
				t.Fatalf("it lives on: %q", got)
			}
			do(t, other, "GET k", bulk("v"))
		})
	}
	do(t, other, "CLIENT KILL ID 3", ":0\r\n") // of the wire, likely
	do(t, other, "CLIENT KILL TYPE normal SKIPME yes USER app", ":0\r\n")
	do(t, other, "CLIENT KILL 127.0.0.1:1", "-ERR No such client\r\n")
	do(t, other, "CLIENT KILL ID "+idOf(t, other)+" SKIPME no", ":1\r\n")
	if got, err := other.ReadReply(); err == nil {
		t.Fatalf("who kills himself lives on: %q", got)
	}
}

// What is wrong with the arguments of the commands about clients is said as Redis says it.
func TestErrorsOfTheCommandsAboutClients(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user app on >secret ~* &* +@all"}})
	r := newRelay(t, nil, redis.Addr())
	direct := harness.NewConn(t, redis.Addr())
	c, app := r.connect(t), r.connect(t)
	do(t, app, "AUTH app secret", ok)
	for _, command := range []string{
		"KILL", "KILL ID", "KILL ID x", "KILL ID 0", "KILL ID -1", "KILL ID 99999999999999999999", "KILL ID +7", "KILL ID 7x",
		"KILL USER nobody", "KILL USER app USER nobody", "KILL USER nobody TYPE wrong", "KILL TYPE wrong USER nobody", "KILL USER nobody x",
		"KILL TYPE wrong", "KILL TYPE", "KILL ADDR", "KILL SKIPME maybe", "KILL SKIPME", "KILL MAXAGE 1000000", "KILL MAXAGE x",
		"KILL NOSUCH x", "KILL ID 9223372036854775807 NOSUCH", "KILL ID 9223372036854775807 USER default", "KILL 127.0.0.1:1",
		"KILL USER default ID 9223372036854775807", "KILL USER app LADDR 127.0.0.1:1 SKIPME no", "KILL id 9223372036854775807 type NORMAL skipme YES",
		"LIST TYPE wrong", "LIST TYPE", "LIST TYPE normal x", "LIST ID", "LIST ID x", "LIST ID 9223372036854775807 x", "LIST x", "LIST TYPE master",
		"LIST ID 9223372036854775807", "LIST ID -1", "UNBLOCK", "UNBLOCK x", "UNBLOCK x y", "UNBLOCK 7 y", "UNBLOCK 9223372036854775807 ERROR", "UNBLOCK 7 ERROR x",
		"NO-EVICT", "NO-EVICT x", "NO-TOUCH x", "REPLY", "REPLY x", "CACHING x", "GETREDIR x", "ID x", "INFO x", "SETNAME", "NOSUCH",
		"TRACKING", "TRACKING x", "TRACKING ON x", "TRACKING ON PREFIX a", "TRACKING ON BCAST OPTIN", "TRACKING ON OPTIN OPTOUT",
	} {
		send(t, direct, "CLIENT "+command)
		want := read(t, direct)
		for who, conn := range map[string]*harness.Conn{"default": c, "app": app} {
			send(t, conn, "CLIENT "+command)
			if got := read(t, conn); got != want {
				t.Errorf("CLIENT %s as %s: %q, want %q", command, who, got, want)
			}
		}
	}
	do(t, app, "CLIENT KILL USER default SKIPME no ID "+idOf(t, c), ":1\r\n")
	if got, err := c.ReadReply(); err == nil {
		t.Errorf("it lives on: %q", got)
	}
	silent(t, direct) // of Redis's own clients nobody was closed
}

// A user without the right to it neither sees nor closes other clients.
func TestUsersSeeOtherClientsOnlyIfRedisLetsThem(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{
		"user app on >secret ~* &* +@all", "user few on >secret ~* +get +set +blpop +client|id",
	}})
	r := newRelay(t, nil, redis.Addr())
	c, few, app := r.connect(t), r.connect(t), r.connect(t)
	do(t, few, "AUTH few secret", ok)
	do(t, app, "AUTH app secret", ok)
	id := idOf(t, c)
	for _, command := range []string{"LIST", "INFO", "KILL ID " + id, "KILL " + c.LocalAddr().String(), "UNBLOCK " + id} {
		send(t, few, "SET k v", "CLIENT "+command, "GET k")
		expect(t, few, ok)
		name := "client|" + strings.ToLower(strings.Fields(command)[0])
		want := "-NOPERM this user has no permissions to run the '" + name + "' command\r\n"
		if got := read(t, few); got != want {
			t.Errorf("CLIENT %s: %q, want %q", command, got, want)
		}
		expect(t, few, bulk("v"))
	}
	do(t, c, "PING", "+PONG\r\n")
	send(t, app, "CLIENT LIST ID "+id, "CLIENT INFO", "CLIENT UNBLOCK "+id, "CLIENT KILL ID "+id, "CLIENT KILL ID "+id)
	for _, want := range []string{"id=" + id, "user=app", ":0\r\n", ":1\r\n", ":0\r\n"} {
		if got := read(t, app); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got, err := c.ReadReply(); err == nil {
		t.Errorf("it lives on: %q", got)
	}
}

// Names are kept, so they have a bound.
func TestNamesHaveABound(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	c := r.connect(t)
	longest := strings.Repeat("n", 1<<10)
	do(t, c, "CLIENT SETNAME "+longest, ok)
	do(t, c, "CLIENT GETNAME", bulk(longest))
	const refusal = "-ERR Client names cannot be longer than 1024 bytes.\r\n"
	do(t, c, "CLIENT SETNAME "+longest+"n", refusal)
	do(t, c, "HELLO 2 SETNAME "+longest+"n", refusal)
	do(t, c, "CLIENT GETNAME", bulk(longest))
}

// HELLO and RESET leave nothing of what was before: no connection of the session's own, and after RESET the first protocol, user
// and database.
func TestResetLeavesNothing(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user app on >secret ~* &* +@all"}})
	r := newRelay(t, nil, redis.Addr())
	for name, commands := range map[string][]string{
		"MULTI":          {"MULTI", "SET k v"},
		"WATCH":          {"WATCH k"},
		"SUBSCRIBE":      {"SUBSCRIBE c"},
		"SSUBSCRIBE":     {"SSUBSCRIBE c"},
		"MONITOR":        {"MONITOR"},
		"TRACKING":       {"CLIENT TRACKING ON BCAST"},
		"NO-EVICT":       {"CLIENT NO-EVICT ON"},
		"identity":       {"SELECT 3", "CLIENT SETNAME x"},
		"CLIENT REPLY 1": {"AUTH app secret"},
	} {
		for _, protocol := range []string{"2", "3"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				c := r.connect(t)
				c.MustDo(t, "HELLO", protocol, "AUTH", "app", "secret")
				for _, command := range commands {
					send(t, c, command)
					read(t, c)
				}
				send(t, c, "RESET")
				for read(t, c) != "+RESET\r\n" { // MONITOR's lines come before
				}
				for _, state := range []string{"cmd=multi", "cmd=watch", "cmd=set ", "flags=P", "flags=O", "flags=t", "flags=e"} {
					await(t, redis, state, 0)
				}
				info := c.MustDo(t, "CLIENT", "INFO")
				for _, want := range []string{"db=0 ", "user=default ", "resp=2", "name= ", "flags=N "} {
					if !strings.Contains(info, want) {
						t.Errorf("no %q in %q", want, info)
					}
				}
				do(t, c, "GET none", "$-1\r\n")
				do(t, c, "EXEC", "-ERR EXEC without MULTI\r\n")
			})
		}
	}
	// In the middle of a pipeline.
	c := r.connect3(t)
	send(t, c, "GET none", "RESET", "GET none", "HELLO 3", "GET none", "HELLO 2", "GET none")
	var got []string
	for range 7 {
		got = append(got, read(t, c)[:3])
	}
	if want := []string{"_\r\n", "+RE", "$-1", "%7\r", "_\r\n", "*14", "$-1"}; !slices.EqualFunc(got, want, strings.HasPrefix) && !slices.EqualFunc(want, got, strings.HasPrefix) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Lanes, the connections of one user, are made when they are needed, and there is an end to them. One that nobody uses makes room.
func TestLanesAreBounded(t *testing.T) {
	const most = 256
	redis := harness.NewRedis(t, harness.RedisOptions{})
	for i := range most + 1 {
		redis.MustDo(t, "ACL", "SETUSER", fmt.Sprint("u", i), "on", ">p", "~*", "+@all")
	}
	r := newRelay(t, nil, redis.Addr())
	keep := r.connect(t)
	var all []*harness.Conn
	for i := range most - 1 { // and the default user's
		c := r.connect(t)
		do(t, c, fmt.Sprintf("AUTH u%d p", i), ok)
		all = append(all, c)
	}
	if st := r.Stats(t); st.Lanes != most || st.Wires > 1 {
		t.Fatalf("%d lanes with %d wires", st.Lanes, st.Wires)
	}
	late := r.connect(t)
	late.MustDo(t, "PING")
	if got := late.MustDo(t, "AUTH", fmt.Sprint("u", most), "p"); !strings.HasPrefix(got, "-UPSTREAMBUSY ") {
		t.Fatalf("one user too many: %q", got)
	}
	do(t, late, "PING", "+PONG\r\n")
	_ = all[7].Close()
	poll(t, func() error {
		if got := late.MustDo(t, "AUTH", fmt.Sprint("u", most), "p"); got != ok {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	do(t, keep, "SET k v", ok)
}

// HELLO says that a client speaks with a cluster where the commands about it are answered so, and else not.
func TestTheModeIsWhatIsDescribed(t *testing.T) {
	for mode, addrs := range map[string][]string{
		"standalone": {harness.NewRedis(t, harness.RedisOptions{}).Addr()},
		"cluster":    harness.NewCluster(t, harness.ClusterOptions{}).Addrs(),
	} {
		c := newRelay(t, nil, addrs...).connect(t)
		got := c.MustDo(t, "HELLO", "3")
		if !strings.Contains(got, bulk("mode")+bulk(mode)) {
			t.Errorf("HELLO of a %s: %q", mode, got)
		}
		if got := c.MustDo(t, "CLUSTER", "SLOTS"); (got[0] == '*') != (mode == "cluster") {
			t.Errorf("CLUSTER SLOTS of a %s: %q", mode, got)
		}
	}
}

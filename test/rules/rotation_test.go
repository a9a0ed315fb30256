package rules

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"readthrough/test/harness"
	"readthrough/upstream"
)

// credentials are the name of the configured user, whose password is "secret". They may be rotated.
type credentials struct{ user atomic.Pointer[string] }

func (c *credentials) set(user string) { c.user.Store(&user) }

func (c *credentials) get(context.Context) (user, password string, err error) {
	return *c.user.Load(), "secret", nil
}

// Connections of the sessions' own authenticate again when the credentials change, also those that are in use for as long as a client
// likes. Those on which that is not possible are left to nobody else.
func TestConnectionsOfTheirOwnAuthenticateAgain(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{
		"user before on >secret ~* &* +@all", "user after on >secret ~* &* +@all", "user own on >secret ~* &* +@all",
	}})
	var as credentials
	as.set("before")
	r := newRelayWith(t, nil, upstream.Options{Addresses: []string{redis.Addr()}, Credentials: as.get})
	channels := func(protocol int, commands ...string) *harness.Conn {
		c := r.connect(t)
		if protocol == 3 {
			c = r.connect3(t)
		}
		for _, command := range commands {
			send(t, c, command)
			read(t, c)
		}
		return c
	}
	subscriber3, monitor2, monitor3 := channels(3, "SUBSCRIBE c", "SSUBSCRIBE d"), channels(2, "MONITOR"), channels(3, "MONITOR")
	tracker := channels(3, "CLIENT TRACKING ON", "GET k", "MULTI", "GET l", "EXEC")
	told := channels(3)
	redirects := channels(2, "CLIENT TRACKING ON REDIRECT "+idOf(t, told), "GET k")
	subscriber2, inside, blocked := channels(2, "SUBSCRIBE c"), channels(2, "MULTI", "SET k v"), channels(2)
	send(t, blocked, "BLPOP queue 0")
	await(t, redis, "flags=b", 1)
	stranger := channels(2, "WATCH w", "AUTH own secret")
	other := channels(2, "BLPOP none 0.01") // by which a free connection is left

	as.set("after")
	poll(t, func() error { // what is left with the old user cannot change
		if n := clientsOf(t, redis, "user=before"); n != 3 {
			return fmt.Errorf("%d clients, want a subscriber, one within MULTI, and one that is blocked:\n%s", n, redis.MustDo(t, "CLIENT", "LIST").Str)
		}
		return nil
	})
	for flags, count := range map[string]int{"flags=b": 1, "flags=x": 1, "sub=1 psub=0 ssub=0": 1} {
		if n := clientsOf(t, redis, flags); n != count {
			t.Errorf("%d clients with %s, want %d:\n%s", n, flags, count, redis.MustDo(t, "CLIENT", "LIST").Str)
		}
	}

	// They all work as before, and nobody has seen anything of it.
	redis.MustDo(t, "RPUSH", "queue", "x")
	expect(t, blocked, "*2\r\n"+bulk("queue")+bulk("x"))
	do(t, inside, "EXEC", "*1\r\n+OK\r\n")
	redis.MustDo(t, "SET", "l", "v")
	for _, key := range []string{"k", "l"} {
		expect(t, tracker, ">2\r\n$10\r\ninvalidate\r\n*1\r\n"+bulk(key))
	}
	expect(t, told, ">2\r\n$10\r\ninvalidate\r\n*1\r\n"+bulk("k"))
	silent(t, redirects)
	redis.MustDo(t, "PUBLISH", "c", "text")
	expect(t, subscriber2, message(2, "message", "c", bulk("text")))
	expect(t, subscriber3, message(3, "message", "c", bulk("text")))
	redis.MustDo(t, "SPUBLISH", "d", "text")
	expect(t, subscriber3, message(3, "smessage", "d", bulk("text")))
	send(t, subscriber3, "SUBSCRIBE e")
	expect(t, subscriber3, message(3, "subscribe", "e", ":2\r\n"))
	for _, c := range []*harness.Conn{monitor2, monitor3} {
		for {
			got := read(t, c)
			if got == ok {
				t.Error("MONITOR was answered something else")
			}
			if strings.Contains(got, `"spublish"`) || strings.Contains(got, `"SPUBLISH"`) {
				break
			}
		}
	}
	send(t, stranger, "MULTI", "ACL WHOAMI", "EXEC") // nor is anybody made another user
	expect(t, stranger, ok, queued, "*1\r\n"+bulk("own"))
	send(t, other, "MULTI", "ACL WHOAMI", "EXEC")
	expect(t, other, ok, queued, "*1\r\n"+bulk("after"))
	send(t, subscriber2, "UNSUBSCRIBE")
	read(t, subscriber2)
	await(t, redis, "user=before", 0)
}

// Credentials that Redis refuses are complained of, and nobody is closed for that: what was right before may be right again.
func TestRefusedCredentialsCloseNobody(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user before on >secret ~* &* +@all", "user after on >secret ~* &* +@all"}})
	var as credentials
	as.set("before")
	r := newRelayWith(t, nil, upstream.Options{Addresses: []string{redis.Addr()}, Credentials: as.get})
	c, subscriber := r.connect(t), r.connect3(t)
	do(t, c, "SET k v", ok)
	send(t, subscriber, "SUBSCRIBE c")
	read(t, subscriber)
	as.set("nobody")
	poll(t, func() error {
		if n := r.Stats(t).ReauthFailed; n < 2 {
			return fmt.Errorf("%d were refused", n)
		}
		return nil
	})
	do(t, c, "GET k", bulk("v"))
	redis.MustDo(t, "PUBLISH", "c", "text")
	expect(t, subscriber, message(3, "message", "c", bulk("text")))
	as.set("after")
	await(t, redis, "user=before", 0)
	do(t, c, "GET k", bulk("v"))
}

package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

func TestRedigo(t *testing.T) {
	onEach(t, func(t *testing.T, to target) {
		pool := &redis.Pool{Dial: func() (redis.Conn, error) { return redis.Dial("tcp", to.addr()) }}
		defer pool.Close()
		get := func() redis.Conn {
			t.Helper()
			c, err := pool.GetContext(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c, other := get(), get()
		defer c.Close()
		defer other.Close()
		equal := func(got any, err error, want any) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			if g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want); g != w {
				t.Errorf("the reply is %.200s, want %.200s", g, w)
			}
		}
		do := func(want any, command string, args ...any) {
			t.Helper()
			got, err := c.Do(command, args...)
			equal(got, err, want)
		}

		do("OK", "SET", "k", "v")
		do([]byte("v"), "GET", "k")
		do(nil, "GET", "nothing")
		do([]any{[]byte("v"), nil}, "MGET", "k", "nothing")
		if _, err := c.Do("NOSUCH"); err == nil || !strings.HasPrefix(err.Error(), "ERR unknown command") {
			t.Errorf("NOSUCH: %v", err)
		}
		do("OK", "SET", "large", large)
		if v, err := redis.String(c.Do("GET", "large")); v != large || err != nil {
			t.Errorf("GET of a large value: %d bytes, %v", len(v), err)
		}
		do(int64(1), "DEL", "large")

		// A pipeline.
		sent := make(chan error, 1)
		go func() {
			for i := range many {
				if err := errors.Join(c.Send("SET", fmt.Sprint("p:", i), i), c.Send("GET", fmt.Sprint("p:", i))); err != nil {
					sent <- err
					return
				}
			}
			sent <- c.Flush()
		}()
		for i := range many {
			_, err1 := c.Receive()
			v, err2 := redis.Int(c.Receive())
			if err := errors.Join(err1, err2); v != i || err != nil {
				t.Fatalf("reply %d of the pipeline is %d, %v", i, v, err)
			}
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}

		// SCAN.
		seen, cursor := map[string]bool{}, "0"
		for first := true; first || cursor != "0"; first = false {
			var keys []string
			page, err := redis.Values(c.Do("SCAN", cursor, "MATCH", "p:*", "COUNT", 1000))
			if err == nil {
				_, err = redis.Scan(page, &cursor, &keys)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range keys {
				seen[key] = true
			}
		}
		if len(seen) != many {
			t.Errorf("SCAN finds %d keys", len(seen))
		}

		// Scripts: by EVALSHA, and when that fails by EVAL.
		double := redis.NewScript(1, "return redis.call('GET', KEYS[1]) * 2")
		echo := redis.NewScript(1, "return {KEYS[1], ARGV[1]}")
		if err := echo.Load(c); err != nil {
			t.Fatal(err)
		}
		for i := range 30 { // keys on every node
			key := fmt.Sprint("p:", i)
			if n, err := redis.Int(double.Do(c, key)); n != 2*i || err != nil {
				t.Errorf("script: %d, %v", n, err)
			}
			do([]any{[]byte(key), []byte("x")}, "EVALSHA", echo.Hash(), 1, key, "x")
		}

		// Transactions.
		_, err := c.Do("WATCH", "{t}a")
		equal(nil, errors.Join(err, c.Send("MULTI"), c.Send("SET", "{t}a", 1), c.Send("INCR", "{t}a")), nil)
		do([]any{"OK", int64(2)}, "EXEC")
		do("OK", "WATCH", "{t}a")
		_, err = other.Do("SET", "{t}a", 3)
		equal(nil, errors.Join(err, c.Send("MULTI"), c.Send("SET", "{t}a", 4)), nil)
		do(nil, "EXEC")
		do([]byte("3"), "GET", "{t}a")

		// Publish and subscribe.
		sub := redis.PubSubConn{Conn: get()}
		defer sub.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		hears := func(want ...any) {
			t.Helper()
			for _, w := range want {
				if got := sub.ReceiveContext(ctx); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", w) {
					t.Fatalf("it hears %q, want %q", got, w)
				}
			}
		}
		equal(nil, errors.Join(sub.Subscribe("news"), sub.PSubscribe("new*")), nil)
		hears(redis.Subscription{Kind: "subscribe", Channel: "news", Count: 1}, redis.Subscription{Kind: "psubscribe", Channel: "new*", Count: 2})
		do(int64(2), "PUBLISH", "news", "hello")
		hears(redis.Message{Channel: "news", Data: []byte("hello")}, redis.Message{Channel: "news", Pattern: "new*", Data: []byte("hello")})
		equal(nil, sub.Ping("there?"), nil)
		hears(redis.Pong{Data: "there?"})
		equal(nil, errors.Join(sub.Unsubscribe(), sub.PUnsubscribe()), nil)
		hears(redis.Subscription{Kind: "unsubscribe", Channel: "news", Count: 1}, redis.Subscription{Kind: "punsubscribe", Channel: "new*"})

		// Blocking.
		popped := make(chan string, 1)
		go func() {
			got, err := redis.Strings(other.Do("BLPOP", "b:list", 10))
			popped <- fmt.Sprint(got, err)
		}()
		do(int64(1), "RPUSH", "b:list", "one")
		if got := <-popped; got != "[b:list one] <nil>" {
			t.Errorf("BLPOP: %s", got)
		}
		do(nil, "BLPOP", "b:list", 0.05)

		// A connection that was killed: the pool has another one.
		id, err := redis.Int64(other.Do("CLIENT", "ID"))
		equal(nil, err, nil)
		do(int64(1), "CLIENT", "KILL", "ID", id)
		if _, err := other.Do("PING"); err == nil {
			t.Error("the connection was killed, and answers")
		}
		again := get()
		defer again.Close()
		if now, err := redis.Int64(again.Do("CLIENT", "ID")); now == id || err != nil {
			t.Errorf("CLIENT ID: %d, %v", now, err)
		}
		if list, err := redis.String(again.Do("CLIENT", "LIST")); err != nil ||
			slices.ContainsFunc(strings.Split(list, "\n"), func(line string) bool { return strings.HasPrefix(line, fmt.Sprintf("id=%d ", id)) }) {
			t.Errorf("CLIENT LIST: %q, %v", list, err)
		}
	})
}

package clients

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"readthrough/test/harness"
)

// TestRueidis uses the client as it comes: where it is shown a cluster it is a client of a cluster, and it caches.
func TestRueidis(t *testing.T) {
	onEach(t, func(t *testing.T, to target) {
		for name, option := range map[string]rueidis.ClientOption{
			"caching":       {},
			"broadcasting":  {ClientTrackingOptions: []string{"PREFIX", "cached:", "BCAST"}},
			"no caching":    {DisableCache: true},
			"RESP2":         {DisableCache: true, AlwaysRESP2: true},
			"single client": {ForceSingleClient: true},
		} {
			t.Run(name, func(t *testing.T) {
				to.flush(t)
				option.InitAddress = []string{to.addr()}
				c, err := rueidis.NewClient(option)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if want := to.cluster && !option.ForceSingleClient; (c.Mode() == rueidis.ClientModeCluster) != want {
					t.Errorf("its mode is %v", c.Mode())
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				u := rueidisUser{t, ctx, c}
				u.values()
				u.pipelines()
				u.scan()
				u.scripts()
				u.transactions()
				u.pubsub()
				u.blocking()
				u.reconnects(harness.NewConn(t, to.addr()))
				if !option.DisableCache {
					u.caches(harness.NewConn(t, to.addr()))
				}
			})
		}
	})
}

type rueidisUser struct {
	*testing.T
	ctx context.Context
	c   rueidis.Client
}

// equal compares a reply, as text.
func (u rueidisUser) equal(got rueidis.RedisResult, want string) {
	u.Helper()
	text := "nil"
	m, err := got.ToMessage()
	switch {
	case err == nil && m.IsArray():
		var list []string
		list, err = m.AsStrSlice()
		text = strings.Join(list, " ")
	case err == nil && m.IsInt64():
		var n int64
		n, err = m.AsInt64()
		text = strconv.FormatInt(n, 10)
	case err == nil:
		text, err = m.ToString()
	case rueidis.IsRedisNil(err):
		err = nil
	}
	if err != nil {
		text = err.Error()
	}
	if text != want {
		u.Errorf("the reply is %.100q, want %.100q", text, want)
	}
}

// do runs a command whose first argument is its key.
func (u rueidisUser) do(command, key string, args ...string) rueidis.RedisResult {
	return u.c.Do(u.ctx, u.c.B().Arbitrary(command).Keys(key).Args(args...).Build())
}

func (u rueidisUser) values() {
	u.equal(u.do("SET", "k", "v"), "OK")
	u.equal(u.do("GET", "k"), "v")
	u.equal(u.do("GET", "nothing"), "nil")
	u.equal(u.do("HSET", "h", "f", "v"), "1")
	u.equal(u.do("HMGET", "h", "f"), "v")
	if err := u.do("LPUSH", "k", "v").Error(); err == nil || !strings.HasPrefix(err.Error(), "WRONGTYPE") {
		u.Errorf("LPUSH to a string: %v", err)
	}
	u.equal(u.do("SET", "large", large), "OK")
	u.equal(u.do("GET", "large"), large)
	u.equal(u.do("DEL", "large"), "1")
	keys := []string{"a", "b", "c", "d"} // on every node
	for key, err := range rueidis.MSet(u.c, u.ctx, map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}) {
		if err != nil {
			u.Errorf("MSET %s: %v", key, err)
		}
	}
	if got, err := rueidis.MGet(u.c, u.ctx, keys); err != nil || len(got) != len(keys) {
		u.Errorf("MGET: %d values, %v", len(got), err)
	}
}

func (u rueidisUser) pipelines() {
	u.Helper()
	commands := make(rueidis.Commands, 0, 2*many)
	for i := range many {
		key := fmt.Sprint("p:", i)
		commands = append(commands, u.c.B().Set().Key(key).Value(strconv.Itoa(i)).Build(), u.c.B().Get().Key(key).Build())
	}
	for i, reply := range u.c.DoMulti(u.ctx, commands...) {
		if i%2 == 1 {
			u.equal(reply, strconv.Itoa(i/2))
		}
	}
}

func (u rueidisUser) scan() {
	u.Helper()
	seen := map[string]bool{}
	for _, node := range u.c.Nodes() {
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			entry, err := node.Do(u.ctx, node.B().Scan().Cursor(cursor).Match("p:*").Count(1000).Build()).AsScanEntry()
			if err != nil {
				u.Fatal(err)
			}
			cursor = entry.Cursor
			for _, key := range entry.Elements {
				seen[key] = true
			}
		}
	}
	if len(seen) != many {
		u.Errorf("SCAN finds %d keys", len(seen))
	}
}

func (u rueidisUser) scripts() {
	double := rueidis.NewLuaScript("return redis.call('GET', KEYS[1]) * 2")
	for i := range 30 { // keys on every node
		u.equal(double.Exec(u.ctx, u.c, []string{fmt.Sprint("p:", i)}, nil), strconv.Itoa(2*i))
	}
	sha, err := u.c.Do(u.ctx, u.c.B().ScriptLoad().Script("return {KEYS[1], ARGV[1]}").Build()).ToString()
	if err != nil {
		u.Fatal(err)
	}
	for i := range 30 {
		key := fmt.Sprint("p:", i)
		u.equal(u.c.Do(u.ctx, u.c.B().Evalsha().Sha1(sha).Numkeys(1).Key(key).Arg("x").Build()), key+" x")
	}
}

func (u rueidisUser) transactions() {
	for _, disturb := range []bool{true, false} {
		err := u.c.Dedicated(func(c rueidis.DedicatedClient) error {
			u.equal(c.Do(u.ctx, c.B().Watch().Key("{t}a").Build()), "OK")
			if disturb {
				u.equal(u.do("SET", "{t}a", "3"), "OK")
			}
			replies := c.DoMulti(u.ctx, c.B().Multi().Build(), c.B().Set().Key("{t}a").Value("4").Build(), c.B().Exec().Build())
			u.equal(replies[1], "QUEUED")
			if disturb {
				u.equal(replies[2], "nil")
			} else {
				u.equal(replies[2], "OK")
			}
			return nil
		})
		if err != nil {
			u.Error(err)
		}
	}
}

func (u rueidisUser) pubsub() {
	b := u.c.B()
	for _, x := range []struct {
		channel   string
		subscribe rueidis.Completed
		publish   func(channel string) rueidis.Completed
	}{
		{"news", b.Subscribe().Channel("news").Build(), u.publish},
		{"old", b.Psubscribe().Pattern("o*").Build(), u.publish}, // it does not unsubscribe from the other
		{"a", b.Ssubscribe().Channel("a").Build(), u.spublish},   // on every node
		{"b", b.Ssubscribe().Channel("b").Build(), u.spublish},
		{"c", b.Ssubscribe().Channel("c").Build(), u.spublish},
	} {
		ctx, cancel := context.WithCancel(u.ctx)
		heard := make(chan rueidis.PubSubMessage, 1)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = u.c.Receive(ctx, x.subscribe, func(m rueidis.PubSubMessage) { heard <- m }) // until it is cancelled
		}()
		err := harness.Poll(u.ctx, func() error {
			n, err := u.c.Do(u.ctx, x.publish(x.channel)).AsInt64()
			if err == nil && n == 0 {
				err = fmt.Errorf("nobody has subscribed to %s", x.channel)
			}
			return err
		})
		if err != nil {
			u.Error(err)
		}
		select {
		case m := <-heard:
			if m.Channel != x.channel || m.Message != "hello" {
				u.Errorf("message %v", m)
			}
		case <-u.ctx.Done():
			u.Error("no message")
		}
		cancel()
		<-ended
	}
}

func (u rueidisUser) publish(channel string) rueidis.Completed {
	return u.c.B().Publish().Channel(channel).Message("hello").Build()
}

func (u rueidisUser) spublish(channel string) rueidis.Completed {
	return u.c.B().Spublish().Channel(channel).Message("hello").Build()
}

func (u rueidisUser) blocking() {
	popped := make(chan rueidis.RedisResult, 1)
	go func() { popped <- u.c.Do(u.ctx, u.c.B().Blpop().Key("b:list").Timeout(10).Build()) }()
	u.equal(u.do("RPUSH", "b:list", "one"), "1")
	u.equal(<-popped, "b:list one")
	u.equal(u.c.Do(u.ctx, u.c.B().Blpop().Key("b:list").Timeout(0.05).Build()), "nil")
}

// reconnects has the client's connections killed.
func (u rueidisUser) reconnects(killer *harness.Conn) {
	before := u.do("GET", "k").Error()
	killed := killer.MustDo(u.T, "CLIENT", "KILL", "SKIPME", "yes")
	if before != nil || killed == ":0\r\n" {
		u.Fatalf("killed %s, %v", killed, before)
	}
	for range 10 { // over any of its connections; it sends again what only reads
		u.equal(u.c.Do(u.ctx, u.c.B().Get().Key("k").Build()), "v")
	}
	if err := harness.Poll(u.ctx, func() error { return u.do("SET", "k", "new").Error() }); err != nil {
		u.Error(err)
	}
	u.equal(u.c.Do(u.ctx, u.c.B().Get().Key("k").Build()), "new")
}

// caches holds that the client learns of every change of what it has cached, on whichever node that lives.
func (u rueidisUser) caches(other *harness.Conn) {
	get := func(key string) (value string, hit bool) {
		r := u.c.DoCache(u.ctx, u.c.B().Get().Key(key).Cache(), time.Minute)
		value, err := r.ToString()
		if err != nil && !rueidis.IsRedisNil(err) {
			u.Error(err)
		}
		return value, r.IsCacheHit()
	}
	var keys []string
	for i := range 30 {
		keys = append(keys, fmt.Sprint("cached:", i))
	}
	for _, value := range []string{"old", "new", ""} {
		for _, key := range keys {
			if value == "" {
				other.MustDo(u.T, "DEL", key)
			} else {
				other.MustDo(u.T, "SET", key, value)
			}
			err := harness.Poll(u.ctx, func() error { // an invalidation comes when it comes
				if got, _ := get(key); got != value {
					return fmt.Errorf("%s is %q, want %q", key, got, value)
				}
				return nil
			})
			if err != nil {
				u.Fatal(err)
			}
		}
		if !slices.ContainsFunc(keys, func(key string) bool { _, hit := get(key); return hit }) {
			u.Error("nothing is cached")
		}
	}
}

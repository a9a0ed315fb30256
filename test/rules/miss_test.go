package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"readthrough/internal/slot"
	"readthrough/test/harness"
)

// missing is the key of a GET that Redis cannot answer, and besides a key of another slot.
const (
	missing = "map:k"
	besides = "other"
)

// What a client pipelines behind a GET that misses runs after that has been answered, where it could mean the same key: else its write
// would be undone by the fill, or the GET answer what it has written.
func TestCommandsBehindAMissWaitForItsFill(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{})
	if slot.Of([]byte(missing)) == slot.Of([]byte(besides)) {
		t.Fatal("the keys share a slot")
	}
	o.fill(func(key string) *harness.Redis { return w.master(t, key) })
	for command, test := range map[string]struct{ reply, value string }{
		"SET map:k v":           {"+OK\r\n", "v"},
		"APPEND map:k -v":       {":8\r\n", "loaded-v"},
		"DEL map:k":             {":1\r\n", ""},
		"DEL other map:k":       {":1\r\n", ""},
		"MSET other v map:k v":  {"+OK\r\n", "v"},
		"RENAME map:k {map:k}2": {"+OK\r\n", ""},
		"EVAL return(redis.call('DEL',KEYS[1])) 1 map:k": {":1\r\n", ""},
		"FLUSHALL":         {"+OK\r\n", ""},
		"EXISTS map:k":     {":1\r\n", "loaded"},
		"MGET map:k other": {"*2\r\n$6\r\nloaded\r\n$-1\r\n", "loaded"},
		"RANDOMKEY":        {"$5\r\nmap:k\r\n", "loaded"},
		"SCAN 0 COUNT 1":   {"", "loaded"},
		"DBSIZE":           {":1\r\n", "loaded"},
		"SORT map:k":       {"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "loaded"},
	} {
		t.Run(command, func(t *testing.T) {
			c, other := w.connect(t), w.connect(t)
			do(t, other, "FLUSHALL", "+OK\r\n")
			open := o.hold()
			send(t, c, "GET "+missing, command)
			if key := <-o.asked; key != missing {
				t.Fatal(key)
			}
			// What had been sent behind the GET would have run by now.
			do(t, other, "EXISTS map:k", ":0\r\n")
			do(t, other, "EXISTS other", ":0\r\n")
			open()
			expect(t, c, bulk("loaded"))
			got, err := c.ReadReply()
			if err != nil || test.reply != "" && string(got) != test.reply {
				t.Fatalf("%q, %v, want %q", got, err, test.reply)
			}
			if got := w.master(t, missing).MustDo(t, "GET", missing).Str; got != test.value {
				t.Fatalf("Redis has %q, want %q", got, test.value)
			}
		})
	}
}

// The same where all keys are one node's.
func TestCommandsBehindAMissWaitForItsFillWithoutACluster(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	o.fill(func(string) *harness.Redis { return redis })
	r := newRelay(t, o, redis.Addr())
	for _, command := range []string{"DEL other map:k", "FLUSHALL", "SUNIONSTORE map:k none", "EVAL return(redis.call('DEL','map:k')) 0"} {
		redis.MustDo(t, "FLUSHALL")
		c := r.connect(t)
		open := o.hold()
		send(t, c, "GET "+missing, command)
		<-o.asked
		do(t, r.connect(t), "EXISTS other", ":0\r\n")
		open()
		expect(t, c, bulk("loaded"))
		if _, err := c.ReadReply(); err != nil {
			t.Fatal(err)
		}
		if got := redis.MustDo(t, "EXISTS", missing).Str; got != "0" {
			t.Errorf("%s ran before the fill", command)
		}
	}
}

// What cannot mean the same key does not wait, and the replies come in their order.
func TestCommandsOfOtherKeysPassAMiss(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{})
	open := o.hold()
	c := w.connect(t)
	send(t, c, "GET map:k", "SET other v", "GET map:k2", "GET map:k", "SET other w", "GET other")
	poll(t, func() error {
		if v := w.master(t, besides).MustDo(t, "GET", besides); v.Str != "w" {
			return fmt.Errorf("it is %q", v.Str)
		}
		return nil
	})
	for range 3 {
		<-o.asked
	}
	open()
	expect(t, c, bulk("loaded"), "+OK\r\n", bulk("loaded"), bulk("loaded"), "+OK\r\n", bulk("w"))
}

// A client's own GET does not break its transaction: what it watches is loaded and not filled in.
func TestAMissWhileKeysAreWatchedFillsNothing(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	o.fill(func(string) *harness.Redis { return redis })
	r := newRelay(t, o, redis.Addr())
	c := r.connect(t)
	send(t, c, "WATCH map:k", "GET map:k", "MULTI", "SET map:k mine", "EXEC")
	expect(t, c, "+OK\r\n", bulk("loaded"), "+OK\r\n", "+QUEUED\r\n", "*1\r\n+OK\r\n")

	send(t, c, "WATCH map:k2", "UNWATCH", "GET map:k2")
	expect(t, c, "+OK\r\n", "+OK\r\n", bulk("loaded"))
	if got := redis.MustDo(t, "GET", "map:k2").Str; got != "loaded" {
		t.Errorf("after UNWATCH Redis has %q", got)
	}
}

// A client that tracks what it reads hears of the change that follows a miss: the fill does not use up Redis's promise.
func TestATrackingClientHearsOfChangesAfterAMiss(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	const told = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$5\r\nmap:k\r\n"
	for name, test := range map[string]struct {
		fills  bool
		before []string
		told   string // behind the answer
		again  string // after another one's write
	}{
		"filled":        {true, []string{"CLIENT TRACKING ON"}, "", told},
		"not filled":    {false, []string{"CLIENT TRACKING ON"}, told, told},
		"opt in":        {true, []string{"CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES"}, "", told},
		"opt in, not":   {true, []string{"CLIENT TRACKING ON OPTIN"}, "", ""},
		"opt out":       {true, []string{"CLIENT TRACKING ON OPTOUT"}, "", told},
		"opt out, said": {true, []string{"CLIENT TRACKING ON OPTOUT", "CLIENT CACHING NO"}, "", ""},
		"broadcast":     {true, []string{"CLIENT TRACKING ON BCAST PREFIX map:"}, "", told},
	} {
		t.Run(name, func(t *testing.T) {
			redis.MustDo(t, "FLUSHALL")
			o := newOrigin()
			if test.fills {
				o.fill(func(string) *harness.Redis { return redis })
			}
			r := newRelay(t, o, redis.Addr())
			c := r.connect3(t)
			for _, command := range test.before {
				do(t, c, command, "+OK\r\n")
			}
			send(t, c, "GET map:k")
			got := read(t, c)
			if got == told { // by the fill
				got = read(t, c)
			}
			if got != bulk("loaded") {
				t.Fatalf("GET: %q", got)
			}
			if test.told != "" {
				expect(t, c, test.told)
			}
			silent(t, c)
			redis.MustDo(t, "SET", missing, "changed")
			if test.again != "" {
				expect(t, c, test.again)
			}
			silent(t, c)
			do(t, c, "GET map:k", bulk("changed"))
		})
	}
}

// What a tracking client is answered after a miss is what Redis has: another one's write may have come first.
func TestATrackingClientIsAnsweredWhatRedisHas(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	open := o.hold()
	o.fill(func(string) *harness.Redis { return redis })
	r := newRelay(t, o, redis.Addr())
	c := r.connect3(t)
	do(t, c, "CLIENT TRACKING ON", "+OK\r\n")
	send(t, c, "GET map:k")
	<-o.asked
	redis.MustDo(t, "SET", missing, "newer")
	expect(t, c, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$5\r\nmap:k\r\n")
	open()
	expect(t, c, bulk("newer"))
}

// A push does not overtake a reply that came before it and waits for others: the client would keep what has changed.
func TestAnInvalidationStaysBehindTheReplyThatItIsAbout(t *testing.T) {
	o := newOrigin()
	open := o.hold()
	w := newWorld(t, o, harness.ClusterOptions{})
	keys := w.keysOfAll(t, "key")
	key := keys[0]
	if w.master(t, key) == w.master(t, missing) {
		key = keys[1]
	}
	c, other := w.connect3(t), w.connect(t)
	do(t, other, "SET "+key+" old", "+OK\r\n")
	do(t, c, "CLIENT TRACKING ON", "+OK\r\n")
	send(t, c, "GET map:k", "GET "+key, "ECHO end")
	<-o.asked
	poll(t, func() error { // Redis has answered, and will tell of a change
		if info := w.master(t, key).MustDo(t, "INFO", "stats").Str; !strings.Contains(info, "tracking_total_keys:1") {
			return errors.New("nothing is tracked yet")
		}
		return nil
	})
	do(t, other, "SET "+key+" new", "+OK\r\n")
	poll(t, func() error { // and has told it
		if info := w.master(t, key).MustDo(t, "INFO", "stats").Str; !strings.Contains(info, "tracking_total_keys:0") {
			return errors.New("it is still tracked")
		}
		return nil
	})
	do(t, other, "GET "+key, bulk("new"))
	open()
	var got []string
	for range 5 { // one more tells of the miss's key
		got = append(got, read(t, c))
	}
	old, told := slices.Index(got, bulk("old")), slices.Index(got, ">2\r\n$10\r\ninvalidate\r\n*1\r\n"+bulk(key))
	if old < 0 || told < old {
		t.Fatalf("%q", got)
	}
}

// With its replies off a client is answered nothing, so nothing is loaded for it.
func TestNothingIsLoadedForAClientWithoutReplies(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	r := newRelay(t, o, redis.Addr())
	c := r.connect(t)
	send(t, c, "CLIENT REPLY OFF", "SET k v", "GET map:k", "NOSUCH", "CLIENT REPLY SKIP", "GET map:k", "CLIENT REPLY ON", "GET k",
		"CLIENT REPLY SKIP", "GET map:k", "GET k", "CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "INCR n", "INCR n")
	expect(t, c, "+OK\r\n", bulk("v"), bulk("v"), ":2\r\n")
	if n := o.loads.Load(); n != 0 {
		t.Errorf("%d loads", n)
	}
	do(t, c, "GET map:k", bulk("loaded"))
}

// What a tracking client reads in a transaction is tracked as well, for as long as it is a client.
func TestWhatIsReadInATransactionIsTracked(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	other := w.connect(t)
	for mode, before := range map[string][]string{
		"all":     {"CLIENT TRACKING ON"},
		"opt in":  {"CLIENT TRACKING ON OPTIN", "CLIENT CACHING YES"},
		"opt out": {"CLIENT TRACKING ON OPTOUT"},
	} {
		c := w.connect3(t)
		do(t, other, "SET k old", ok)
		do(t, other, "SET {k}2 old", ok)
		for _, command := range before {
			do(t, c, command, ok)
		}
		send(t, c, "MULTI", "PTTL k", "GET k", "EXEC")
		expect(t, c, ok, queued, queued, "*2\r\n:-1\r\n"+bulk("old"))
		send(t, c, "MULTI", "GET {k}2", "EXEC", "GET {k}2") // another one, for which nothing was said
		expect(t, c, ok, queued, "*1\r\n"+bulk("old"), bulk("old"))
		do(t, other, "SET k new", ok)
		if got := read(t, c); got != ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n" {
			t.Fatalf("%s: %q", mode, got)
		}
		do(t, other, "SET {k}2 new", ok)
		if mode != "opt in" {
			if got := read(t, c); got != ">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\n{k}2\r\n" {
				t.Fatalf("%s: %q", mode, got)
			}
		}
	}
}

package rules

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"readthrough/resp"
	"readthrough/test/harness"
)

// GETEX of a missing key has its expiry on what was filled in.
func TestGETEXSetsItsExpiryOnWhatWasFilled(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{})
	soon := time.Now().Add(500 * time.Second)
	for options, ttl := range map[string][2]int{ // between which seconds
		"":                                     {filledFor - 50, filledFor},
		" EX 100":                              {50, 100},
		" PX 100000":                           {50, 100},
		fmt.Sprint(" EXAT ", soon.Unix()):      {400, 500},
		fmt.Sprint(" PXAT ", soon.UnixMilli()): {400, 500},
		" PERSIST":                             {-1, -1},
		" ex 100":                              {50, 100},
		" EXAT 1":                              {-2, -2}, // it is deleted
	} {
		for protocol, null := range nulls {
			t.Run(fmt.Sprint("RESP", protocol, options), func(t *testing.T) {
				c := w.speak(t, protocol)
				do(t, c, "FLUSHALL", ok)
				o.resolutions()
				o.fill(func(key string) *harness.Redis { return w.master(t, key) })
				do(t, c, "GETEX map:k"+options, bulk("loaded"))
				got, err := strconv.Atoi(w.master(t, missing).MustDo(t, "TTL", missing).Str)
				if err != nil || got < ttl[0] || got > ttl[1] {
					t.Errorf("the TTL is %d, want %v", got, ttl)
				}
				if got := o.resolutions(); !slices.Equal(got, []resolution{{missing, resp.WithLease}}) {
					t.Errorf("the origin was asked %v", got)
				}
				do(t, c, "GETEX map:none"+options, null)
				do(t, c, "GETEX map:err"+options, "-ORIGINERR map m: map:err\r\n")
				do(t, c, "GETEX other"+options, null)
				do(t, c, "SET map:hit v", ok)
				do(t, c, "GETEX map:hit"+options, bulk("v"))
				o.fill(nil)
				do(t, c, "GETEX map:unfilled"+options, bulk("loaded"))
				do(t, c, "EXISTS map:unfilled", ":0\r\n")
			})
		}
	}
}

// What is wrong with a GETEX says Redis.
func TestAWrongGETEXIsRedissError(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	o.fill(func(string) *harness.Redis { return redis })
	c := newRelay(t, o, redis.Addr()).connect(t)
	do(t, c, "GETEX", "-ERR wrong number of arguments for 'getex' command\r\n")
	do(t, c, "GETEX map:k NOSUCH", "-ERR syntax error\r\n")
	do(t, c, "GETEX map:k EX 1 PX 1", "-ERR syntax error\r\n")
	do(t, c, "GETEX map:k EX x", "-ERR value is not an integer or out of range\r\n")
	do(t, c, "GETEX map:k EX 0", "-ERR invalid expire time in 'getex' command\r\n")
	do(t, c, "LPUSH map:list x", ":1\r\n")
	do(t, c, "GETEX map:list EX 10", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
}

// Of several GETEX in a pipeline the last one's expiry stays, and a write behind one comes after it.
func TestGETEXKeepsItsPlace(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	o.fill(func(string) *harness.Redis { return redis })
	c := newRelay(t, o, redis.Addr()).connect(t)
	loaded := bulk("loaded")
	for range 20 {
		redis.MustDo(t, "FLUSHALL")
		send(t, c, "GET map:k", "GETEX map:k EX 10", "GET map:k", "GETEX map:k EX 300", "GETEX map:k EX 100", "PTTL other", "TTL map:k", "SET map:k v", "TTL map:k")
		expect(t, c, loaded, loaded, loaded, loaded, loaded, ":-2\r\n", ":100\r\n", ok, ":-1\r\n")
		for len(o.asked) > 0 {
			<-o.asked
		}
	}
}

// A GETEX is not sent again where its connection was lost under it, since it may have run, but a client that needs no rights of its own
// is answered the value that was loaded.
func TestAGETEXWhoseConnectionIsLostIsAnswered(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	r := newRelay(t, o, redis.Addr())
	open := o.hold()
	c := r.connect(t)
	send(t, c, "GETEX map:k EX 10")
	<-o.asked
	redis.Kill()
	open()
	expect(t, c, bulk("loaded"))
	if got := o.resolutions(); len(got) != 1 {
		t.Errorf("the origin was asked %v", got)
	}
}

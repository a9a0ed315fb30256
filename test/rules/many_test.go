package rules

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"readthrough/resp"
	"readthrough/test/harness"
)

// array is an array's reply.
func array(elements ...string) string {
	return fmt.Sprintf("*%d\r\n%s", len(elements), strings.Join(elements, ""))
}

// nulls are the null replies by protocol.
var nulls = map[int]string{2: "$-1\r\n", 3: "_\r\n"}

// speak opens a connection in a protocol.
func (r *relay) speak(t testing.TB, protocol int) *harness.Conn {
	t.Helper()
	if protocol == 3 {
		return r.connect3(t)
	}
	return r.connect(t)
}

// The misses of one MGET are loaded at once, each key once, and answered in order among what Redis has and what nobody has.
func TestTheMissesOfAnMGETAreLoadedTogether(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{})
	o.fill(func(key string) *harness.Redis { return w.master(t, key) })
	alone := harness.NewRedis(t, harness.RedisOptions{})
	p := newOrigin()
	p.fill(func(string) *harness.Redis { return alone })
	single := newRelay(t, p, alone.Addr())
	for _, x := range []struct {
		name string
		*relay
		*origin
		tag string
	}{
		{"several slots", w.relay, o, ""}, {"one slot", w.relay, o, "{t}"}, {"one node", single, p, ""},
	} {
		for protocol, null := range nulls {
			t.Run(fmt.Sprint(x.name, ", RESP", protocol), func(t *testing.T) {
				c := x.speak(t, protocol)
				if got := c.MustDo(t, "FLUSHALL"); got != ok {
					t.Fatal(got)
				}
				do(t, c, "SET map:hit"+x.tag+" a", ok)
				do(t, c, "SET other"+x.tag+" b", ok)
				do(t, c, "LPUSH map:list"+x.tag+" x", ":1\r\n")
				x.resolutions()
				keys := strings.ReplaceAll("MGET map:1# map:hit# map:none# nowhere# map:2# map:1# other# map:list# map:2# map:none#", "#", x.tag)
				loaded := bulk("loaded")
				want := array(loaded, bulk("a"), null, null, loaded, loaded, bulk("b"), loaded, loaded, null)
				do(t, c, keys, want)
				asked := strings.ReplaceAll("map:1# map:none# map:2# map:list#", "#", x.tag)
				if got := x.resolutions(); !slices.Equal(got, []resolution{{asked, resp.WithLease}}) {
					t.Errorf("the origin was asked %v", got)
				}
				do(t, c, keys, want)
				asked = strings.ReplaceAll("map:none# map:list#", "#", x.tag)
				if got := x.resolutions(); !slices.Equal(got, []resolution{{asked, resp.WithLease}}) {
					t.Errorf("then it was asked %v", got)
				}
				do(t, c, strings.ReplaceAll("MGET map:1# map:2# map:hit#", "#", x.tag), array(loaded, loaded, bulk("a")))
				do(t, c, "MGET nowhere"+x.tag+" other"+x.tag, array(null, bulk("b")))
				if got := x.resolutions(); len(got) > 0 {
					t.Errorf("of what is there it was asked %v", got)
				}
				do(t, c, strings.ReplaceAll("MGET map:3# map:err1# map:err2# other#", "#", x.tag), "-ORIGINERR map m: map:err1"+x.tag+"\r\n")
				do(t, c, "MGET", "-ERR wrong number of arguments for 'mget' command\r\n")
				do(t, c, "PING", "+PONG\r\n")
			})
		}
	}
}

// Where the relay may split nothing, a MGET of several slots is refused as Redis refuses it, and so is one that a user may not read.
func TestAnMGETThatRedisRefusesIsNotLoaded(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user app on >secret ~map:1 +@all"}})
	o := newOrigin()
	r := newRelay(t, o, redis.Addr())
	c := r.connect(t)
	do(t, c, "AUTH app secret", ok)
	for _, command := range []string{"MGET map:1 map:2", "GETEX map:2", "GETEX map:2 EX 10"} {
		send(t, c, command)
		if got := read(t, c); !strings.HasPrefix(got, "-NOPERM ") {
			t.Errorf("%s: %q", command, got)
		}
	}
	if n := o.loads.Load(); n > 0 {
		t.Errorf("%d loads", n)
	}
	do(t, c, "MGET map:1", array(bulk("loaded")))
}

// What a client pipelines behind an MGET with misses waits where it could mean one of its keys, and passes where not.
func TestCommandsBehindAnMGETWaitForItsFills(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{})
	o.fill(func(key string) *harness.Redis { return w.master(t, key) })
	c, other := w.connect(t), w.connect(t)
	for _, test := range []struct{ command, reply, value string }{
		{"SET map:2 v", ok, "v"},
		{"GETEX map:2 PERSIST", bulk("loaded"), "loaded"},
		{"DEL map:2", ":1\r\n", ""},
		{"DEL map:2 besides", ":1\r\n", ""},
		{"EXISTS map:1 map:2", ":2\r\n", "loaded"},
	} {
		do(t, other, "FLUSHALL", ok)
		open := o.hold()
		send(t, c, "MGET map:1 map:2", test.command)
		<-o.asked
		do(t, other, "EXISTS map:2", ":0\r\n")
		do(t, other, "OBJECT FREQ map:2", nulls[2])
		open()
		expect(t, c, array(bulk("loaded"), bulk("loaded")), test.reply)
		if got := w.master(t, "map:2").MustDo(t, "GET", "map:2").Str; got != test.value {
			t.Errorf("%s: Redis has %q, want %q", test.command, got, test.value)
		}
		for len(o.asked) > 0 {
			<-o.asked
		}
	}

	do(t, other, "FLUSHALL", ok)
	open := o.hold()
	send(t, c, "MGET map:1 map:2", "SET passes v", "MGET map:2 map:3", "GET map:1")
	poll(t, func() error {
		if v := w.master(t, "passes").MustDo(t, "GET", "passes"); v.Str != "v" {
			return fmt.Errorf("it is %q", v.Str)
		}
		return nil
	})
	for range 3 { // one of each, of which each waits
		<-o.asked
	}
	open()
	expect(t, c, array(bulk("loaded"), bulk("loaded")), ok, array(bulk("loaded"), bulk("loaded")), bulk("loaded"))
}

// An MGET of what a client watches fills nothing, so that it does not break its transaction.
func TestAnMGETWhileKeysAreWatchedFillsNothing(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	o.fill(func(string) *harness.Redis { return redis })
	c := newRelay(t, o, redis.Addr()).connect(t)
	loaded := bulk("loaded")
	send(t, c, "WATCH map:1", "MGET map:1 map:2", "GETEX map:1 EX 10", "MULTI", "SET map:1 mine", "EXEC")
	expect(t, c, ok, array(loaded, loaded), loaded, ok, queued, array(ok))
	if got := o.resolutions(); !slices.Equal(got, []resolution{{"map:1 map:2", resp.WithoutFill}, {"map:1", resp.WithoutFill}}) {
		t.Errorf("%v", got)
	}
}

// A client that tracks its keys is told not to keep what was loaded for it: the fill has used up Redis's promise to tell of a change.
func TestATrackingClientIsToldWhatAnMGETHasLoaded(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	for _, fills := range []bool{true, false} {
		redis.MustDo(t, "FLUSHALL")
		o := newOrigin()
		open := o.hold()
		if fills {
			o.fill(func(string) *harness.Redis { return redis })
		}
		c := newRelay(t, o, redis.Addr()).connect3(t)
		redis.MustDo(t, "SET", "map:hit", "v")
		do(t, c, "CLIENT TRACKING ON", ok)
		send(t, c, "MGET map:1 map:hit map:none map:2")
		<-o.asked
		open()
		var got []string
		reply := array(bulk("loaded"), bulk("v"), nulls[3], bulk("loaded"))
		for len(got) == 0 || got[len(got)-1] != reply { // those of the fills come before
			got = append(got, read(t, c))
		}
		told := ">2\r\n$10\r\ninvalidate\r\n*1\r\n"
		expect(t, c, told+bulk("map:1"), told+bulk("map:2"))
		redis.MustDo(t, "PING") // what Redis has told of its own is on its way
		send(t, c, "PING end")
		for got := ""; got != bulk("end"); got = read(t, c) { // by the fills, too late
			if got != "" && got != told+bulk("map:1") && got != told+bulk("map:2") {
				t.Fatalf("%q", got)
			}
		}
		redis.MustDo(t, "SET", "map:hit", "w")
		expect(t, c, told+bulk("map:hit"))
		send(t, c, "MGET map:1 map:hit map:2")
		reply = array(bulk("loaded"), bulk("w"), bulk("loaded"))
		expect(t, c, reply)
		if fills { // now they are hits, and tracked
			silent(t, c)
			redis.MustDo(t, "SET", "map:2", "w")
			expect(t, c, told+bulk("map:2"))
		}
	}
}

// What is too large to be kept is answered right all the same, in order, whatever is missing of it, and whatever it waits behind.
func TestLargeMGETsReadThrough(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{})
	for protocol, null := range nulls {
		c := w.speak(t, protocol)
		do(t, c, "FLUSHALL", ok)
		values := map[string]string{}
		var keys []string
		for i := range 24 { // some of a size that comes in parts, one that is more than is ever kept
			for _, prefix := range []string{"map:", "other:"} {
				size := []int{0, 1, 5, 6, 100, 16 << 10, 100 << 10, 600 << 10}[i%8]
				if i == 20 {
					size = 5 << 20
				}
				key := fmt.Sprint(prefix, i)
				value := strings.Repeat(fmt.Sprint("$-1\r\n", i), size/5+1)[:size]
				if got := c.MustDo(t, "SET", key, value); got != ok {
					t.Fatal(got)
				}
				values[key] = bulk(value)
				keys = append(keys, key)
			}
		}
		for i := range 24 {
			values[fmt.Sprint("map:missing", i)] = bulk("loaded")
			values[fmt.Sprint("map:none", i)] = null
			values[fmt.Sprint("other:missing", i)] = null
			keys = append(keys, fmt.Sprint("map:missing", i), fmt.Sprint("map:none", i), fmt.Sprint("other:missing", i))
		}
		for range 5 {
			var commands [][]byte
			var want []string
			for range 3 {
				command, reply := []string{"MGET"}, []string{}
				for range 1 + random.IntN(60) {
					key := keys[random.IntN(len(keys))]
					command, reply = append(command, key), append(reply, values[key])
				}
				commands = append(commands, harness.Command(command...), harness.Command("GET", "map:missing0"))
				want = append(want, array(reply...), bulk("loaded"))
			}
			o.resolutions()
			if err := c.Send(slices.Concat(commands...)); err != nil {
				t.Fatal(err)
			}
			for i, reply := range want {
				got, err := c.ReadReply()
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != reply {
					at := 0
					for at < min(len(got), len(reply)) && got[at] == reply[at] {
						at++
					}
					t.Fatalf("%.300q: reply %d of %d bytes differs at %d of %d: %.60q, want %.60q", commands[i], i, len(reply), at, len(got), got[at:], reply[at:])
				}
			}
			for len(o.asked) > 0 {
				<-o.asked
			}
		}
	}
}

// An error of the origin within an MGET that is too large to be kept ends the session: it is no null, and what comes behind it is not
// taken for its elements.
func TestAnErrorWithinALargeMGET(t *testing.T) {
	w := newWorld(t, newOrigin(), harness.ClusterOptions{})
	c := w.connect(t)
	large := strings.Repeat("v", 1<<20-1)
	command := []string{"MGET"}
	for i := range 12 {
		key := fmt.Sprint("large", i)
		if got := c.MustDo(t, "SET", key, large); got != ok {
			t.Fatal(got)
		}
		command = append(command, key)
	}
	for _, command := range [][]string{append(command, "map:err"), slices.Insert(slices.Clone(command), 1, "map:err")} {
		c := w.connect(t)
		if err := c.Send(harness.Command(append(command, "map:1")...)); err != nil {
			t.Fatal(err)
		}
		got, err := c.ReadReply()
		if err == nil && string(got) != "-ORIGINERR map m: map:err\r\n" { // it had all come at once
			t.Errorf("%.100q", got)
		}
	}
}

package rules

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"

	"readthrough/test/harness"
)

// told are the hits that an origin was told of since it was asked last, by key.
func (o *origin) told() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	told := map[string]int{}
	for _, key := range o.hits {
		told[key]++
	}
	o.hits = nil
	return told
}

// Of the hits of mapped keys, whatever command they are of, one in sixteen is told, where somebody wants to know.
func TestASampleOfHitsIsTold(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	c := newRelay(t, o, redis.Addr()).connect(t)
	for i := range 16 {
		do(t, c, fmt.Sprint("SET map:", i, " v"), ok)
	}
	do(t, c, "SET other v", ok)
	v := bulk("v")
	round := func() { // sixteen hits, as many as a sample is taken of
		send(t, c, "GET map:0", "GETEX map:1", "GETEX map:2 PERSIST", "GET other", "MGET map:3 other map:missing map:4 map:5", "GET map:missing",
			"MGET map:6 map:7 map:8 map:9 map:10 map:11 map:12 map:13 map:14 map:15")
		expect(t, c, v, v, v, v, array(v, v, bulk("loaded"), v, v), bulk("loaded"), array(slices.Repeat([]string{v}, 10)...))
		for len(o.asked) > 0 {
			<-o.asked
		}
	}
	for range 30 {
		round()
	}
	if got := o.told(); len(got) > 0 {
		t.Errorf("nobody wants to know of %v", got)
	}
	o.refresh.Store(true)
	const rounds = 400
	for range rounds {
		round()
	}
	// Each key is drawn in 25 rounds, give or take 5.
	got, sum := o.told(), 0
	for i := range 16 {
		n := got[fmt.Sprint("map:", i)]
		if sum += n; n == 0 {
			t.Errorf("map:%d is never told of", i)
		}
	}
	if len(got) != 16 || sum < rounds/2 || sum > 2*rounds {
		t.Errorf("of %d hits it was told %v", 16*rounds, got)
	}
}

// A client's own hits of what it watches have nothing renewed, so that they do not break its transaction.
func TestHitsWhileKeysAreWatchedAreNotTold(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	o.refresh.Store(true)
	c := newRelay(t, o, redis.Addr()).connect(t)
	do(t, c, "SET map:k v", ok)
	v := bulk("v")
	hits := func() {
		for range 100 {
			send(t, c, "GET map:k", "GETEX map:k", "MGET map:k map:k")
			expect(t, c, v, v, array(v, v))
		}
	}
	for _, end := range []string{"UNWATCH", "DISCARD"} {
		do(t, c, "WATCH map:k", ok)
		hits()
		if got := o.told(); len(got) > 0 {
			t.Errorf("while it watches: %v", got)
		}
		if end == "DISCARD" {
			do(t, c, "MULTI", ok)
		}
		do(t, c, end, ok)
		hits()
		if got := o.told(); len(got) == 0 {
			t.Errorf("after %s the origin is told of none", end)
		}
	}
}

// A hit of a mapped key costs no allocation, whether it is told or not.
func TestHitsAllocateNothing(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := &quiet{newOrigin()}
	o.refresh.Store(true)
	c := newRelay(t, o, redis.Addr()).connect(t)
	const depth, rounds = 100, 1000
	var batch, answer []byte
	for i := range depth / 2 {
		key := fmt.Sprint("map:", i)
		do(t, c, "SET "+key+" value", ok)
		batch = append(batch, pipeline("GET "+key, "GETEX "+key)...)
		answer = append(answer, bulk("value")+bulk("value")...)
	}
	got := make([]byte, len(answer))
	round := func() {
		if _, err := c.Write(batch); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c.Conn, got); err != nil || !bytes.Equal(got, answer) {
			t.Fatalf("%v, %q", err, got)
		}
	}
	for range 100 { // to its steady state
		round()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		round()
	}
	runtime.ReadMemStats(&after)
	// What runs beside, such as discovery and timers, allocates a little, whatever the number of commands.
	if n := after.Mallocs - before.Mallocs; n > depth*rounds/20 {
		t.Errorf("%d allocations for %d hits", n, depth*rounds)
	}
}

// quiet is an origin that keeps nothing of the hits that it is told of.
type quiet struct{ *origin }

func (*quiet) Mapped(key []byte) bool { return bytes.HasPrefix(key, []byte("map:")) }

func (*quiet) Hit([]byte) {}

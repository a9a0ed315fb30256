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

// Of the hits of mapped keys, whatever command they are of, the first and then one in sixteen is told, where somebody wants to know.
func TestASampleOfHitsIsTold(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	c := newRelay(t, o, redis.Addr()).connect(t)
	for i := range 6 {
		do(t, c, fmt.Sprint("SET map:", i, " v"), ok)
	}
	do(t, c, "SET other v", ok)
	v := bulk("v")
	round := func() { // six hits
		do(t, c, "GET map:0", v)
		do(t, c, "GETEX map:1", v)
		do(t, c, "GETEX map:2 PERSIST", v)
		do(t, c, "GET other", v)
		do(t, c, "MGET map:3 other map:missing map:4 map:3", array(v, v, bulk("loaded"), v, v))
		do(t, c, "GET map:missing", bulk("loaded"))
	}
	told := func() []string {
		o.mu.Lock()
		defer o.mu.Unlock()
		hits := o.hits
		o.hits = nil
		return hits
	}
	for range 4 {
		round()
	}
	if got := told(); len(got) > 0 {
		t.Errorf("nobody wants to know of %v", got)
	}
	o.refresh.Store(true)
	for range 8 { // 48
		round()
	}
	if got, want := told(), []string{"map:0", "map:4", "map:2"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
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

// Package rules holds the tests of what a proxy gets wrong in the corners: the order of a session's commands where they change
// connections, what states of a connection mean when many share one, and what a miss may not do behind the back of a client that
// watches, tracks or writes the same key. Each of them fails when the rule that it names is broken.
package rules

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wire "readthrough/internal/relay"
	"readthrough/internal/slot"
	"readthrough/resp"
	"readthrough/test/harness"
	"readthrough/test/inprocess"
	"readthrough/upstream"
)

func TestMain(m *testing.M) { harness.Main(m) }

// patience bounds what a test waits for.
const patience = 20 * time.Second

// relay is the relay within the test: one loop, and an origin that the test plays.
type relay struct{ *inprocess.Relay }

// newRelay starts a relay before Redis servers and waits until it knows them. It is stopped when the test ends. resolver may be nil.
func newRelay(t testing.TB, resolver resp.Resolver, addrs ...string) *relay {
	t.Helper()
	return newRelayWith(t, resolver, upstream.Options{Addresses: addrs})
}

// newRelayWith is newRelay with what else the upstream is told.
func newRelayWith(t testing.TB, resolver resp.Resolver, opts upstream.Options) *relay {
	t.Helper()
	r := &relay{inprocess.Start(t, opts, resolver)}
	r.connect(t).MustDo(t, "PING") // is held until Redis has been found
	return r
}

// connect opens a connection of a client.
func (r *relay) connect(t testing.TB) *harness.Conn {
	t.Helper()
	return harness.NewConn(t, r.Addr)
}

// connect3 is connect over RESP3.
func (r *relay) connect3(t testing.TB) *harness.Conn {
	t.Helper()
	c := r.connect(t)
	if got := c.MustDo(t, "HELLO", "3"); got[0] != '%' {
		t.Fatalf("HELLO 3: %q", got)
	}
	return c
}

// world is a Redis Cluster of three masters with a relay before it.
type world struct {
	*relay
	cluster *harness.Cluster
}

func newWorld(t testing.TB, resolver resp.Resolver, o harness.ClusterOptions) *world {
	t.Helper()
	cluster := harness.NewCluster(t, o)
	return &world{newRelay(t, resolver, cluster.Addrs()...), cluster}
}

// master is the node of a key.
func (w *world) master(t testing.TB, key string) *harness.Redis {
	t.Helper()
	node, err := w.cluster.MasterOf(t.Context(), int(slot.Of([]byte(key))))
	if err != nil {
		t.Fatal(err)
	}
	return node
}

// other is a master that does not have a key's slot.
func (w *world) other(t testing.TB, key string) *harness.Redis {
	t.Helper()
	masters, err := w.cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own := w.master(t, key)
	for _, m := range masters {
		if m != own {
			return m
		}
	}
	t.Fatal("there is one master")
	return nil
}

// keysOfAll returns a key for each master, with a prefix.
func (w *world) keysOfAll(t testing.TB, prefix string) []string {
	t.Helper()
	masters, err := w.cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, m := range masters {
		for i := 0; ; i++ {
			if key := fmt.Sprint(prefix, i); w.master(t, key) == m {
				keys = append(keys, key)
				break
			}
		}
	}
	return keys
}

// origin is a resolver in the hands of the test: keys that begin with "map:" are mapped, and have the value "loaded"; those with "none"
// behind it have no row, and of those with "err" the load fails.
type origin struct {
	asked   chan string // the keys that were asked for
	loads   atomic.Int64
	refresh atomic.Bool // hits are wanted

	mu    sync.Mutex
	redis func(key string) *harness.Redis // guarded by mu: where to fill; nil: nothing is filled
	gate  chan struct{}                   // guarded by mu: a load waits for it; nil: none does
	wrote map[string]bool                 // guarded by mu: the keys of which Forget was called
	calls []resolution                    // guarded by mu
	hits  []string                        // guarded by mu: those it was told of
}

// resolution is what an origin was asked at once.
type resolution struct {
	keys string // separated by spaces
	how  resp.How
}

// filledFor is the TTL in seconds of what is filled in.
const filledFor = 1000

// resolutions are those since it was asked last.
func (o *origin) resolutions() []resolution {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls := o.calls
	o.calls = nil
	return calls
}

func newOrigin() *origin { return &origin{asked: make(chan string, 1000)} }

// hold has the loads from now on wait until open is called.
func (o *origin) hold() (open func()) {
	gate := make(chan struct{})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gate = gate
	return func() { close(gate) }
}

// fill has values filled in from now on.
func (o *origin) fill(redis func(key string) *harness.Redis) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.redis = redis
}

func (o *origin) Mapped(key []byte) bool { return strings.HasPrefix(string(key), "map:") }

func (o *origin) Refreshes() bool { return o.refresh.Load() }

func (o *origin) Hit(key []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hits = append(o.hits, string(key))
}

func (o *origin) Forget(key []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wrote == nil {
		o.wrote = map[string]bool{}
	}
	o.wrote[string(key)] = true
}

// forgot tells whether Forget was called of a key since the last time.
func (o *origin) forgot(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.wrote[key]
	delete(o.wrote, key)
	return was
}

// forgotten is the number of keys of which Forget was called since the last time.
func (o *origin) forgotten() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.wrote)
	clear(o.wrote)
	return n
}

func (o *origin) Resolve(keys [][]byte, how resp.How, done func([]resp.Answer)) {
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = string(key)
	}
	o.mu.Lock()
	o.calls = append(o.calls, resolution{strings.Join(names, " "), how})
	o.mu.Unlock()
	go func() {
		answers := make([]resp.Answer, len(names))
		for i, key := range names {
			answers[i] = o.load(key, how == resp.WithLease)
		}
		done(answers)
	}()
}

func (o *origin) load(key string, fills bool) resp.Answer {
	o.loads.Add(1)
	o.mu.Lock()
	gate, redis := o.gate, o.redis
	o.mu.Unlock()
	o.asked <- key
	if gate != nil {
		<-gate
	}
	switch {
	case strings.HasPrefix(key, "map:none"):
		return resp.Answer{}
	case strings.HasPrefix(key, "map:err"):
		return resp.Answer{Err: wire.Error("ORIGINERR map m: " + key)}
	}
	if fills && redis != nil {
		if _, err := redis(key).Do(context.Background(), "SET", key, "loaded", "NX", "EX", strconv.Itoa(filledFor)); err != nil {
			return resp.Answer{Err: err}
		}
	}
	return resp.Answer{Value: []byte("loaded"), Found: true}
}

// pipeline is several commands in a row, their words separated by spaces.
func pipeline(commands ...string) []byte {
	var b []byte
	for _, c := range commands {
		b = append(b, harness.Command(strings.Fields(c)...)...)
	}
	return b
}

// send sends commands, their words separated by spaces.
func send(t testing.TB, c *harness.Conn, commands ...string) {
	t.Helper()
	if err := c.Send(pipeline(commands...)); err != nil {
		t.Fatal(err)
	}
}

// expect reads the next replies and compares them with what they must be.
func expect(t testing.TB, c *harness.Conn, want ...string) {
	t.Helper()
	for i, w := range want {
		got, err := c.ReadReply()
		if err != nil {
			t.Fatalf("reply %d: %v, want %q", i, err, w)
		}
		if string(got) != w {
			t.Fatalf("reply %d: %.300q, want %.300q", i, got, w)
		}
	}
}

// do sends a command, its words separated by spaces, and compares its reply.
func do(t testing.TB, c *harness.Conn, command, want string) {
	t.Helper()
	send(t, c, command)
	got, err := c.ReadReply()
	if err != nil || string(got) != want {
		t.Fatalf("%s: %.300q, %v, want %.300q", command, got, err, want)
	}
}

// silent fails the test if something comes before the reply to a PING.
func silent(t testing.TB, c *harness.Conn) {
	t.Helper()
	do(t, c, "PING silent", "$6\r\nsilent\r\n")
}

// poll waits until ready is nil.
func poll(t testing.TB, ready func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := harness.Poll(ctx, ready); err != nil {
		t.Fatal(err)
	}
}

// clientsOf counts the lines of a node's CLIENT LIST with a text in them.
func clientsOf(t testing.TB, node *harness.Redis, text string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(node.MustDo(t, "CLIENT", "LIST").Str) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// await waits until a node has so many clients with a text in their line of CLIENT LIST.
func await(t testing.TB, node *harness.Redis, text string, count int) {
	t.Helper()
	poll(t, func() error {
		if n := clientsOf(t, node, text); n != count {
			return fmt.Errorf("%d clients with %q, want %d:\n%s", n, text, count, node.MustDo(t, "CLIENT", "LIST").Str)
		}
		return nil
	})
}

// bulk is a bulk string's reply.
func bulk(value string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value) }

// read reads a reply or a push.
func read(t testing.TB, c *harness.Conn) string {
	t.Helper()
	got, err := c.ReadReply()
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

package origin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// static is a URL or password that does not change.
func static(s string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s, nil }
}

// define fills in what a test does not care about.
func define(d Definition) Definition {
	if d.Name == "" {
		d.Name = "m"
	}
	if d.TTL == 0 {
		d.TTL = time.Hour
	}
	if d.Timeout == 0 {
		d.Timeout = 10 * time.Second
	}
	return d
}

func mustCompile(t testing.TB, defs ...Definition) *Maps {
	t.Helper()
	for i := range defs {
		defs[i] = define(defs[i])
	}
	maps, err := Compile(defs)
	if err != nil {
		t.Fatal(err)
	}
	return maps
}

// newResolver makes a resolver with one database, and closes it with the test.
func newResolver(t testing.TB, db Database, opts Options, defs ...Definition) *Resolver {
	t.Helper()
	if db.Name == "" {
		db.Name = "main"
	}
	opts.Databases = []Database{db}
	opts.Maps = mustCompile(t, defs...)
	r, err := NewResolver(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// begin starts a GET.
func begin(r *Resolver, key string) <-chan Answer {
	answers := make(chan Answer, 1)
	buf := []byte(key)
	r.Resolve([][]byte{buf}, WithLease, func(a []Answer) { answers <- a[0] })
	clear(buf) // Resolve keeps nothing of it
	return answers
}

// await waits for an answer; none is an error of the test.
func await(t testing.TB, answers <-chan Answer) Answer {
	t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(30 * time.Second):
		t.Fatal("no answer in 30s")
		panic("unreachable")
	}
}

func get(t testing.TB, r *Resolver, key string) Answer {
	t.Helper()
	return await(t, begin(r, key))
}

// show puts an answer into a line: the value, nil, or the error.
func show(a Answer) string {
	var failure *Error
	switch {
	case errors.As(a.Err, &failure):
		return "-" + a.Err.Error()
	case a.Err != nil:
		return fmt.Sprintf("not an *Error: %v", a.Err)
	case !a.Found:
		return "nil"
	default:
		return string(a.Value)
	}
}

func expect(t testing.TB, r *Resolver, key, want string) {
	t.Helper()
	if got := show(get(t, r, key)); got != want {
		t.Errorf("GET %q:\n got %s\nwant %s", key, got, want)
	}
}

// eventually polls until ready says nil.
func eventually(t testing.TB, ready func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := harness.Poll(ctx, ready); err != nil {
		t.Fatal(err)
	}
}

// counts is an Observer that remembers. panics makes it panic at the end of a load.
type counts struct {
	panics bool

	mu         sync.Mutex
	loaded     map[Outcome]int
	filled     map[FillOutcome]int
	joined     int
	suppressed map[Code]int
	leased     map[LeaseOutcome]int
	renewed    map[RenewalOutcome]int
	again      int
}

func newCounts() *counts {
	return &counts{
		loaded: map[Outcome]int{}, filled: map[FillOutcome]int{}, suppressed: map[Code]int{},
		leased: map[LeaseOutcome]int{}, renewed: map[RenewalOutcome]int{},
	}
}

func (c *counts) Loaded(_ string, o Outcome, _ time.Duration) {
	if c.panics {
		panic("as the test wants it")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded[o]++
}

func (c *counts) Filled(_ string, o FillOutcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filled[o]++
}

func (c *counts) Leased(_ string, o LeaseOutcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leased[o]++
}

func (c *counts) Renewed(_ string, o RenewalOutcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewed[o]++
}

func (c *counts) StartedOver(_ string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.again += n
}

func (c *counts) Joined(string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined++
}

func (c *counts) Suppressed(_ string, code Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suppressed[code]++
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.loaded, c.filled, c.joined, c.suppressed, c.leased, c.again)
}

// wire is a TCP proxy in front of a server that counts what passes, and can stop passing it on.
type wire struct {
	net.Listener
	accepted atomic.Int64 // connections
	turns    atomic.Int64 // times that the client spoke after the server had: round trips
	stalled  chan struct{}

	mu   sync.Mutex
	open []net.Conn
}

func newWire(t testing.TB, server string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, stalled: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			w.accepted.Add(1)
			remote, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			w.mu.Lock()
			w.open = append(w.open, client, remote)
			w.mu.Unlock()
			var serverSpoke atomic.Bool
			serverSpoke.Store(true)
			running.Go(func() { w.pump(remote, client, func() bool { return serverSpoke.Swap(false) }) })
			running.Go(func() { w.pump(client, remote, func() bool { serverSpoke.Store(true); return false }) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		running.Wait()
	})
	return w
}

// cut closes all connections.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		_ = c.Close()
	}
}

func (w *wire) pump(to, from net.Conn, turn func() bool) {
	defer func() { _ = to.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-w.stalled:
			continue // swallowed: the network is gone, and nobody says so
		default:
		}
		if turn() {
			w.turns.Add(1)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

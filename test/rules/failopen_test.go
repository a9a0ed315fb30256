package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "readthrough/internal/relay"
	"readthrough/resp"
	"readthrough/test/harness"
	"readthrough/upstream"
)

// soon is how long an answer may take where the origin stands in for Redis: a quarter of a second, and what a loaded machine adds.
// Without that it would be three seconds.
const soon = 2 * time.Second

// within fails the test when a command's reply takes too long, and returns it.
func within(t testing.TB, c *harness.Conn, command string) string {
	t.Helper()
	before := time.Now()
	send(t, c, command)
	got := read(t, c)
	if took := time.Since(before); took > soon {
		t.Errorf("%s took %v", command, took)
	}
	return got
}

// failOpens is the number of keys that the origin was asked for since Redis did not answer.
func (r *relay) failOpens(t testing.TB) uint64 {
	t.Helper()
	got := make(chan uint64, 1)
	if !r.Loop.Post(func() { got <- r.Server.Stats(0).FailOpen }) {
		t.Fatal("the loop has stopped")
	}
	return <-got
}

// While a master is gone its mapped keys are answered by the origin, for clients of the sidecar's own user; and everything else as
// before. When it is back all is as it was.
func TestTheOriginStandsInForAMasterThatIsGone(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{RedisOptions: harness.RedisOptions{
		Config: []string{"user app on >secret ~* +@all", "cluster-require-full-coverage no"},
	}})
	o.fill(func(key string) *harness.Redis { return w.master(t, key) })
	all := w.keysOfAll(t, "map:k")
	gone, here := all[0], all[1]
	var besides string // unmapped, of the master that goes
	for _, key := range w.keysOfAll(t, "other") {
		if w.master(t, key) == w.master(t, gone) {
			besides = key
		}
	}
	c, own := w.connect(t), w.connect(t)
	do(t, own, "AUTH app secret", ok)
	do(t, c, "MGET "+strings.Join(all, " "), array(bulk("loaded"), bulk("loaded"), bulk("loaded")))
	do(t, c, "SET "+here+" hit", ok)
	do(t, own, "GET "+gone, bulk("loaded"))
	o.resolutions()

	dead := w.master(t, gone)
	dead.Kill()
	asked := []resolution{}
	for _, test := range []struct{ command, reply, keys string }{
		{"GET " + gone, bulk("loaded"), gone},
		{"GETEX " + gone + " EX 10", bulk("loaded"), gone},
		{"MGET " + gone + " " + here + " " + gone, array(bulk("loaded"), bulk("hit"), bulk("loaded")), gone},
		{"GET " + gone, bulk("loaded"), gone},
		{"MGET " + gone, array(bulk("loaded")), gone},
		{"GET " + here, bulk("hit"), ""},
	} {
		if got := within(t, c, test.command); got != test.reply {
			t.Errorf("%s: %q", test.command, got)
		}
		if test.keys != "" {
			asked = append(asked, resolution{test.keys, resp.FailOpen})
		}
	}
	if got := o.resolutions(); !slices.Equal(got, asked) {
		t.Errorf("the origin was asked %v, want %v", got, asked)
	}
	if got := w.failOpens(t); got != uint64(len(asked))+1 { // one twice in one command
		t.Errorf("it counts %d", got)
	}
	for _, command := range []string{"SET " + gone + " v", "GET " + besides, "MGET " + here + " " + gone + " " + besides, "STRLEN " + gone} {
		send(t, c, command)
		if got := read(t, c); !strings.HasPrefix(got, "-UPSTREAM") {
			t.Errorf("%s: %q", command, got)
		}
	}
	for _, command := range []string{"GET " + gone, "MGET " + here + " " + gone, "GETEX " + gone} {
		send(t, own, command)
		if got := read(t, own); !strings.HasPrefix(got, "-UPSTREAM") {
			t.Errorf("as its own user, %s: %q", command, got)
		}
	}
	if got := o.resolutions(); len(got) > 0 {
		t.Errorf("for these the origin was asked %v", got)
	}

	if err := dead.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		send(t, c, "SET "+besides+" v")
		if got := read(t, c); got != ok {
			return wire.Error(got)
		}
		return nil
	})
	o.resolutions()
	do(t, c, "GET "+gone, bulk("loaded"))
	do(t, c, "GET "+gone, bulk("loaded"))
	if got := o.resolutions(); !slices.Equal(got, []resolution{{gone, resp.WithLease}}) {
		t.Errorf("when it is back the origin was asked %v", got)
	}
}

// A cluster that says it is down is stood in for as well. A client that tracks its keys is told not to keep what Redis does not know of.
func TestTheOriginStandsInForAClusterThatIsDown(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{})
	c, tracks := w.connect(t), w.connect3(t)
	all := w.keysOfAll(t, "map:k")
	do(t, c, "MGET "+strings.Join(all, " "), array(bulk("loaded"), bulk("loaded"), bulk("loaded")))
	do(t, tracks, "CLIENT TRACKING ON", ok)
	gone, here := w.master(t, all[0]), w.master(t, all[1])
	gone.Kill()
	poll(t, func() error {
		if v, err := here.Do(t.Context(), "GET", all[1]); err == nil || !strings.Contains(err.Error(), "CLUSTERDOWN") {
			return fmt.Errorf("it answers %q, %w", v.Str, err)
		}
		return nil
	})
	o.resolutions()
	if got := within(t, c, "GET "+all[1]); got != bulk("loaded") {
		t.Errorf("GET: %q", got)
	}
	if got := within(t, c, "MGET "+all[1]+" map:none "+all[0]); got != array(bulk("loaded"), nulls[2], bulk("loaded")) {
		t.Errorf("MGET: %q", got)
	}
	const told = ">2\r\n$10\r\ninvalidate\r\n*1\r\n"
	send(t, tracks, "GET "+all[1], "MGET "+all[1]+" map:none{"+all[1]+"}")
	expect(t, tracks, bulk("loaded"), told+bulk(all[1]), array(bulk("loaded"), nulls[3]), told+bulk(all[1]))
	for _, x := range o.resolutions() {
		if x.how != resp.FailOpen {
			t.Errorf("the origin was asked %v", x)
		}
	}
}

// A slot that moves is no Redis that does not answer: keys on both sides are waited for, for as long as those that no map has.
func TestAMovingSlotIsWaitedFor(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{})
	o.fill(func(key string) *harness.Redis { return w.master(t, key) })
	c := w.connect(t)
	do(t, c, "MSET map:{k}1 one map:{k}2 two", ok)
	from := w.master(t, "map:{k}1")
	slot, err := w.cluster.Slot(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	nodes := w.cluster.Nodes()
	m, err := w.cluster.BeginMigration(t.Context(), slot, nodes[(slices.Index(nodes, from)+1)%len(nodes)])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.MoveKeys(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	send(t, c, "MGET map:{k}1 map:{k}2")
	began := time.Now()
	poll(t, func() error {
		if c.Pending() {
			t.Fatalf("after %v: %q", time.Since(began), read(t, c))
		}
		if time.Since(began) < time.Second { // the origin would be asked after a quarter of that
			return errors.New("it has not waited long enough")
		}
		return nil
	})
	if err := m.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, c, array(bulk("one"), bulk("two")))
	if got := o.resolutions(); len(got) > 0 {
		t.Errorf("the origin was asked %v", got)
	}
}

// An origin that does not stand in leaves the error as it is.
func TestAnOriginThatIsNotAskedSoMuchLeavesTheError(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := &busy{newOrigin()}
	r := newRelay(t, o, redis.Addr())
	c := r.connect(t)
	do(t, c, "SET map:k v", ok)
	redis.Kill()
	for _, command := range []string{"GET map:k", "MGET map:k map:l", "GETEX map:k"} {
		if got := within(t, c, command); !strings.HasPrefix(got, "-UPSTREAM") {
			t.Errorf("%s: %q", command, got)
		}
	}
}

// busy is an origin that does not stand in for Redis.
type busy struct{ *origin }

func (o *busy) Resolve(keys [][]byte, how resp.How, done func([]resp.Answer)) {
	if how != resp.FailOpen {
		o.origin.Resolve(keys, how, done)
		return
	}
	answers := make([]resp.Answer, len(keys))
	for i := range answers {
		answers[i].Err = wire.Error("ORIGINBUSY map m: none may run while Redis fails")
	}
	go done(answers)
}

// What a client has written is not passed over: while its write is on its way, its read is an error where Redis cannot answer it.
func TestTheOriginDoesNotAnswerBehindAWrite(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	r := newRelay(t, o, redis.Addr())
	c := r.connect(t)
	do(t, c, "PING", "+PONG\r\n")
	redis.Kill()
	send(t, c, "SET map:k mine", "GET map:k")
	for range 2 {
		if got := read(t, c); !strings.HasPrefix(got, "-UPSTREAM") {
			t.Errorf("%q", got)
		}
	}
	if got := o.resolutions(); len(got) > 0 {
		t.Errorf("the origin was asked %v", got)
	}
}

// A node that takes connections and says nothing is not waited for either, and its clients come back to it.
func TestTheOriginStandsInWhileAConnectionIsBeingMade(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	o := newOrigin()
	o.fill(func(string) *harness.Redis { return redis })
	r := newRelayWith(t, o, upstream.Options{Addresses: []string{redis.Addr()}, Silence: time.Second})
	c := r.connect3(t)
	if err := redis.Pause(); err != nil {
		t.Fatal(err)
	}
	resume := sync.OnceFunc(func() {
		if err := redis.Resume(); err != nil {
			t.Error(err)
		}
	})
	defer resume()
	before := time.Now()
	for range 10 { // only the first one waits
		if got := within(t, c, "GET map:k"); got != bulk("loaded") {
			t.Fatalf("%q", got)
		}
	}
	if took := time.Since(before); took > soon {
		t.Errorf("ten take %v", took)
	}
	send(t, c, "GET map:1", "MGET map:2 map:3", "GETEX map:4 EX 10")
	expect(t, c, bulk("loaded"), array(bulk("loaded"), bulk("loaded")), bulk("loaded"))
	for _, x := range o.resolutions() {
		if x.how != resp.FailOpen {
			t.Errorf("the origin was asked %v", x)
		}
	}
	resume()
	poll(t, func() error {
		send(t, c, "SET other v")
		if got := read(t, c); got != ok {
			return wire.Error(got)
		}
		return nil
	})
	do(t, c, "GET map:k", bulk("loaded"))
	do(t, c, "EXISTS map:k", ":1\r\n")
}

// A client reads on while all of Redis is gone, and after it, without a restart of anything but Redis.
func TestReadsGoOnWhileAllOfRedisIsGone(t *testing.T) {
	o := newOrigin()
	w := newWorld(t, o, harness.ClusterOptions{})
	o.fill(func(key string) *harness.Redis { return w.master(t, key) })
	c := w.connect(t)
	do(t, c, "PING", "+PONG\r\n")
	nodes := w.cluster.Nodes()
	for _, node := range nodes {
		node.Kill()
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); { // past the time after which commands fail at once
		if got := within(t, c, "GET map:k"); got != bulk("loaded") {
			t.Fatalf("%q", got)
		}
		if got := within(t, c, "MGET map:k map:1 map:none"); got != array(bulk("loaded"), bulk("loaded"), nulls[2]) {
			t.Fatalf("%q", got)
		}
		for len(o.asked) > 0 {
			<-o.asked
		}
	}
	for _, node := range nodes {
		if err := node.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	poll(t, func() error {
		send(t, c, "SET other v")
		if got := read(t, c); got != ok {
			return wire.Error(got)
		}
		return nil
	})
	do(t, c, "GET map:k", bulk("loaded"))
	if got := w.master(t, "map:k").MustDo(t, "GET", "map:k").Str; got != "loaded" {
		t.Errorf("Redis has %q", got)
	}
}

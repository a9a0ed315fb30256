package upstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/internal/lease"
	"readthrough/internal/slot"
)

// leaseTest is leases on a cluster, and one key of it at a time.
type leaseTest struct {
	*Leases
	t     *testing.T
	found *found
}

func newLeaseTest(t *testing.T, masters int) *leaseTest {
	t.Helper()
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", masters, 0)
	f := discover(t, &Options{Addresses: []string{nodes[0].addr()}})
	f.await(t)
	return &leaseTest{newLeases(f.clients, f.topology, f.Refresh), t, f}
}

// say runs a command on the node of a key and returns its reply as text; "" for null.
func (l *leaseTest) say(key string, args ...string) string {
	l.t.Helper()
	node, err := l.node([]byte(key))
	if err != nil {
		l.t.Fatal(err)
	}
	results, err := l.clients.get(node).do(l.t.Context(), args)
	if err != nil {
		l.t.Fatalf("%q: %v", args, err)
	}
	message, err := results[0].ToAny()
	if err != nil {
		return ""
	}
	return fmt.Sprint(message)
}

func leaseOf(key string) string {
	b, _ := lease.AppendKey(nil, []byte(key))
	return string(b)
}

// acquire asks for one key and tells the outcome in a word: that of the state, and the value of a hit.
func (l *leaseTest) acquire(key, token string) (string, lease.Grant) {
	a := l.Acquire(l.t.Context(), [][]byte{[]byte(key)}, token, time.Minute)[0]
	switch a.State {
	case lease.Hit:
		return "hit " + string(a.Value), a.Grant
	case lease.Failed:
		return a.Err.Error(), a.Grant
	}
	return [...]string{"failed", "hit", "missing", "wait", "granted"}[a.State], a.Grant
}

func (l *leaseTest) expect(what, got, want string) {
	l.t.Helper()
	if got != want {
		l.t.Fatalf("%s: %q, want %q", what, got, want)
	}
}

// fill fills in and tells whether that was accepted.
func (l *leaseTest) fill(f lease.Fill) string {
	l.t.Helper()
	accepted, errs := l.Fill(l.t.Context(), []lease.Fill{f})
	if errs[0] != nil {
		return errs[0].Error()
	}
	return strconv.FormatBool(accepted[0])
}

func TestLease(t *testing.T) {
	l := newLeaseTest(t, 3)
	const key = "usr:1"
	state, grant := l.acquire(key, "A")
	l.expect("the first", state, "granted")
	state, _ = l.acquire(key, "A")
	l.expect("the same token again", state, "granted")
	state, _ = l.acquire(key, "B")
	l.expect("another token", state, "wait")
	l.expect("the lease", l.say(key, "GET", leaseOf(key)), "tA")

	row := lease.Fill{Grant: grant, Value: []byte("v1"), Found: true, TTL: time.Minute}
	other := row
	other.Grant.Token = "B"
	l.expect("a fill without the right", l.fill(other), "false")
	l.expect("which left", l.say(key, "GET", key), "")
	l.expect("a fill", l.fill(row), "true")
	l.expect("the value", l.say(key, "GET", key), "v1")
	l.expect("the lease afterwards", l.say(key, "GET", leaseOf(key)), "")
	l.expect("the fill again", l.fill(row), "false")
	state, _ = l.acquire(key, "B")
	l.expect("an acquire of what is there", state, "hit v1")

	l.say(key, "DEL", key)
	_, grant = l.acquire(key, "C")
	row.Grant = grant
	l.say(key, "UNLINK", leaseOf(key)) // as a write does
	l.expect("a fill after a void", l.fill(row), "false")
	l.expect("which left", l.say(key, "GET", key), "")

	_, row.Grant = l.acquire(key, "D")
	l.say(key, "SET", key, "by somebody who goes round")
	l.expect("a fill of what is there", l.fill(row), "false")
	l.expect("which left", l.say(key, "GET", key), "by somebody who goes round")
	l.expect("a lease of no use", l.say(key, "GET", leaseOf(key)), "")

	l.say(key, "DEL", key)
	_, grant = l.acquire(key, "E")
	l.GiveBack(t.Context(), []lease.Grant{{Key: []byte(key), Token: "F", Node: grant.Node}})
	l.expect("a lease given back by another", l.say(key, "GET", leaseOf(key)), "tE")
	l.GiveBack(t.Context(), []lease.Grant{grant})
	l.expect("a lease given back", l.say(key, "GET", leaseOf(key)), "")
}

func TestLeaseRunsOut(t *testing.T) {
	l := newLeaseTest(t, 1)
	a := l.Acquire(t.Context(), [][]byte{[]byte("k")}, "A", 20*time.Millisecond)[0]
	eventually(t, 5*time.Second, "the lease ends", func() bool {
		state, _ := l.acquire("k", "B")
		return state == "granted"
	})
	l.expect("a late fill", l.fill(lease.Fill{Grant: a.Grant, Found: true, TTL: time.Minute}), "false")
}

func TestLeaseRemembersWhatIsMissing(t *testing.T) {
	l := newLeaseTest(t, 1)
	_, grant := l.acquire("k", "A")
	l.expect("a fill of nothing", l.fill(lease.Fill{Grant: grant, TTL: time.Minute, Missing: time.Minute}), "true")
	state, _ := l.acquire("k", "B")
	l.expect("an acquire", state, "missing")
	if left, _ := strconv.Atoi(l.say("k", "PTTL", leaseOf("k"))); left < 50_000 || left > 60_000 {
		t.Errorf("it is remembered for %d ms, want a minute", left)
	}
	l.say("k", "UNLINK", leaseOf("k"))
	_, grant = l.acquire("k", "C")
	l.expect("a fill of nothing that is not remembered", l.fill(lease.Fill{Grant: grant, TTL: time.Minute}), "true")
	l.expect("the lease", l.say("k", "EXISTS", leaseOf("k")), "0")
}

func TestLeaseOfManyKeys(t *testing.T) {
	l := newLeaseTest(t, 3)
	var keys [][]byte
	for i := range 50 {
		keys = append(keys, fmt.Appendf(nil, "k:%d", i))
	}
	l.say("k:7", "SET", "k:7", "there")
	l.say("k:8", "LPUSH", "k:8", "a list")
	l.acquire("k:9", "B")
	acquired := l.Acquire(t.Context(), keys, "A", time.Minute)
	var fills []lease.Fill
	for i, a := range acquired {
		want := lease.Granted
		switch i {
		case 7, 8:
			want = lease.Hit
		case 9:
			want = lease.Wait
		default:
			fills = append(fills, lease.Fill{Grant: a.Grant, Value: keys[i], Found: true, TTL: time.Minute})
		}
		if a.State != want || a.Err != nil {
			t.Errorf("%s: %v, %v, want %v", keys[i], a.State, a.Err, want)
		}
	}
	if string(acquired[7].Value) != "there" || acquired[8].Value != nil {
		t.Errorf("hits: %q, and of a list %q", acquired[7].Value, acquired[8].Value)
	}
	accepted, errs := l.Fill(t.Context(), fills)
	if slices.Contains(accepted, false) || errors.Join(errs...) != nil {
		t.Errorf("accepted %v, errors %v", accepted, errors.Join(errs...))
	}
	for i, a := range l.Acquire(t.Context(), keys, "C", time.Minute) {
		if i != 7 && i != 8 && i != 9 && (a.State != lease.Hit || !bytes.Equal(a.Value, keys[i])) {
			t.Errorf("%s: %v %q", keys[i], a.State, a.Value)
		}
	}
}

func TestRenewal(t *testing.T) {
	l := newLeaseTest(t, 1)
	const key = "k"
	renew := func(token string, lasts time.Duration) lease.Renewal {
		return l.Renew(t.Context(), []byte(key), token, lasts)
	}
	put := func(ttl, stale time.Duration) {
		t.Helper()
		l.say(key, "UNLINK", key, leaseOf(key))
		_, grant := l.acquire(key, "A")
		l.expect("fill", l.fill(lease.Fill{Grant: grant, Value: []byte("v1"), Found: true, TTL: ttl, Stale: stale}), "true")
	}
	if r := renew("B", time.Minute); r.State != lease.Missing {
		t.Errorf("of nothing: %+v", r)
	}
	l.say(key, "SET", key, "by the application")
	if r := renew("B", time.Minute); r.State != lease.Missing {
		t.Errorf("of what the application has set: %+v", r)
	}

	put(2*time.Minute, time.Minute)
	if r := renew("B", time.Minute); r.State != lease.Wait || r.Due < 50*time.Second || r.Due > time.Minute {
		t.Errorf("of what is fresh: %+v", r)
	}
	put(time.Minute, time.Minute-time.Millisecond) // fresh for a millisecond
	var r lease.Renewal
	eventually(t, 5*time.Second, "the value is past its time", func() bool {
		r = renew("B", time.Minute)
		return r.State == lease.Granted
	})
	if again := renew("B", time.Minute); again.State != lease.Granted || again.Fingerprint != r.Fingerprint {
		t.Errorf("the same token again: %+v", again)
	}
	if other := renew("C", time.Minute); other.State != lease.Wait {
		t.Errorf("while another one does: %+v", other)
	}
	state, _ := l.acquire(key, "D")
	l.expect("an acquire meanwhile", state, "hit v1")
	replace := func(f lease.Fill, fingerprint string) string {
		t.Helper()
		accepted, err := l.Replace(t.Context(), f, fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		return strconv.FormatBool(accepted)
	}
	newer := lease.Fill{Grant: r.Grant, Value: []byte("v2"), Found: true, TTL: time.Minute, Stale: time.Minute - time.Millisecond}
	wrong := newer
	wrong.Grant.Token = "C"
	l.expect("without the right", replace(wrong, r.Fingerprint), "false")
	l.expect("a replacement", replace(newer, r.Fingerprint), "true")
	l.expect("the value", l.say(key, "GET", key), "v2")
	l.expect("twice", replace(newer, r.Fingerprint), "false")

	// Between the two, somebody writes round all sidecars.
	eventually(t, 5*time.Second, "past its time", func() bool { r = renew("E", time.Minute); return r.State == lease.Granted })
	l.say(key, "SET", key, "newer", "KEEPTTL")
	newer.Grant = r.Grant
	l.expect("of another value", replace(newer, r.Fingerprint), "false")
	l.expect("which left", l.say(key, "GET", key), "newer")

	// The value was filled in between a void and the write that it led.
	put(time.Minute, time.Minute-time.Millisecond)
	l.say(key, "SET", key, "newer")
	eventually(t, 5*time.Second, "the mark is found out", func() bool { return renew("X", time.Minute).State == lease.Missing })
	l.expect("the mark", l.say(key, "EXISTS", leaseOf(key)), "0")

	// Somebody writes through a sidecar: the mark is gone.
	put(time.Minute, time.Minute-time.Millisecond)
	eventually(t, 5*time.Second, "past its time", func() bool { r = renew("F", time.Minute); return r.State == lease.Granted })
	l.say(key, "UNLINK", leaseOf(key))
	newer.Grant = r.Grant
	l.expect("after a void", replace(newer, r.Fingerprint), "false")

	// The row is gone.
	put(time.Minute, time.Minute-time.Millisecond)
	eventually(t, 5*time.Second, "past its time", func() bool { r = renew("G", 10*time.Millisecond); return r.State == lease.Granted })
	// Who renews is gone: another one may, after its time.
	eventually(t, 5*time.Second, "another one", func() bool { r = renew("H", time.Minute); return r.State == lease.Granted })
	l.expect("of no row", replace(lease.Fill{Grant: r.Grant, TTL: time.Minute, Missing: time.Minute}, r.Fingerprint), "true")
	l.expect("which left", l.say(key, "EXISTS", key), "0")
	state, _ = l.acquire(key, "I")
	l.expect("an acquire", state, "missing")
}

func TestLeaseErrors(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	cs := newClients(&Options{})
	t.Cleanup(cs.close)
	var topology *Topology
	var refreshed atomic.Int64
	l := newLeases(cs, func() *Topology { return topology }, func() { refreshed.Add(1) })
	acquire := func(key string) error {
		return l.Acquire(context.Background(), [][]byte{[]byte(key)}, "T", time.Minute)[0].Err
	}
	if err := acquire("k"); !errors.Is(err, errNoTopology) {
		t.Errorf("without a topology: %v", err)
	}
	topology = standalone(server.addr())
	if err := acquire("a}b"); !errors.Is(err, lease.ErrNone) {
		t.Errorf("of a key that can have none: %v", err)
	}
	server.cli("CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction")
	if err := acquire("secret-key"); !errors.Is(err, lease.ErrRefused) || !strings.Contains(err.Error(), "OOM") || strings.Contains(err.Error(), "secret") {
		t.Errorf("without memory: %v", err)
	}
	if refreshed.Load() != 0 {
		t.Error("OOM made a refresh")
	}
	server.cli("CONFIG", "SET", "maxmemory", "0")
	server.cli("REPLICAOF", "127.0.0.1", "1")
	if err := acquire("k"); !errors.Is(err, lease.ErrRefused) || refreshed.Load() != 1 {
		t.Errorf("on a replica: %v, %d refreshes", err, refreshed.Load())
	}
	server.cli("REPLICAOF", "NO", "ONE")
	for _, rights := range []string{"-eval -evalsha", "+eval +evalsha resetkeys ~k", "+@all ~* -set", "+set -unlink", "+unlink -get"} {
		server.cli(append([]string{"ACL", "SETUSER", "default"}, strings.Fields(rights)...)...)
		if err := acquire("k"); !errors.Is(err, lease.ErrRefused) || !strings.Contains(err.Error(), "~readthrough:lease:*") {
			t.Errorf("without a right (%s): %v", rights, err)
		}
	}
	server.stop()
	begun := time.Now()
	if err := acquire("k"); err == nil || errors.Is(err, lease.ErrRefused) || !strings.Contains(err.Error(), server.addr()) {
		t.Errorf("without Redis: %v", err)
	}
	if took := time.Since(begun); took > 2*leaseTimeout {
		t.Errorf("an acquire without Redis took %v", took)
	}
}

// An acquire goes where a redirect says; a fill does not, and neither waits for a slot that moves.
func TestLeasesAndRedirects(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 2, 0)
	f := discover(t, &Options{Addresses: []string{nodes[0].addr()}})
	wrong := *f.await(t)
	for i := range wrong.Slots {
		wrong.Slots[i] = 1 - wrong.Slots[i]
	}
	var refreshed atomic.Int64
	l := newLeases(f.clients, func() *Topology { return &wrong }, func() { refreshed.Add(1) })
	for i := range 10 {
		key := fmt.Appendf(nil, "k%d", i)
		owner, _ := f.topology().node(slot.Of(key))
		a := l.Acquire(t.Context(), [][]byte{key}, "T", time.Minute)[0]
		if a.State != lease.Granted || a.Grant.Node != owner.Addr {
			t.Fatalf("%s: %v by %s, %v, want it granted by %s", key, a.State, a.Grant.Node, a.Err, owner.Addr)
		}
		a.Grant.Node, _ = l.node(key)
		accepted, errs := l.Fill(t.Context(), []lease.Fill{{Grant: a.Grant, Found: true, TTL: time.Minute}})
		if accepted[0] || !errors.Is(errs[0], lease.ErrMoving) {
			t.Fatalf("%s: a fill at another node: %v, %v", key, accepted[0], errs[0])
		}
	}
	if refreshed.Load() != 20 {
		t.Errorf("%d refreshes for 20 redirects", refreshed.Load())
	}

	key := []byte("k")
	l = newLeases(f.clients, f.topology, f.Refresh)
	a := l.Acquire(t.Context(), [][]byte{key}, "T", time.Minute)[0]
	for from := range nodes {
		if nodes[from].addr() == a.Grant.Node {
			to := 1 - from
			number := strconv.Itoa(int(slot.Of(key)))
			nodes[to].cli("CLUSTER", "SETSLOT", number, "IMPORTING", nodes[from].cli("CLUSTER", "MYID"))
			nodes[from].cli("CLUSTER", "SETSLOT", number, "MIGRATING", nodes[to].cli("CLUSTER", "MYID"))
		}
	}
	if again := l.Acquire(t.Context(), [][]byte{key}, "U", time.Minute)[0]; !errors.Is(again.Err, lease.ErrMoving) {
		t.Errorf("an acquire in a slot that moves: %v, %v", again.State, again.Err)
	}
	accepted, errs := l.Fill(t.Context(), []lease.Fill{{Grant: a.Grant, Found: true, TTL: time.Minute}})
	if accepted[0] || !errors.Is(errs[0], lease.ErrMoving) {
		t.Errorf("a fill in a slot that moves: %v, %v", accepted[0], errs[0])
	}
}

// A fill whose caller has left is not sent again later: what it carries grows old.
func TestFillIsNotSentAfterItsDeadline(t *testing.T) {
	noLeaks(t)
	release := make(chan struct{})
	var fills atomic.Int64
	addr := fakeRedis(t, func(args []string) string {
		switch args[0] {
		case "HELLO":
			return "%1\r\n+proto\r\n:3\r\n"
		case "EVALSHA":
			fills.Add(1)
			<-release
		}
		return ""
	})
	cs := newClients(&Options{})
	l := newLeases(cs, func() *Topology { return standalone(addr) }, func() {})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, errs := l.Fill(ctx, []lease.Fill{{Grant: lease.Grant{Key: []byte("k"), Token: "T", Node: addr}, Found: true, TTL: time.Minute}})
	if !errors.Is(errs[0], context.DeadlineExceeded) {
		t.Errorf("error %v", errs[0])
	}
	close(release)
	eventually(t, 5*time.Second, "the call ends", func() bool { return len(cs.get(addr).places) == 0 })
	cs.close()
	if n := fills.Load(); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// store acquires a key and fills it in; stored is false where it has a value.
func store(l *Leases, key, value string) (stored bool, err error) {
	ctx := context.Background()
	switch a := l.Acquire(ctx, [][]byte{[]byte(key)}, rand.Text(), time.Minute)[0]; a.State {
	case lease.Granted:
		accepted, errs := l.Fill(ctx, []lease.Fill{{Grant: a.Grant, Value: []byte(value), Found: true, TTL: time.Minute}})
		return accepted[0], errs[0]
	default:
		return false, a.Err
	}
}

// fillEverySlot fills keys until each node was used.
func fillEverySlot(t *testing.T, l *Leases) {
	t.Helper()
	used := map[int16]bool{}
	for i := 0; len(used) < len(l.topology().Nodes); i++ {
		key := "key:" + strconv.Itoa(i)
		stored, err := store(l, key, "v")
		if err != nil || !stored {
			t.Fatalf("%s: stored %v, %v", key, stored, err)
		}
		used[l.topology().Slots[slot.Of([]byte(key))]] = true
	}
}

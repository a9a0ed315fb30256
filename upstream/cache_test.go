package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/internal/slot"
)

// fillEverySlot fills keys until each node was used.
func fillEverySlot(t *testing.T, cache *Cache) {
	t.Helper()
	used := map[int16]bool{}
	for i := 0; len(used) < len(cache.topology().Nodes); i++ {
		key := []byte("key:" + strconv.Itoa(i))
		stored, err := cache.Fill(context.Background(), key, []byte("v"), time.Minute)
		if err != nil || !stored {
			t.Fatalf("%s: stored %v, %v", key, stored, err)
		}
		used[cache.topology().Slots[slot.Of(key)]] = true
	}
}

func TestFill(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 3, 0)
	f := discover(t, &Options{Addresses: []string{nodes[0].addr()}})
	f.await(t)
	cache := newCache(f.clients, f.topology, f.Refresh)
	fillEverySlot(t, cache)

	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for name, pair := range map[string][2][]byte{
		"every byte":   {append([]byte("bytes:"), all...), all},
		"empty value":  {[]byte("empty"), {}},
		"nil value":    {[]byte("nil"), nil},
		"empty key":    {{}, []byte("v")},
		"like RESP":    {[]byte("*1\r\n$4\r\nPING\r\n"), []byte("$-1\r\n")},
		"like options": {[]byte("EX"), []byte("NX")},
		"a MiB":        {[]byte("large"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16)},
		"hash tag":     {[]byte("{tag}:a"), []byte("v")},
		"open brace":   {[]byte("{tag:a"), []byte("v")},
	} {
		t.Run(name, func(t *testing.T) {
			key, value := pair[0], pair[1]
			stored, err := cache.Fill(context.Background(), key, value, 90*time.Second)
			if err != nil || !stored {
				t.Fatalf("stored %v, %v", stored, err)
			}
			node, _ := f.topology().node(slot.Of(key))
			results, err := f.clients.get(node.Addr).do(context.Background(), []string{"GET", string(key)}, []string{"PTTL", string(key)})
			if err != nil {
				t.Fatal(err)
			}
			got, err := results[0].AsBytes()
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("read back %d bytes, %v, want %d", len(got), err, len(value))
			}
			if left, err := results[1].AsInt64(); err != nil || left <= 80_000 || left > 90_000 {
				t.Errorf("%d ms left, %v", left, err)
			}
			stored, err = cache.Fill(context.Background(), key, []byte("newer"), time.Minute)
			if err != nil || stored {
				t.Errorf("a key that exists: stored %v, %v", stored, err)
			}
		})
	}
}

func TestFillErrors(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	cs := newClients(&Options{})
	t.Cleanup(cs.close)
	var topology *Topology
	var refreshed atomic.Int64
	cache := newCache(cs, func() *Topology { return topology }, func() { refreshed.Add(1) })
	fill := func(ttl time.Duration) error {
		_, err := cache.Fill(context.Background(), []byte("secret-key"), []byte("secret-value"), ttl)
		return err
	}
	if err := fill(time.Second); !errors.Is(err, errNoTopology) {
		t.Errorf("without a topology: %v", err)
	}
	topology = standalone(server.addr())
	for _, ttl := range []time.Duration{0, -time.Second, time.Microsecond} {
		if err := fill(ttl); err == nil || !strings.Contains(err.Error(), "at least 1ms") {
			t.Errorf("ttl %v: %v", ttl, err)
		}
	}
	server.cli("CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction")
	err := fill(time.Second)
	if err == nil || !strings.Contains(err.Error(), "OOM") || strings.Contains(err.Error(), "secret") {
		t.Errorf("without memory: %v", err)
	}
	if refreshed.Load() != 0 {
		t.Error("OOM made a refresh")
	}
	server.cli("CONFIG", "SET", "maxmemory", "0")
	server.cli("REPLICAOF", "127.0.0.1", "1")
	if err := fill(time.Second); !hasCode(err, "READONLY") {
		t.Errorf("on a replica: %v", err)
	}
	if refreshed.Load() != 1 {
		t.Errorf("READONLY made %d refreshes", refreshed.Load())
	}
	server.stop()
	begun := time.Now()
	if err := fill(time.Second); err == nil || !strings.Contains(err.Error(), server.addr()) {
		t.Errorf("without Redis: %v", err)
	}
	if took := time.Since(begun); took > 2*fillTimeout {
		t.Errorf("a fill without Redis took %v", took)
	}
	if refreshed.Load() != 2 {
		t.Errorf("a lost node made %d refreshes", refreshed.Load()-1)
	}
	topology = &Topology{Cluster: true}
	for i := range topology.Slots {
		topology.Slots[i] = -1
	}
	if err := fill(time.Second); !errors.Is(err, errNoNode) {
		t.Errorf("without an owner: %v", err)
	}
}

// A value goes to the node whose slot it is in, and is never carried on by a redirect.
func TestFillFollowsNoRedirect(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 2, 0)
	f := discover(t, &Options{Addresses: []string{nodes[0].addr()}})
	wrong := *f.await(t)
	for i := range wrong.Slots {
		wrong.Slots[i] = 1 - wrong.Slots[i]
	}
	var refreshed atomic.Int64
	cache := newCache(f.clients, func() *Topology { return &wrong }, func() { refreshed.Add(1) })
	for i := range 10 {
		stored, err := cache.Fill(context.Background(), fmt.Appendf(nil, "k%d", i), []byte("v"), time.Minute)
		if stored || !hasCode(err, "MOVED") {
			t.Fatalf("stored %v, %v, want MOVED", stored, err)
		}
	}
	for _, n := range nodes {
		if size := n.cli("DBSIZE"); size != "0" {
			t.Errorf("%s holds %s keys", n.addr(), size)
		}
	}
	if refreshed.Load() != 10 {
		t.Errorf("%d refreshes for 10 redirects", refreshed.Load())
	}
}

// A fill whose caller has left is not sent again later: what it carries grows old.
func TestFillIsNotSentAfterItsDeadline(t *testing.T) {
	noLeaks(t)
	release := make(chan struct{})
	var sets atomic.Int64
	addr := fakeRedis(t, func(args []string) string {
		switch args[0] {
		case "HELLO":
			return "%1\r\n+proto\r\n:3\r\n"
		case "SET":
			sets.Add(1)
			<-release
		}
		return ""
	})
	cs := newClients(&Options{})
	cache := newCache(cs, func() *Topology { return standalone(addr) }, func() {})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := cache.Fill(ctx, []byte("k"), []byte("v"), time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	close(release)
	eventually(t, 5*time.Second, "the call ends", func() bool { return len(cs.get(addr).places) == 0 })
	cs.close()
	if n := sets.Load(); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

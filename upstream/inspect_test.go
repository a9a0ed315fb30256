package upstream

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"readthrough/internal/lease"
	"readthrough/internal/slot"
)

func TestInspect(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 3, 0)
	opts := &Options{Addresses: []string{nodes[2].addr()}}
	owner := func(key string) *redisServer { return nodes[int(slot.Of([]byte(key)))*3/16384] }
	owner("for-ever").cli("SET", "for-ever", "v")
	owner("a-list").cli("RPUSH", "a-list", "v")
	owner("a-list").cli("PEXPIRE", "a-list", "60000")

	for _, test := range []struct {
		key, typ string
		exists   bool
		ttl      time.Duration
	}{
		{"for-ever", "string", true, NoExpiry},
		{"a-list", "list", true, time.Minute},
		{"absent", "", false, 0},
	} {
		got, err := Inspect(context.Background(), opts, []byte(test.key))
		if err != nil {
			t.Fatal(err)
		}
		if got.Slot != int(slot.Of([]byte(test.key))) || got.Node != owner(test.key).addr() || got.Exists != test.exists || got.Type != test.typ {
			t.Errorf("%s: %+v", test.key, got)
		}
		if test.ttl > 0 && (got.TTL <= test.ttl-10*time.Second || got.TTL > test.ttl) || test.ttl <= 0 && got.TTL != test.ttl {
			t.Errorf("%s: TTL %v, want %v", test.key, got.TTL, test.ttl)
		}
	}

	for held, want := range map[string]LeaseState{
		"": LeaseNone, "ttoken": LeaseLoading, "m": LeaseMissing, "f1:0123": LeaseFilled, "r1:0123:token": LeaseRenewing,
	} {
		owner("absent").cli("DEL", leaseOf("absent"))
		if held != "" {
			owner("absent").cli("SET", leaseOf("absent"), held, "PX", "60000")
		}
		got, err := Inspect(context.Background(), opts, []byte("absent"))
		if err != nil || got.Lease.Err != nil || got.Lease.What != want || (got.Lease.Left > 50*time.Second) != (held != "") {
			t.Errorf("%q at the lease key: %+v, %v", held, got.Lease, err)
		}
	}
	if got, err := Inspect(context.Background(), opts, []byte("a}b")); err != nil || !errors.Is(got.Lease.Err, lease.ErrNone) {
		t.Errorf("a key that can have none: %+v, %v", got.Lease, err)
	}

	// A slot on its way: the key is at its new node already.
	const key = "a-list"
	from, to := owner(key), nodes[(int(slot.Of([]byte(key)))*3/16384+1)%3]
	s := strconv.Itoa(int(slot.Of([]byte(key))))
	to.cli("CLUSTER", "SETSLOT", s, "IMPORTING", from.cli("CLUSTER", "MYID"))
	from.cli("CLUSTER", "SETSLOT", s, "MIGRATING", to.cli("CLUSTER", "MYID"))
	from.cli("MIGRATE", to.host, strconv.Itoa(to.port), key, "0", "5000")
	got, err := Inspect(context.Background(), opts, []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	if got.Node != to.addr() || !got.Exists || got.Type != "list" {
		t.Errorf("a migrated key: %+v", got)
	}
}

func TestInspectErrors(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	server.cli("ACL", "SETUSER", "app", "on", ">pw", "~usr:*", "+type", "+pttl")
	opts := &Options{Addresses: []string{server.addr()}, Credentials: (&password{user: "app", text: "pw"}).credentials}
	if got, err := Inspect(context.Background(), opts, []byte("usr:1")); err != nil || got.Exists {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Inspect(context.Background(), opts, []byte("other")); !hasCode(err, "NOPERM") || !strings.Contains(err.Error(), server.addr()) {
		t.Errorf("error %v", err)
	}
	server.stop()
	if _, err := Inspect(context.Background(), opts, []byte("usr:1")); err == nil || !strings.Contains(err.Error(), "no Redis node answered") {
		t.Errorf("error %v", err)
	}
}

package rules

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/test/harness"
)

// A client that sends without end gets its share of each turn, and no more: between two of its turns the others have theirs.
func TestAGreedyClientGetsItsShare(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	greedy, modest := r.connect(t), r.connect(t)
	size := len(greedy.MustDo(t, "CLIENT", "ID"))
	var answered atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		commands := bytes.Repeat(harness.Command("CLIENT", "ID"), 50_000)
		for {
			if _, err := greedy.Write(commands); err != nil {
				return
			}
		}
	})
	wg.Go(func() {
		for buf := make([]byte, 1<<20); ; {
			n, err := greedy.Read(buf)
			if err != nil {
				return
			}
			answered.Add(int64(n / size))
		}
	})
	poll(t, func() error {
		if answered.Load() == 0 {
			return errors.New("it has not begun")
		}
		return nil
	})
	var between []int64 // commands of the greedy one, for each of the modest one
	for range 101 {
		before := answered.Load()
		do(t, modest, "CLIENT GETNAME", "$-1\r\n")
		between = append(between, answered.Load()-before)
	}
	_ = greedy.Close()
	wg.Wait()
	slices.Sort(between)
	if median := between[len(between)/2]; median == 0 || median > 20_000 {
		t.Errorf("%d commands of the greedy client for one of the modest: %d", median, between)
	}
}

// Passwords are checked on connections of their own, few at a time, and nobody waits for that who does not log in.
func TestLoginsAreLimited(t *testing.T) {
	const clients, most = 64, 16
	redis := harness.NewRedis(t, harness.RedisOptions{Config: []string{"user late on >secret ~* +@all"}})
	r := newRelay(t, nil, newLaggard(t, redis.Addr()))
	other := r.connect(t)
	do(t, other, "PING", "+PONG\r\n")
	var all []*harness.Conn
	for range clients {
		all = append(all, r.connect(t))
	}
	began := time.Now()
	for _, c := range all {
		send(t, c, "AUTH late secret", "GET none")
	}
	do(t, other, "PING", "+PONG\r\n")
	for _, c := range all {
		expect(t, c, ok, "$-1\r\n")
	}
	if since := time.Since(began); since < lag*(clients/most-1) {
		t.Errorf("%d logins took %v: more than %d at a time", clients, since, most)
	}
	// A wrong one leaves the client who it was.
	do(t, other, "AUTH late wrong", "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
	do(t, other, "ACL WHOAMI", bulk("default"))
	do(t, all[0], "ACL WHOAMI", bulk("late"))
}

// READONLY does not have replicas asked: what a replica lacks may be there.
func TestReadsGoToMastersInAnyMode(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{Replicas: 1})
	c := w.connect(t)
	do(t, c, "READONLY", ok)
	for _, key := range w.keysOfAll(t, "k") {
		send(t, c, "SET "+key+" v", "GET "+key)
		expect(t, c, ok, bulk("v"))
	}
	masters, err := w.cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range w.cluster.Nodes() {
		asked := strings.Contains(node.MustDo(t, "INFO", "commandstats").Str, "cmdstat_get:")
		if asked != slices.Contains(masters, node) {
			t.Errorf("node %s was asked: %v", node.Addr(), asked)
		}
	}
	do(t, c, "READWRITE", ok)
}

package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"readthrough/internal/slot"
)

func TestDiscoveryCluster(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 3, 1)
	dead := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t, "127.0.0.1")))
	f := discover(t, &Options{Addresses: []string{dead, "no-such-host.invalid:6379", nodes[4].addr()}}) // one lives, a replica
	got := f.await(t)
	if !got.Cluster || len(got.Nodes) != 3 {
		t.Fatalf("cluster %v with nodes %v, want 3 masters", got.Cluster, got.Nodes)
	}
	for i, n := range got.Nodes {
		if want := (Node{nodes[i].addr(), nodes[i].cli("CLUSTER", "MYID")}); n != want {
			t.Errorf("node %d is %+v, want %+v", i, n, want)
		}
	}
	for s := range slot.Count {
		if want := int16(slices.IndexFunc([]int{5461, 10922, 16384}, func(end int) bool { return s < end })); got.Slots[s] != want {
			t.Fatalf("slot %d at node %d, want %d", s, got.Slots[s], want)
		}
	}
	state := f.State()
	if state.Version != "7.0.15" && !strings.Contains(nodes[0].cli("INFO", "server"), "redis_version:"+state.Version) {
		t.Errorf("version %q", state.Version)
	}
	if state.LastError != nil || state.LastSuccess.IsZero() || !state.Topology.Equal(got) {
		t.Errorf("state %+v", state)
	}
	// The seeds are gone, the masters are not.
	nodes[4].stop()
	before := f.State().LastSuccess
	eventually(t, 5*time.Second, "a refresh without seeds", func() bool {
		f.Refresh()
		return f.State().LastSuccess.After(before)
	})
	if len(f.topologies) != 1 {
		t.Errorf("%d topologies published, want 1: nothing changed", len(f.topologies))
	}
}

func TestDiscoveryFailover(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 3, 1)
	f := discover(t, &Options{Addresses: []string{nodes[0].addr()}})
	f.await(t)
	nodes[0].stop() // the only seed
	eventually(t, 15*time.Second, "the replica serves the slots", func() bool {
		f.Refresh()
		n, ok := f.topology().node(0)
		return ok && n.Addr == nodes[3].addr()
	})
	if got := f.topology(); got.Nodes[0].Addr != nodes[3].addr() || len(got.Nodes) != 3 {
		t.Errorf("nodes %v: the promoted replica of the first slots should be the fixed node", got.Nodes)
	}
	// The old master comes back as a replica; nothing changes for us.
	nodes[0].start()
	eventually(t, 15*time.Second, "the old master follows the new one", func() bool {
		return strings.Contains(nodes[0].cli("INFO", "replication"), "role:slave")
	})
	before := f.State().LastSuccess
	eventually(t, 5*time.Second, "a refresh", func() bool {
		f.Refresh()
		return f.State().LastSuccess.After(before)
	})
	if n, _ := f.topology().node(0); n.Addr != nodes[3].addr() {
		t.Errorf("slot 0 at %v, want %s", n, nodes[3].addr())
	}
}

// A node that was cut off while the others moved on is not believed, even if it answers first. One that does not answer at all
// holds up nobody for long.
func TestSurveyPrefersTheLaterEpoch(t *testing.T) {
	noLeaks(t)
	cluster := func(state string, epoch int, owner string, wait func()) string {
		return fakeRedis(t, func(args []string) string {
			switch strings.Join(args, " ") {
			case "HELLO 3":
				return "%2\r\n+proto\r\n:3\r\n+version\r\n+7.0.0\r\n"
			case "HELLO":
				wait()
				return "%2\r\n+mode\r\n+cluster\r\n+version\r\n+7.0.0\r\n"
			case "CLUSTER INFO":
				info := fmt.Sprintf("txt:cluster_state:%s\r\ncluster_current_epoch:%d\r\n", state, epoch)
				return fmt.Sprintf("=%d\r\n%s\r\n", len(info), info)
			case "CLUSTER SLOTS":
				return "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n+127.0.0.1\r\n:7000\r\n" + bulk(owner)
			}
			return "-ERR unexpected " + args[0] + "\r\n"
		})
	}
	never := make(chan struct{})
	hung := cluster("ok", 10, "hung", func() { <-never })
	t.Cleanup(func() { close(never) })
	old, failing := cluster("ok", 7, "old", func() {}), cluster("fail", 9, "failing", func() {})
	current := cluster("ok", 8, "current", func() { <-time.After(askGrace / 4) })
	cs := newClients(&Options{Addresses: []string{old, failing, current, hung}})
	t.Cleanup(cs.close)
	for range 5 {
		begun := time.Now()
		v, err := survey(context.Background(), cs, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.topology.Nodes[0].ID; got != "current" {
			t.Fatalf("the view of %q was taken", got)
		}
		if took := time.Since(begun); took >= askTimeout {
			t.Errorf("a node that does not answer held the survey up for %v", took)
		}
	}
}

// Another cluster answers at the addresses of ours: the seeds know better.
func TestSurveyLeavesAForeignCluster(t *testing.T) {
	noLeaks(t)
	foreign, ours := startCluster(t, "127.0.0.1", 1, 0), startCluster(t, "127.0.0.1", 1, 0)
	cs := newClients(&Options{Addresses: []string{ours[0].addr()}})
	t.Cleanup(cs.close)
	known := &nodeView{topology: &Topology{Cluster: true, Nodes: []Node{{foreign[0].addr(), "an id of ours"}}}}
	v, err := survey(context.Background(), cs, known)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.topology.Nodes[0].Addr; got != ours[0].addr() {
		t.Errorf("took the view of %s, want that of %s", got, ours[0].addr())
	}
}

func TestDiscoveryStandalone(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	f := discover(t, &Options{Addresses: []string{fmt.Sprintf("localhost:%d", server.port)}, Database: 3, ClientName: "readthrough/ns/pod"})
	got := f.await(t)
	want := standalone(fmt.Sprintf("localhost:%d", server.port)) // as configured: a name is resolved for each connection
	if !got.Equal(want) {
		t.Errorf("topology %+v", got.Nodes)
	}
	if list := server.cli("CLIENT", "LIST"); !strings.Contains(list, "name=readthrough/ns/pod") || !strings.Contains(list, " db=3 ") {
		t.Errorf("client list: %s", list)
	}
	if errs := server.cli("INFO", "errorstats"); strings.Contains(errs, "errorstat_ERR") {
		t.Errorf("discovery made errors on a standalone Redis: %s", errs)
	}
}

func TestDiscoveryPrefersTheMaster(t *testing.T) {
	noLeaks(t)
	master := startRedis(t, "127.0.0.1")
	replica := startRedis(t, "127.0.0.1", "--replicaof", "127.0.0.1 "+strconv.Itoa(master.port))
	both := discover(t, &Options{Addresses: []string{replica.addr(), master.addr()}})
	if got := both.await(t).Nodes[0].Addr; got != master.addr() {
		t.Errorf("took %s, want the master %s", got, master.addr())
	}
	alone := discover(t, &Options{Addresses: []string{replica.addr()}})
	if got := alone.await(t).Nodes[0].Addr; got != replica.addr() {
		t.Errorf("took %s, want the replica, which is all there is", got)
	}
	// The roles change.
	replica.cli("REPLICAOF", "NO", "ONE")
	master.cli("REPLICAOF", replica.host, strconv.Itoa(replica.port))
	eventually(t, 5*time.Second, "the new master", func() bool {
		both.Refresh()
		return both.topology().Nodes[0].Addr == replica.addr()
	})
}

func TestDiscoveryWaitsForRedis(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	server.stop()
	f := discover(t, &Options{Addresses: []string{server.addr()}})
	eventually(t, 5*time.Second, "the failure shows", func() bool { return f.Err() != nil })
	if err := f.Err(); !strings.Contains(err.Error(), "no Redis node answered") || !strings.Contains(err.Error(), server.addr()) {
		t.Errorf("error %q", err)
	}
	server.start()
	eventually(t, 10*time.Second, "Redis is found", func() bool { return f.topology() != nil })
	if err := f.Err(); err != nil {
		t.Errorf("error %v after success", err)
	}
}

func TestDiscoveryRefusesSentinel(t *testing.T) {
	noLeaks(t)
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &redisServer{t: t, host: "127.0.0.1", port: freePort(t, "127.0.0.1")}
	s.args = []string{config, "--sentinel", "--port", strconv.Itoa(s.port), "--bind", s.host, "--dir", filepath.Dir(config)}
	s.start()
	f := discover(t, &Options{Addresses: []string{s.addr()}})
	eventually(t, 5*time.Second, "the error says so", func() bool {
		return f.Err() != nil && strings.Contains(f.Err().Error(), "is a Redis Sentinel: give the addresses of Redis nodes")
	})
}

func TestDiscoveryCoalesces(t *testing.T) {
	noLeaks(t)
	var asked atomic.Int64
	addr := fakeRedis(t, func(args []string) string {
		switch args[0] {
		case "HELLO":
			if len(args) == 1 {
				asked.Add(1)
			}
			return "%3\r\n+proto\r\n:3\r\n+mode\r\n+standalone\r\n+version\r\n+7.0.0\r\n"
		case "COMMAND":
			return "*1\r\n*6\r\n+get\r\n:2\r\n*0\r\n:1\r\n:1\r\n:1\r\n"
		}
		return "-ERR not here\r\n"
	})
	f := discover(t, &Options{Addresses: []string{addr}})
	f.await(t)
	end := time.After(time.Second)
	for asking := true; asking; {
		select {
		case <-end:
			asking = false
		default:
			f.Refresh()
		}
	}
	if n := asked.Load(); n < 3 || n > 1+1000/50 {
		t.Errorf("%d refreshes in a second of asking, want one every 50 to 150 ms", n)
	}
}

func TestDiscoveryIPv6(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "::1", 3, 0)
	f := discover(t, &Options{Addresses: []string{nodes[0].addr()}})
	got := f.await(t)
	for i, n := range got.Nodes {
		if n.Addr != nodes[i].addr() {
			t.Errorf("node %d at %s, want %s", i, n.Addr, nodes[i].addr())
		}
	}
	fillEverySlot(t, newLeases(f.clients, f.topology, f.Refresh))
}

func TestDiscoveryHostnames(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 3, 0, "--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname")
	f := discover(t, &Options{Addresses: []string{nodes[0].addr()}})
	eventually(t, 10*time.Second, "names spread", func() bool {
		f.Refresh()
		got := f.topology()
		return got != nil && !slices.ContainsFunc(got.Nodes, func(n Node) bool { return !strings.HasPrefix(n.Addr, "localhost:") })
	})
	fillEverySlot(t, newLeases(f.clients, f.topology, f.Refresh))
}

func TestDiscoveryUnknownEndpoint(t *testing.T) {
	noLeaks(t)
	nodes := startCluster(t, "127.0.0.1", 3, 0, "--cluster-preferred-endpoint-type", "unknown-endpoint")
	f := discover(t, &Options{Addresses: []string{fmt.Sprintf("localhost:%d", nodes[1].port)}})
	for i, n := range f.await(t).Nodes {
		if want := fmt.Sprintf("localhost:%d", nodes[i].port); n.Addr != want {
			t.Errorf("node %d at %s, want %s", i, n.Addr, want)
		}
	}
	fillEverySlot(t, newLeases(f.clients, f.topology, f.Refresh))
}

func TestDiscoveryTLS(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	cert, key := ca.issue(t, "server")
	var nodes []*redisServer
	plain := startRedis(t, "127.0.0.1") // its port becomes the TLS port of the real one
	plain.stop()
	s := startRedis(t, "127.0.0.1", "--tls-port", strconv.Itoa(plain.port), "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", ca.file, "--tls-auth-clients", "yes")
	nodes = append(nodes, s)
	var given atomic.Int64
	clientCert, clientKey := ca.issue(t, "client")
	opts := &Options{
		Addresses: []string{plain.addr()},
		TLS: func() (*tls.Config, error) {
			given.Add(1)
			pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
			return &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{pair}}, err
		},
	}
	f := discover(t, opts)
	f.await(t)
	leases := newLeases(f.clients, f.topology, f.Refresh)
	if _, err := store(leases, "k"); err != nil {
		t.Fatal(err)
	}
	before := given.Load()
	nodes[0].cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	if _, err := store(leases, "l"); err != nil {
		t.Fatal(err)
	}
	if given.Load() == before {
		t.Error("the TLS configuration was not asked for again")
	}
	stranger := newAuthority(t)
	bad := discover(t, &Options{Addresses: []string{plain.addr()}, TLS: func() (*tls.Config, error) {
		return &tls.Config{RootCAs: stranger.pool}, nil
	}})
	eventually(t, 5*time.Second, "the certificate is refused", func() bool {
		return bad.Err() != nil && strings.Contains(bad.Err().Error(), "TLS with "+plain.addr()) && strings.Contains(bad.Err().Error(), "unknown authority")
	})
	broken := discover(t, &Options{Addresses: []string{plain.addr()}, TLS: func() (*tls.Config, error) { return nil, errors.New("no such file") }})
	eventually(t, 5*time.Second, "the cause shows", func() bool {
		return broken.Err() != nil && strings.Contains(broken.Err().Error(), "no such file")
	})
}

var secretText = regexp.MustCompile(`hunter[12]`)

func TestDiscoveryAuthentication(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1", "--requirepass", "hunter2")
	none := discover(t, &Options{Addresses: []string{server.addr()}})
	eventually(t, 5*time.Second, "authentication is demanded", func() bool {
		return none.Err() != nil && strings.Contains(none.Err().Error(), "NOAUTH")
	})
	wrong := discover(t, &Options{Addresses: []string{server.addr()}, Credentials: (&password{text: "hunter22"}).credentials})
	eventually(t, 5*time.Second, "the password is refused", func() bool {
		return wrong.Err() != nil && strings.Contains(wrong.Err().Error(), "WRONGPASS")
	})
	if secretText.MatchString(wrong.Err().Error()) {
		t.Errorf("the error shows the password: %v", wrong.Err())
	}
	failing := discover(t, &Options{Addresses: []string{server.addr()}, Credentials: func(context.Context) (string, string, error) {
		return "", "", errors.New("file is gone")
	}})
	eventually(t, 5*time.Second, "the cause shows", func() bool {
		return failing.Err() != nil && strings.Contains(failing.Err().Error(), "Redis credentials: file is gone")
	})
	right := discover(t, &Options{Addresses: []string{server.addr()}, Credentials: (&password{text: "hunter2"}).credentials})
	right.await(t)
}

// Live connections get new credentials with the next refresh, and losing Redis is logged once.
func TestDiscoveryKeepsCredentialsFresh(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	server.cli("ACL", "SETUSER", "app", "on", ">hunter1", "+@all", "~*")
	pass := &password{user: "app", text: "hunter1"}
	core, logged := observer.New(zap.DebugLevel)
	f := discover(t, &Options{Addresses: []string{server.addr()}, Credentials: pass.credentials, Logger: zap.New(core)})
	f.await(t)
	server.cli("ACL", "SETUSER", "app", ">hunter2", "<hunter1")
	pass.set("hunter2")
	f.Refresh()
	eventually(t, 5*time.Second, "AUTH over the live connection", func() bool {
		return strings.Contains(server.cli("INFO", "commandstats"), "cmdstat_auth:calls=1,")
	})

	failures := func() int { return logged.FilterMessage("Redis topology unknown").Len() }
	server.stop()
	var last error
	for range 6 {
		eventually(t, 10*time.Second, "one more failure", func() bool {
			f.Refresh()
			return f.Err() != nil && f.Err() != last
		})
		last = f.Err()
	}
	if n := failures(); n < 1 || n > 2 { // the connection is lost, and then refused
		t.Errorf("6 failures were logged %d times", n)
	}
	for _, entry := range logged.All() {
		if text := fmt.Sprint(entry.Message, entry.ContextMap()); secretText.MatchString(text) {
			t.Errorf("the log shows a password: %s", text)
		}
	}
	if logged.FilterMessage("Redis topology").Len() != 1 {
		t.Errorf("the topology was not logged once: %v", logged.All())
	}
}

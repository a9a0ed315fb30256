package upstream

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/redcon"
	"go.uber.org/goleak"

	"readthrough/internal/command"
	"readthrough/internal/slot"
)

// noLeaks fails the test when goroutines are left after its cleanups. Call it first.
func noLeaks(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
}

// redisServer is a real redis-server of a test.
type redisServer struct {
	t    *testing.T
	host string
	port int
	args []string
	cmd  *exec.Cmd
}

// startRedis runs redis-server on a free port of host until the test ends.
func startRedis(t *testing.T, host string, args ...string) *redisServer {
	t.Helper()
	s := &redisServer{t: t, host: host, port: freePort(t, host)}
	s.args = append([]string{
		"--port", strconv.Itoa(s.port), "--bind", host, "--dir", t.TempDir(), "--save", "", "--logfile", "log",
	}, args...)
	s.start()
	return s
}

// start runs the server, again after stop.
func (s *redisServer) start() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", s.args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd := s.cmd
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	eventually(s.t, 5*time.Second, "redis-server listens", func() bool {
		conn, err := net.Dial("tcp", s.addr())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// stop kills the server.
func (s *redisServer) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func (s *redisServer) addr() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

// cli runs a command by redis-cli and returns what it prints. An error reply fails the test.
func (s *redisServer) cli(args ...string) string {
	s.t.Helper()
	out, err := exec.Command("redis-cli", append([]string{"-h", s.host, "-p", strconv.Itoa(s.port), "-e"}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("redis-cli %v at %s: %v: %s", args, s.addr(), err, out)
	}
	return strings.TrimSpace(string(out))
}

// startCluster runs a Redis Cluster of masters, each with replicas, that all agree on. The masters come first, in the order of
// their slots; master i has replica masters+i, masters+masters+i and so on.
func startCluster(t *testing.T, host string, masters, replicas int, args ...string) []*redisServer {
	t.Helper()
	var nodes []*redisServer
	for range masters * (1 + replicas) {
		nodes = append(nodes, startRedis(t, host, append([]string{
			"--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", strconv.Itoa(freePort(t, host)),
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
		}, args...)...))
	}
	for i, n := range nodes {
		n.cli("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i < masters {
			n.cli("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*16384/masters), strconv.Itoa((i+1)*16384/masters-1))
		}
		bus := n.args[slices.Index(n.args, "--cluster-port")+1]
		nodes[0].cli("CLUSTER", "MEET", host, strconv.Itoa(n.port), bus)
	}
	for i := masters; i < len(nodes); i++ {
		master := nodes[i%masters].cli("CLUSTER", "MYID")
		eventually(t, 10*time.Second, "replica knows its master", func() bool {
			return strings.Contains(nodes[i].cli("CLUSTER", "NODES"), master)
		})
		nodes[i].cli("CLUSTER", "REPLICATE", master)
	}
	eventually(t, 20*time.Second, "the cluster agrees", func() bool {
		for _, n := range nodes {
			view := n.cli("CLUSTER", "NODES")
			if !strings.Contains(n.cli("CLUSTER", "INFO"), "cluster_state:ok") ||
				strings.Count(view, " connected") != len(nodes) || strings.Count(view, "slave ") != masters*replicas {
				return false
			}
		}
		for _, n := range nodes[masters:] {
			if !strings.Contains(n.cli("INFO", "replication"), "master_link_status:up") {
				return false
			}
		}
		return true
	})
	if replicas > 0 {
		// CLUSTER SLOTS leaves out a replica until something was replicated to it.
		for i, n := range nodes[:masters] {
			key := 0
			for int(slot.Of([]byte(strconv.Itoa(key))))*masters/slot.Count != i {
				key++
			}
			n.cli("SET", strconv.Itoa(key), "")
			n.cli("DEL", strconv.Itoa(key))
		}
		eventually(t, 10*time.Second, "every node knows every replica", func() bool {
			for _, n := range nodes {
				slots := n.cli("CLUSTER", "SLOTS")
				for _, other := range nodes {
					if !strings.Contains(slots, strconv.Itoa(other.port)) {
						return false
					}
				}
			}
			return true
		})
	}
	return nodes
}

var givenPorts sync.Map // ports already given to a test: the system may offer one again before it is used

func freePort(t *testing.T, host string) int {
	t.Helper()
	for {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if _, given := givenPorts.LoadOrStore(port, true); !given {
			return port
		}
	}
}

// eventually polls until yes, and fails the test after a time.
func eventually(t *testing.T, within time.Duration, what string, yes func() bool) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// found is a running discovery and what it has published.
type found struct {
	*discovery
	clients *clients

	mu         sync.Mutex
	topologies []*Topology
	tables     []*command.Table
}

// discover runs a discovery until the test ends.
func discover(t *testing.T, opts *Options) *found {
	t.Helper()
	f := &found{clients: newClients(opts)}
	f.discovery = newDiscovery(f.clients, func(topology *Topology) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.topologies = append(f.topologies, topology)
	}, func(table *command.Table) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.tables = append(f.tables, table)
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		f.clients.close()
	})
	return f
}

// topology is the latest one, nil before the first.
func (f *found) topology() *Topology {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.topologies) == 0 {
		return nil
	}
	return f.topologies[len(f.topologies)-1]
}

func (f *found) table() *command.Table {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tables) == 0 {
		return nil
	}
	return f.tables[len(f.tables)-1]
}

// await waits for the first topology.
func (f *found) await(t *testing.T) *Topology {
	t.Helper()
	eventually(t, 5*time.Second, "a topology", func() bool { return f.topology() != nil })
	return f.topology()
}

// fakeRedis answers commands by a script, in RESP, until the test ends. An empty answer closes the connection.
func fakeRedis(t *testing.T, answer func(args []string) string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	serve := func(conn net.Conn) {
		defer conn.Close()
		rd := redcon.NewReader(conn)
		for {
			cmd, err := rd.ReadCommand()
			if err != nil {
				return
			}
			var args []string
			for _, a := range cmd.Args {
				args = append(args, string(a))
			}
			reply := answer(args)
			if reply == "" {
				return
			}
			if _, err := conn.Write([]byte(reply)); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[conn] = true
			mu.Unlock()
			wg.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// bulk is s as a RESP bulk string.
func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

// password is a credential that tests rotate.
type password struct {
	mu   sync.Mutex
	user string
	text string
}

func (p *password) set(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
}

func (p *password) credentials(context.Context) (user, text string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.user, p.text, nil
}

func readFile(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

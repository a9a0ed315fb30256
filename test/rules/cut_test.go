package rules

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"readthrough/resp"
	"readthrough/test/harness"
)

// cutter stands before a node of a cluster. Once it is told, it passes on only so much more of what the node says, until it cuts all
// connections.
type cutter struct {
	mu      sync.Mutex
	conns   []net.Conn    // guarded by mu
	left    int           // guarded by mu: bytes that may be passed on
	reached chan struct{} // guarded by mu: closed when there are more; nil: all are passed on
}

// newCutter has a cluster send its clients to a cutter in the place of node.
func newCutter(t *testing.T, cluster *harness.Cluster, node *harness.Redis) *cutter {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &cutter{}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", node.Addr())
			if err != nil {
				client.Close()
				continue
			}
			x.mu.Lock()
			x.conns = append(x.conns, client, server)
			x.mu.Unlock()
			running.Go(func() {
				_, _ = io.Copy(server, client)
				server.Close()
			})
			running.Go(func() {
				x.pass(client, server)
				client.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		x.cut()
		running.Wait()
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	node.MustDo(t, "CONFIG", "SET", "cluster-announce-port", port)
	masters, err := cluster.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	poll(t, func() error {
		for _, m := range masters {
			if v := m.MustDo(t, "CLUSTER", "NODES"); !strings.Contains(v.Str, ":"+port+"@") {
				return fmt.Errorf("%s has not heard of the port", m.Addr())
			}
		}
		return nil
	})
	return x
}

// pass passes on what a node says.
func (x *cutter) pass(client, server net.Conn) {
	b := make([]byte, 8<<10)
	for {
		n, err := server.Read(b)
		if err != nil {
			return
		}
		if !x.may(n) {
			_, _ = io.Copy(io.Discard, server) // until it is cut
			return
		}
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}

// may tells whether n bytes more may be passed on.
func (x *cutter) may(n int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.reached == nil {
		return true
	}
	if x.left >= 0 && x.left < n {
		close(x.reached)
	}
	x.left -= n
	return x.left >= 0
}

// limit has the cutter pass on n bytes more, and tells when there are more than that.
func (x *cutter) limit(n int) (reached <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.left, x.reached = n, make(chan struct{})
	return x.reached
}

// cut cuts all connections, and passes on everything from then on.
func (x *cutter) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reached = nil
	for _, conn := range x.conns {
		conn.Close()
	}
	x.conns = nil
}

// An MGET whose connection to one node is lost in the middle of that one's reply is answered by the origin, unless elements of it have been
// looked at already: then it ends the session, and nothing else.
func TestAnMGETWhoseConnectionIsLostWithinAReply(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	w := &world{cluster: cluster}
	all := w.keysOfAll(t, "")
	a, b := "map:{"+all[0]+"}", "map:{"+all[1]+"}"
	whole, broken := w.master(t, a), w.master(t, b)
	x := newCutter(t, cluster, broken)
	const enough = 64 << 10 // to have a reply passed on in parts
	large := strings.Repeat("x", 1<<20)
	broken.MustDo(t, "SET", b+"1", "hit")
	broken.MustDo(t, "SET", b+"2", large)
	command := "MGET " + a + "0 " + b + "1 " + b + "2"
	for i := range 6 {
		whole.MustDo(t, "SET", fmt.Sprint(a, "large", i), large)
	}
	o := newOrigin()
	w.relay = newRelay(t, o, whole.Addr())
	c, other := w.connect(t), w.connect(t)
	do(t, c, "GET "+b+"1", bulk("hit"))

	reached := x.limit(enough)
	send(t, c, command)
	<-reached
	x.cut()
	loaded := bulk("loaded")
	expect(t, c, array(loaded, loaded, loaded))
	if got, want := o.resolutions(), []resolution{{a + "0", resp.WithLease}, {b + "1 " + b + "2", resp.FailOpen}}; !slices.Equal(got, want) {
		t.Errorf("the origin was asked %v, want %v", got, want)
	}
	for len(o.asked) > 0 {
		<-o.asked
	}

	// So much comes of the others that the reply has to begin, while the origin is asked for the first key.
	poll(t, func() error {
		send(t, other, "STRLEN "+b+"1")
		if got := read(t, other); got != ":3\r\n" {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	open := o.hold()
	defer open()
	if err := whole.Pause(); err != nil {
		t.Fatal(err)
	}
	reached = x.limit(enough)
	for i := range 6 {
		command += fmt.Sprint(" ", a, "large", i)
	}
	send(t, c, command)
	<-reached
	for range 2 { // turns of the loop, in the first of which at the latest it reads what has been passed on
		other.MustDo(t, "CLIENT", "ID")
	}
	if err := whole.Resume(); err != nil {
		t.Fatal(err)
	}
	<-o.asked
	x.cut()
	if got, err := c.ReadReply(); err == nil {
		t.Errorf("%.100q", got)
	}
	do(t, other, "GET "+a+"large0", bulk(large))
	if got, want := o.resolutions(), []resolution{{a + "0", resp.WithLease}}; !slices.Equal(got, want) {
		t.Errorf("the origin was asked %v, want %v", got, want)
	}
}

package upstream

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"readthrough/internal/loop"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// nodes are two scripted masters, a and b, each with half of the slots.
type nodes struct {
	mu     sync.Mutex
	log    []string                          // guarded by mu: the commands, as "a UNLINK {k}l"
	script func(node, command string) string // guarded by mu
	addrs  map[string]string                 // guarded by mu
}

// newNodes starts a lane before scripted nodes. A script answers OK to what it returns "-" for.
func newNodes(t *testing.T) (*nodes, *loop.Loop, relay.Lane) {
	t.Helper()
	n := &nodes{addrs: map[string]string{}}
	for _, name := range []string{"a", "b"} {
		addr := fakeRedis(t, func(args []string) string { return n.answer(name, args) })
		n.mu.Lock()
		n.addrs[name] = addr
		n.mu.Unlock()
	}
	l, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	u, err := New(Options{Addresses: []string{n.addrs["a"]}}, []*loop.Loop{l})
	if err != nil {
		t.Fatal(err)
	}
	u.Start()
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		u.Close()
	})
	eventually(t, 5*time.Second, "a topology", func() bool { return u.State().Topology != nil })
	lanes := make(chan relay.Lane, 1)
	l.Post(func() {
		lane, err := u.Side(0).Lane(relay.Identity{Protocol: 2})
		if err != nil {
			t.Error(err)
		}
		lanes <- lane
	})
	return n, l, <-lanes
}

func (n *nodes) answer(name string, args []string) string {
	command := strings.Join(args, " ")
	switch command {
	case "HELLO 3":
		return "%2\r\n+proto\r\n:3\r\n+version\r\n+7.0.0\r\n"
	case "HELLO":
		return "%2\r\n+mode\r\n+cluster\r\n+version\r\n+7.0.0\r\n"
	case "CLUSTER INFO":
		info := "txt:cluster_state:ok\r\ncluster_current_epoch:1\r\n"
		return fmt.Sprintf("=%d\r\n%s\r\n", len(info), info)
	case "CLUSTER SLOTS":
		n.mu.Lock()
		defer n.mu.Unlock()
		reply := "*2\r\n"
		for i, name := range []string{"a", "b"} {
			_, port, _ := strings.Cut(n.addrs[name], ":")
			reply += fmt.Sprintf("*3\r\n:%d\r\n:%d\r\n*3\r\n+127.0.0.1\r\n:%s\r\n%s", i*8192, i*8192+8191, port, bulk(name))
		}
		return reply
	case "COMMAND", "PING":
		return "-ERR not here\r\n"
	}
	if args[0] == "CLIENT" {
		return "+OK\r\n"
	}
	n.mu.Lock()
	n.log = append(n.log, name+" "+command)
	script := n.script
	n.mu.Unlock()
	if reply := script(name, command); reply != "-" {
		return n.expand(reply)
	}
	return "+OK\r\n"
}

// expand puts the nodes' addresses in redirects.
func (n *nodes) expand(reply string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.NewReplacer("@a", n.addrs["a"], "@b", n.addrs["b"]).Replace(reply)
}

// run begins a script, and an empty log.
func (n *nodes) run(script func(node, command string) string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log, n.script = nil, script
}

func (n *nodes) commands() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

// outcome is what a request has come to.
type outcome struct {
	reply, raw, refused string
	err                 error
}

// sent is the sink of a request that a test sends.
type sent struct {
	relay.Request
	owner relay.Owner
	reply []byte
	done  chan outcome
}

func (s *sent) Reply(r *relay.Request, b []byte, last bool) bool {
	s.reply = append(s.reply, b...)
	if last {
		s.done <- outcome{reply: string(s.reply), raw: string(r.Raw), refused: string(r.Refused)}
	}
	return true
}

func (s *sent) Fail(_ *relay.Request, err error) { s.done <- outcome{err: err} }

// sentTo is a request for a slot.
func sentTo(t *testing.T, at int) *sent {
	s := &sent{done: make(chan outcome, 1)}
	s.owner.Kill = func(reason string) { t.Errorf("killed: %s", reason) }
	s.Sink, s.Owner, s.Slot = s, &s.owner, at
	return s
}

// gated is how many requests hold the session back.
func (s *sent) gated(l *loop.Loop) int {
	n := make(chan int, 1)
	l.Post(func() { n <- s.owner.Gated })
	return <-n
}

// write sends a write led by a void.
func write(t *testing.T, l *loop.Loop, lane relay.Lane, void, command string) *sent {
	t.Helper()
	lead := appendCommand(nil, strings.Fields(void)...)
	s := sentTo(t, int(slot.Of([]byte("k"))))
	s.Lead = len(lead)
	l.Post(func() { lane.Send(&s.Request, appendCommand(lead, strings.Fields(command)...)) })
	return s
}

func (s *sent) await(t *testing.T) outcome {
	t.Helper()
	select {
	case o := <-s.done:
		return o
	case <-time.After(20 * time.Second):
		t.Fatal("no reply")
		return outcome{}
	}
}

// counting has a script answer the n-th time that a node gets a command, from 1.
func counting(script func(at string, n int) string) func(node, command string) string {
	seen := map[string]int{}
	var mu sync.Mutex
	return func(node, command string) string {
		mu.Lock()
		defer mu.Unlock()
		at := node + " " + command
		seen[at]++
		return script(at, seen[at])
	}
}

// A void and its write are one: both go to a node together, again from the void on wherever the write is sent again, and the client hears
// of the write alone, when its void is done.
func TestVoidsLeadTheirWrites(t *testing.T) {
	noLeaks(t)
	n, l, lane := newNodes(t)
	for name, test := range map[string]struct {
		void    string // "UNLINK {k}l" unless given
		script  func(at string, n int) string
		log     []string
		reply   string // "+OK\r\n" unless given
		refused string
		err     string
	}{
		"as it should be": {
			script: func(string, int) string { return ":1\r\n" },
			log:    []string{"a UNLINK {k}l", "a SET k v"}, reply: ":1\r\n",
		},
		"the slot has moved": {
			script: func(at string, _ int) string {
				switch at {
				case "a UNLINK {k}l", "a SET k v":
					return "-MOVED 7629 @b\r\n"
				case "b UNLINK {k}l":
					return ":0\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "b UNLINK {k}l", "b SET k v"},
		},
		"both keys are at the target": {
			script: func(at string, _ int) string {
				switch at {
				case "a UNLINK {k}l", "a SET k v":
					return "-ASK 7629 @b\r\n"
				case "b UNLINK {k}l":
					return ":0\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "b ASKING", "b UNLINK {k}l", "b ASKING", "b SET k v"},
		},
		"the lease key alone is at the source": {
			script: func(at string, _ int) string {
				switch at {
				case "a SET k v":
					return "-ASK 7629 @b\r\n"
				case "a UNLINK {k}l", "b UNLINK {k}l":
					return ":1\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "b ASKING", "b UNLINK {k}l", "b ASKING", "b SET k v"},
		},
		"the lease key alone is at the target": {
			script: func(at string, _ int) string {
				switch at {
				case "a UNLINK {k}l":
					return "-ASK 7629 @b\r\n"
				case "b UNLINK {k}l":
					return ":1\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "a UNLINK {k}l", "b ASKING", "b UNLINK {k}l"},
		},
		"the lease keys are on both": {
			void: "UNLINK {k}l {k}m",
			script: func(at string, _ int) string {
				switch at {
				case "a UNLINK {k}l {k}m":
					return "-TRYAGAIN Multiple keys\r\n"
				case "a UNLINK {k}m":
					return "-ASK 7629 @b\r\n"
				case "a UNLINK {k}l", "b UNLINK {k}m":
					return ":1\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l {k}m", "a SET k v", "a UNLINK {k}l", "a UNLINK {k}m", "b ASKING", "b UNLINK {k}m"},
		},
		"the source, after a while": {
			script: func(at string, n int) string {
				switch {
				case at == "a SET k v" && n == 1:
					return "-TRYAGAIN Multiple keys\r\n"
				case strings.HasSuffix(at, "UNLINK {k}l"):
					return ":0\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "a UNLINK {k}l", "a SET k v"},
		},
		"the target, after a while": {
			script: func(at string, n int) string {
				switch {
				case at == "a UNLINK {k}l", at == "a SET k v":
					return "-ASK 7629 @b\r\n"
				case at == "b SET k v" && n == 1:
					return "-TRYAGAIN Multiple keys\r\n"
				case at == "b UNLINK {k}l":
					return ":0\r\n"
				}
				return "-"
			},
			log: []string{
				"a UNLINK {k}l", "a SET k v", "b ASKING", "b UNLINK {k}l", "b ASKING", "b SET k v",
				"a UNLINK {k}l", "a SET k v", "b ASKING", "b UNLINK {k}l", "b ASKING", "b SET k v",
			},
		},
		"the node was busy when the void came": {
			script: func(at string, n int) string {
				switch {
				case at == "a UNLINK {k}l" && n < 3:
					return "-BUSY Redis is busy running a script\r\n"
				case at == "a UNLINK {k}l":
					return ":1\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "a UNLINK {k}l", "a UNLINK {k}l"},
		},
		"a script that failed in the middle": {
			script: func(at string, n int) string {
				switch {
				case at == "a UNLINK {k}l" && n == 1:
					return "-BUSY Redis is busy running a script\r\n"
				case at == "a UNLINK {k}l":
					return ":1\r\n"
				}
				return "-ERR failed\r\n"
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "a UNLINK {k}l"}, reply: "-ERR failed\r\n",
		},
		"a user without the right": {
			script: func(at string, _ int) string {
				if at == "a UNLINK {k}l" {
					return "-NOPERM no\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l", "a SET k v"}, refused: "-NOPERM no\r\n",
		},
		"a right that is lost meanwhile": {
			script: func(at string, n int) string {
				switch {
				case at == "a UNLINK {k}l" && n == 1:
					return "-LOADING\r\n"
				case at == "a UNLINK {k}l":
					return "-NOPERM no\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "a UNLINK {k}l"}, refused: "-NOPERM no\r\n",
		},
		"the connection is lost with the void's reply": {
			script: func(at string, _ int) string {
				if at == "a UNLINK {k}l" {
					return ""
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l"}, err: "UPSTREAMLOST",
		},
		"the connection is lost behind it": {
			script: func(at string, _ int) string {
				if at == "a UNLINK {k}l" {
					return ":1\r\n"
				}
				return ""
			},
			log: []string{"a UNLINK {k}l", "a SET k v"}, err: "UPSTREAMLOST",
		},
		"the connection is lost while it is settled": {
			script: func(at string, n int) string {
				switch {
				case at == "a UNLINK {k}l" && n == 1:
					return "-TRYAGAIN Multiple keys\r\n"
				case at == "a UNLINK {k}l" && n == 2:
					return ""
				case at == "a UNLINK {k}l":
					return ":1\r\n"
				}
				return "-"
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "a UNLINK {k}l", "a UNLINK {k}l"},
		},
		"it does not settle": {
			script: func(at string, _ int) string {
				if at == "a UNLINK {k}l" {
					return "-TRYAGAIN Multiple keys\r\n"
				}
				return "-"
			},
			err: "ERR the command ran, but a value that was loaded before it may still be read, since the lease of its key could not be removed: TRYAGAIN",
		},
		"a large reply": {
			script: func(at string, n int) string {
				switch {
				case at == "a UNLINK {k}l" && n == 1:
					return "-TRYAGAIN Multiple keys\r\n"
				case at == "a UNLINK {k}l":
					return ":1\r\n"
				}
				return bulk(strings.Repeat("x", 300<<10))
			},
			log: []string{"a UNLINK {k}l", "a SET k v", "a UNLINK {k}l"}, reply: bulk(strings.Repeat("x", 300<<10)),
		},
		"a reply that is too large to be kept": {
			script: func(at string, n int) string {
				if at == "a UNLINK {k}l" {
					return "-TRYAGAIN Multiple keys\r\n"
				}
				return bulk(strings.Repeat("x", 3<<20))
			},
			err: "ERR the command ran, but",
		},
	} {
		t.Run(name, func(t *testing.T) {
			n.run(counting(test.script))
			void, reply := test.void, test.reply
			if void == "" {
				void = "UNLINK {k}l"
			}
			if reply == "" && test.err == "" {
				reply = "+OK\r\n"
			}
			s := write(t, l, lane, void, "SET k v")
			o := s.await(t)
			if o.reply != reply || o.refused != test.refused || fmt.Sprint(o.err)[:min(len(fmt.Sprint(o.err)), len(test.err))] != test.err || test.err == "" && o.err != nil {
				t.Errorf("%.200q, refused %q, %v", o.reply, o.refused, o.err)
			}
			if want := appendCommand(nil, "SET", "k", "v"); o.err == nil && !bytes.Equal([]byte(o.raw), want) {
				t.Errorf("the sink sees %q", o.raw)
			}
			// The log is whole when the reply is there: nothing is acknowledged before.
			if got := n.commands(); test.log != nil && !slices.Equal(got, test.log) {
				t.Errorf("the nodes got %.2000q, want %q", got, test.log)
			}
			// What follows finds everything in its place.
			n.run(func(string, string) string { return ":7\r\n" })
			for range 2 {
				if o := write(t, l, lane, "UNLINK {k}l", "INCR k").await(t); o.reply != ":7\r\n" {
					t.Errorf("after it: %.200q, %v", o.reply, o.err)
				}
			}
			// A void may be on its way still whose write has failed.
			eventually(t, 5*time.Second, "that its session is not held back", func() bool { return s.gated(l) == 0 })
			n.home(t, l, lane)
		})
	}
}

// What was not written yet when there was no way to its node goes there with its void, once there is one.
func TestVoidsWaitWithTheirWrites(t *testing.T) {
	noLeaks(t)
	n, l, lane := newNodes(t)
	n.mu.Lock()
	b := n.addrs["b"]
	n.addrs["b"] = fmt.Sprint("127.0.0.1:", freePort(t, "127.0.0.1"))
	gone := n.addrs["b"]
	n.mu.Unlock()
	n.run(func(_, command string) string {
		if command == "UNLINK {k}l" {
			return ":1\r\n"
		}
		return "-"
	})
	owner := func() string {
		addr := make(chan string, 1)
		l.Post(func() {
			refresh(lane)
			addr <- lane.Node(9000)
		})
		return <-addr
	}
	eventually(t, 5*time.Second, "a node that cannot be reached", func() bool { return owner() == gone })
	s := sentTo(t, 9000)
	lead := appendCommand(nil, "UNLINK", "{k}l")
	s.Lead = len(lead)
	l.Post(func() { lane.Send(&s.Request, appendCommand(lead, "SET", "k", "v")) })
	eventually(t, 5*time.Second, "an attempt to reach it", func() bool { return s.gated(l) > 0 })
	n.mu.Lock()
	n.addrs["b"] = b
	n.mu.Unlock()
	eventually(t, 5*time.Second, "the node's new address", func() bool { return owner() == b })
	if o := s.await(t); o.reply != "+OK\r\n" {
		t.Errorf("%q, %v", o.reply, o.err)
	}
	if got := n.commands(); !slices.Equal(got, []string{"b UNLINK {k}l", "b SET k v"}) {
		t.Errorf("the nodes got %q", got)
	}
}

// home has the first slots be a's again.
func (n *nodes) home(t *testing.T, l *loop.Loop, lane relay.Lane) {
	t.Helper()
	n.run(func(node, _ string) string {
		if node == "b" {
			return "-MOVED 7629 @a\r\n"
		}
		return ":1\r\n"
	})
	if o := write(t, l, lane, "UNLINK {k}l", "INCR k").await(t); o.err != nil {
		t.Fatal(o.err)
	}
}

// refresh has the topology asked for again.
func refresh(l relay.Lane) { l.(*lane).side.refresh() }

package upstream

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"readthrough/internal/command"
	"readthrough/internal/loop"
	"readthrough/internal/relay"
)

const (
	tendEvery = time.Second
	// laneIdle is how long an identity keeps its connections after the last session has left it, and maxLanes how many
	// identities a loop serves.
	laneIdle = time.Minute
	maxLanes = 256
	// maxDials bounds the connections that are being made to Redis at a time, and maxLogins those that only check a client's
	// password: guessing one must not keep others from connecting.
	maxDials  = 16
	maxLogins = 4
	// maxLoginsWaiting bounds, for each loop, the checks that wait for their turn: there may be any number of guesses.
	maxLoginsWaiting = 1024
)

// Stats counts what happened on a loop's connections to Redis since it started; Wires and Lanes are what is now.
type Stats struct {
	Dials, DialsFailed    uint64
	Lost                  uint64 // connections lost with replies outstanding
	Moved, Asked, Retried uint64 // redirects followed, and TRYAGAIN and the like waited out
	Resent                uint64 // commands sent again after their connection was lost
	Evacuated             uint64 // of them, reads taken from behind a slow reader
	Settled               uint64 // writes whose void did not run with them
	PushesDropped         uint64
	ReauthFailed          uint64
	Wires, Lanes          int
}

// Add adds other's figures.
func (s *Stats) Add(other Stats) {
	s.Dials += other.Dials
	s.DialsFailed += other.DialsFailed
	s.Lost += other.Lost
	s.Moved += other.Moved
	s.Asked += other.Asked
	s.Retried += other.Retried
	s.Resent += other.Resent
	s.Evacuated += other.Evacuated
	s.Settled += other.Settled
	s.PushesDropped += other.PushesDropped
	s.ReauthFailed += other.ReauthFailed
	s.Wires += other.Wires
	s.Lanes += other.Lanes
}

// Side is the part of the upstream that lives on one loop. Its methods must be called there.
type Side struct {
	up       *Upstream
	loop     *loop.Loop
	view     view
	table    *command.Table
	version  string // of Redis
	learning learning
	lanes    map[relay.Identity]*lane // shared ones
	owned    map[*lane]struct{}       // those of one session
	since    time.Time                // no node has been known since
	logins   int                      // checks of a client's password under way
	stats    Stats
}

func newSide(u *Upstream, l *loop.Loop) *Side {
	return &Side{
		up: u, loop: l, table: command.Snapshot(), since: time.Now(),
		lanes: map[relay.Identity]*lane{}, owned: map[*lane]struct{}{},
		learning: learning{waiting: map[string][]func(){}, unknown: map[string]struct{}{}},
	}
}

// start begins the regular work. It must be called on the loop.
func (s *Side) start() {
	s.since = s.loop.Now()
	s.tend()
}

func (s *Side) tend() {
	now := s.loop.Now()
	s.every(func(l *lane) { l.tend(now) })
	for id, l := range s.lanes {
		if l.users == 0 && now.Sub(l.idle) > laneIdle && !l.linked() {
			l.close()
			delete(s.lanes, id)
		}
	}
	s.loop.After(tendEvery, s.tend)
}

// Table is what is known of Redis's commands.
func (s *Side) Table() *command.Table { return s.table }

// Server is what is known of Redis.
func (s *Side) Server() relay.Server {
	return relay.Server{
		Version: s.version, Cluster: s.view.cluster, Awaited: !s.view.known && s.patient(),
	}
}

// Nodes are the masters that serve slots, and then the replicas; none while Redis has not been found. The caller must not change
// it.
func (s *Side) Nodes() []relay.Node { return s.view.members() }

// Generation is different after any loop has learnt that a slot is served by another node.
func (s *Side) Generation() uint64 { return s.up.changes.Load() }

// Stats returns the figures up to now.
func (s *Side) Stats() Stats {
	st := s.stats
	st.Lanes = len(s.lanes)
	s.every(func(l *lane) {
		st.Wires += len(l.byAddr) + len(l.retired)
	})
	return st
}

// Lane returns the shared connections of an identity for one more session. It is an error when there are too many identities.
func (s *Side) Lane(id relay.Identity) (relay.Lane, error) {
	l := s.lanes[id]
	if l == nil {
		if len(s.lanes) >= maxLanes && !s.evict() {
			return nil, errLanes
		}
		l = s.newLane(id)
		s.lanes[id] = l
	}
	l.users++
	return l, nil
}

// evict closes the lane that has been without sessions for longest. It is false when all have some.
func (s *Side) evict() bool {
	var oldest *lane
	for _, l := range s.lanes {
		if l.users == 0 && (oldest == nil || l.idle.Before(oldest.idle)) && !l.linked() {
			oldest = l
		}
	}
	if oldest == nil {
		return false
	}
	oldest.close()
	delete(s.lanes, oldest.identity)
	return true
}

const errLanes = relay.Error("UPSTREAMBUSY too many users and databases are in use at once: close some connections")

func (s *Side) newLane(id relay.Identity) *lane {
	return &lane{
		side: s, identity: id, byAddr: map[string]*wire{}, retired: map[*wire]struct{}{}, down: map[string]*outage{},
		byNode: make([]*wire, len(s.view.nodes)),
	}
}

// OwnLane returns connections of an identity for one session alone, until it releases them.
func (s *Side) OwnLane(id relay.Identity, own relay.Own) relay.Lane {
	l := s.newLane(id)
	l.own = &own
	l.users = 1
	s.owned[l] = struct{}{}
	l.reach()
	return l
}

// every has f called with each lane.
func (s *Side) every(f func(l *lane)) {
	for _, l := range s.lanes {
		f(l)
	}
	for l := range s.owned {
		f(l)
	}
}

// apply takes over a new topology.
func (s *Side) apply(t *Topology) {
	masters := s.view.nodes
	if !s.view.apply(t) {
		return
	}
	s.every(func(l *lane) { l.replace(masters) })
	s.up.changes.Add(1)
	if !s.view.known {
		s.since = s.loop.Now()
	}
	s.reroute()
	now := s.loop.Now()
	s.every(func(l *lane) { l.tend(now) }) // what hangs at a node that was replaced has waited long enough
}

// moved notes what a redirect says.
func (s *Side) moved(at int, addr string) {
	if s.view.moved(at, addr) {
		s.up.changes.Add(1)
		s.every(func(l *lane) {
			l.byNode = append(l.byNode, make([]*wire, len(s.view.nodes)-len(l.byNode))...)
			l.reach()
		})
		s.refresh()
	}
}

func (s *Side) reroute() { s.every((*lane).reroute) }

func (s *Side) refresh() { s.up.discovery.Refresh() }

// unknown says why no node is known, and whether it is early enough to wait for one.
func (s *Side) unknown() (cause relay.Error, waits bool) {
	return s.up.down(), s.patient()
}

func (s *Side) patient() bool { return s.loop.Now().Sub(s.since) < patience }

// oneLine makes a text fit for a RESP error.
func oneLine(s string) string {
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
}

// connect returns the descriptor of a connection to a node, ready for the commands of an identity.
func (s *Side) connect(ctx context.Context, addr string, id relay.Identity) (int, error) {
	conn, err := s.up.opts.ready(ctx, addr, id)
	if err != nil {
		return -1, err
	}
	return s.loop.Detach(conn)
}

// take adds a dialled connection to the loop, unless it is not wanted any more.
func (s *Side) take(fd int, h loop.Handler, unwanted bool) (*loop.Conn, bool) {
	if unwanted {
		_ = unix.Close(fd)
		return nil, false
	}
	conn, err := s.loop.Add(fd, h)
	if err != nil {
		h.Closed(err)
		return nil, false
	}
	return conn, true
}

const errLogins = relay.Error("UPSTREAMBUSY too many clients log in at once: try again")

// Authenticate checks a client's own user and password by connecting with them, and calls done on the loop with nil, or with
// the error to answer.
func (s *Side) Authenticate(id relay.Identity, done func(err error)) {
	n := s.view.node(relay.AnyNode)
	if n < 0 {
		cause, _ := s.unknown()
		done(cause)
		return
	}
	if s.logins == maxLoginsWaiting {
		done(errLogins)
		return
	}
	s.logins++
	addr := s.view.nodes[n]
	s.up.run(func(ctx context.Context) {
		err := s.up.logins.Acquire(ctx, 1)
		if err == nil {
			defer s.up.logins.Release(1)
			conn, dialErr := s.up.opts.ready(ctx, addr, id)
			if err = dialErr; err == nil {
				conn.Close()
			}
		}
		s.loop.Post(func() {
			s.logins--
			if refused, ok := errors.AsType[refusal](err); ok {
				done(relay.Error(refused))
			} else if err != nil {
				done(errDown(addr, err))
			} else {
				done(nil)
			}
		})
	})
}

// reauthenticate has the connections of the configured user authenticate again, with what Credentials says now.
func (s *Side) reauthenticate(as credentials) {
	auth := as.auth()
	if auth == nil {
		return
	}
	raw := appendCommand(nil, auth...)
	s.every(func(l *lane) {
		if l.identity.Own {
			return
		}
		for _, w := range l.byAddr {
			w.reauthenticate(raw)
		}
		for _, k := range slices.Clone(l.links) {
			k.reauthenticate(raw)
		}
	})
}

// reauthentication hears what Redis says to a changed password.
type reauthentication struct {
	side *Side
	addr string
}

// Reply implements relay.Sink.
func (a reauthentication) Reply(_ *relay.Request, b []byte, _ bool) bool {
	if b[0] == '-' {
		a.side.stats.ReauthFailed++
		a.side.up.reauthFailed(a.addr, string(bytes.TrimRight(b[1:], "\r\n")))
	}
	return true
}

// Fail implements relay.Sink: a new connection authenticates by itself.
func (reauthentication) Fail(*relay.Request, error) {}

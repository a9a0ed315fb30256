package resp

import (
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"readthrough/internal/command"
	"readthrough/internal/loop"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// Upstream is the Redis side as a loop's sessions see it.
type Upstream interface {
	// Table is what is known of Redis's commands. It changes when Redis does.
	Table() *command.Table
	// Learn has Redis asked about a command that Table lacks, and calls done on the loop when Table has it, if Redis has. It is
	// false, and done never called, when there is nothing to learn; err says that this is because Redis has not answered.
	Learn(name []byte, done func()) (asking bool, err error)
	Server() relay.Server
	// Nodes are the masters that serve slots, and then the replicas.
	Nodes() []relay.Node
	// Generation is different after it was learnt that a slot is served by another node. Settled asks the masters: whether each
	// serves the slots that it is known to, and none is moving. It calls done on the loop.
	Generation() uint64
	Settled(done func(settled bool))
	// Lane joins the shared connections of an identity, until its Release.
	Lane(id relay.Identity) (relay.Lane, error)
	// OwnLane makes connections of an identity for one session alone, until its Release.
	OwnLane(id relay.Identity, own relay.Own) relay.Lane
	// Authenticate has Redis judge an identity and calls done on the loop, with the error to answer.
	Authenticate(id relay.Identity, done func(err error))
}

// front is the part of the server that lives on one loop. All of it is used there.
type front struct {
	server   *Server
	loop     *loop.Loop
	side     Upstream
	resolver Resolver
	database int

	intercept   []string        // names of commands that read through
	intercepted []*command.Info // the same in the table
	failOpen    bool
	requireAuth bool
	refreshes   bool // the resolver wants to hear of hits, as of this turn

	splits bool // commands whose keys are of several slots
	// advertiseUpstream has CLUSTER SLOTS and the like show the real nodes.
	advertiseUpstream bool
	denials           denials
	denied            []denial // the same by command.Info.ID; nil where nothing is denied
	log               *zap.Logger

	sessions map[*session]struct{}
	ending   bool
	ended    bool
	parting  int // clients whose sessions have left, and who have not got all replies yet
	stats    stats
	fanouts  *fanout         // unused
	apart    map[string]bool // whether the voids of a client's own user go apart; users that have written no mapped key are not in it
	followed uint64          // the topology's generation that followMasters has seen

	unused      *place
	unusedCount int

	limit   int        // of held, in bytes
	allowed *allowance // to each session, as of this turn
	waiting int        // bytes of replies that wait for those before them, and of transactions
	places  int        // of all sessions

	// Scratch memory of one call.
	indexes *[slot.Count]int32 // see partIndexes
	replies [][]byte
	streams []stream
	merged  []byte
	args    [][]byte
	keys    []int
	named   [][]byte
	lease   []byte
	bulks   []byte
	unit    []byte
	scratch [512]byte
}

// identity is that of a new session: the configured user, over RESP2.
func (f *front) identity() relay.Identity { return relay.Identity{Protocol: 2, Database: f.database} }

// open begins a session on an accepted connection.
func (f *front) open(fd int, id int64) {
	if f.ending {
		_ = unix.Close(fd)
		f.server.clients.Add(-1)
		return
	}
	now := f.loop.Now()
	s := &session{front: f, id: id, began: now, active: now, unauthenticated: now}
	s.owner.Kill = s.kill
	conn, err := f.loop.Add(fd, s)
	if err != nil {
		f.log.Warn("a client's connection cannot be served", zap.Error(err))
		f.server.clients.Add(-1)
		return
	}
	s.conn = conn
	f.sessions[s] = struct{}{}
	f.stats.Accepted++
	if err := s.use(f.identity()); err != nil {
		s.refuse(err)
		s.settled()
		return
	}
	s.await()
}

// left forgets a session.
func (f *front) left(s *session) {
	delete(f.sessions, s)
	f.server.clients.Add(-1)
	f.over()
}

// over says that the end has come, when the last session has left and its client has its replies.
func (f *front) over() {
	if f.ending && !f.ended && len(f.sessions) == 0 && f.parting == 0 {
		f.ended = true
		f.server.ended.Done()
	}
}

func (f *front) killed(s *session, reason string) {
	f.stats.Killed++
	f.server.seldom.Info("client closed: "+reason, zap.Int64("client", s.id), zap.String("name", s.name))
}

// end has the sessions answer what they have been sent and leave.
func (f *front) end() {
	f.ending = true
	for s := range f.sessions {
		s.end()
	}
	f.over()
}

// renew follows a change of the command table.
func (f *front) renew(t *command.Table) {
	f.stats.renew(t)
	f.denied = f.denials.of(t)
	f.intercepted = nil
	for _, name := range f.intercept {
		if info := t.Lookup([]byte(name)); info != nil && info.ReadsThrough {
			f.intercepted = append(f.intercepted, info)
		}
	}
}

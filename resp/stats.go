package resp

import (
	"maps"

	"readthrough/internal/command"
)

// Count is how often a command was answered.
type Count struct {
	OK     uint64 // by a reply that is no error
	Errors uint64 // by an error of Redis
	Failed uint64 // by an error of the sidecar's own
}

// Stats are figures of the clients' side since it started; Clients is what is now.
type Stats struct {
	Commands       map[string]Count // by name, "config|set"; unknown commands are "unknown"
	Hits, Misses   uint64           // of mapped keys of intercepted commands: values from Redis, and nulls
	FailOpen       uint64           // mapped keys of intercepted commands that the origin was asked for since Redis did not answer
	Accepted       uint64
	Killed         uint64 // sessions ended by the sidecar
	ProtocolErrors uint64
	VoidsRefused   uint64 // leases that the configured user may not remove
	Logins         uint64 // by AUTH and HELLO
	LoginsFailed   uint64 // that Redis has refused, or would refuse, or could not be asked about
	// Unauthenticated counts commands that were refused since they came before a login.
	Unauthenticated uint64
	Clients         int
}

// Add adds other's figures.
func (s *Stats) Add(other Stats) {
	if s.Commands == nil {
		s.Commands = map[string]Count{}
	}
	for name, n := range other.Commands {
		sum := s.Commands[name]
		s.Commands[name] = Count{sum.OK + n.OK, sum.Errors + n.Errors, sum.Failed + n.Failed}
	}
	s.Hits += other.Hits
	s.Misses += other.Misses
	s.FailOpen += other.FailOpen
	s.Accepted += other.Accepted
	s.Killed += other.Killed
	s.ProtocolErrors += other.ProtocolErrors
	s.VoidsRefused += other.VoidsRefused
	s.Logins += other.Logins
	s.LoginsFailed += other.LoginsFailed
	s.Unauthenticated += other.Unauthenticated
	s.Clients += other.Clients
}

// stats count on one loop.
type stats struct {
	Stats
	table  *command.Table
	infos  []*command.Info  // of the table, by ID
	counts []Count          // by command.Info.ID, the last one for unknown commands
	past   map[string]Count // from former tables
}

// renew begins to count by another table.
func (s *stats) renew(t *command.Table) {
	s.past = s.byName()
	s.table, s.infos = t, t.All()
	s.counts = make([]Count, t.Len()+1)
}

func (s *stats) of(info *command.Info) *Count {
	if info == nil || info.ID >= len(s.infos) || s.infos[info.ID] != info { // unknown, or from a former table
		return &s.counts[len(s.counts)-1]
	}
	return &s.counts[info.ID]
}

func (s *stats) replied(info *command.Info, isError bool) {
	n := s.of(info)
	if isError {
		n.Errors++
	} else {
		n.OK++
	}
}

func (s *stats) failed(info *command.Info) { s.of(info).Failed++ }

func (s *stats) byName() map[string]Count {
	sum := Stats{Commands: maps.Clone(s.past)}
	now := map[string]Count{}
	for id, n := range s.counts {
		if n == (Count{}) {
			continue
		}
		name := "unknown"
		if id < len(s.counts)-1 {
			name = s.infos[id].Name
		}
		now[name] = n
	}
	sum.Add(Stats{Commands: now})
	return sum.Commands
}

func (s *stats) snapshot() Stats {
	st := s.Stats
	st.Commands = s.byName()
	return st
}

package origin

import (
	"cmp"
	"errors"
	"slices"
)

// State is how an origin does, for people and metrics. An origin that nobody has needed yet is not connected to, and is not down.
type State struct {
	Name string
	// Down is why the latest attempt to connect failed; nil after one that succeeded, or without any.
	Down error
	// Open says that the breaker keeps loads out; Down then says what clients are told.
	Open bool
	// Conns are the connections open, and Busy those of them that are at work.
	Conns, Busy int
}

// States returns the origins' states, by name.
func (r *Resolver) States() []State {
	var states []State
	for name, d := range r.databases {
		s := State{Name: name}
		if _, cause := d.backoff.state(); cause != nil {
			s.Down = errors.New(oneLine(connectCause(cause)))
		}
		if r := d.breaker.refuses(); r != nil {
			s.Down = errors.New(oneLine(d.refusedText(*r)))
		}
		s.Open = d.breaker.open()
		stat := d.pool.Stat()
		s.Conns, s.Busy = int(stat.TotalConns()), int(stat.AcquiredConns())
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b State) int { return cmp.Compare(a.Name, b.Name) })
	return states
}

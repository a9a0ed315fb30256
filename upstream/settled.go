package upstream

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"readthrough/internal/slot"
)

// errUnsettled says that a master serves other slots than it is known to, or that one of its slots is moving.
var errUnsettled = errors.New("slots are moving")

// Settled has every master say which slots it serves, and calls done on the loop. settled tells that each serves those that this
// side knew it to serve when the question was put, and that no slot is on its way. It is false when a master does not answer.
//
// A master knows best about itself: it takes part in each move of its slots, while others hear of it by gossip.
func (s *Side) Settled(done func(settled bool)) {
	masters, slots := slices.Clone(s.view.nodes), s.view.slots
	s.up.run(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		var asked errgroup.Group
		for i, addr := range masters {
			served := func(at int) bool { return int(slots[at]) == i }
			asked.Go(func() error {
				results, err := s.up.clients.get(addr).do(ctx, []string{"CLUSTER", "NODES"})
				if err != nil {
					return err
				}
				nodes, err := results[0].ToString()
				if err == nil && !serves(nodes, served) {
					err = errUnsettled
				}
				return err
			})
		}
		settled := asked.Wait() == nil
		s.loop.Post(func() { done(settled) })
	})
}

// serves tells whether the node that gave this reply to CLUSTER NODES serves just the given slots and none of them is moving.
//
// https://redis.io/docs/latest/commands/cluster-nodes/
func serves(nodes string, given func(at int) bool) bool {
	for line := range strings.Lines(nodes) {
		// id, address, flags, master, ping sent, pong received, epoch, link, slots…
		fields := strings.Fields(line)
		if len(fields) < 8 || !slices.Contains(strings.Split(fields[2], ","), "myself") {
			continue
		}
		var served [slot.Count]bool
		for _, field := range fields[8:] {
			first, last, ok := slotBounds(field)
			if !ok { // [93-<-id] or [77->-id]: a slot on its way
				return false
			}
			for at := first; at <= last; at++ {
				served[at] = true
			}
		}
		for at := range served {
			if served[at] != given(at) {
				return false
			}
		}
		return true
	}
	return false
}

// slotBounds reads "7" or "0-5460", both ends included.
func slotBounds(s string) (first, last int, ok bool) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	return first, last, err1 == nil && err2 == nil && 0 <= first && last < slot.Count
}

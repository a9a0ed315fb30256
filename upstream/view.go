package upstream

import (
	"slices"

	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// view is a loop's own picture of the topology: the last snapshot, and what redirects have taught since.
type view struct {
	known   bool
	cluster bool
	nodes   []string // addresses
	slots   [slot.Count]int16
	epoch   uint64 // counts changes of who serves what

	replicas []string     // addresses
	servers  []relay.Node // what Side.Nodes returns; nil: not made yet
}

// node is the index in nodes of the node for a slot, or for relay.AnyNode the fixed one; -1 while no node is known. An
// unassigned slot is the fixed node's to complain about.
func (v *view) node(at int) int {
	if !v.known {
		return -1
	}
	if at >= 0 {
		if n := v.slots[at]; n >= 0 {
			return int(n)
		}
	}
	return 0
}

// apply takes a snapshot over, and tells whether it says anything new.
func (v *view) apply(t *Topology) bool {
	nodes := make([]string, len(t.Nodes))
	for i, n := range t.Nodes {
		nodes[i] = n.Addr
	}
	replicas := make([]string, len(t.Replicas))
	for i, n := range t.Replicas {
		replicas[i] = n.Addr
	}
	v.replicas, v.servers = replicas, nil // which serve no slot
	known := len(nodes) > 0
	if v.known == known && v.cluster == t.Cluster && v.slots == t.Slots && slices.Equal(v.nodes, nodes) {
		return false
	}
	v.known, v.cluster, v.nodes, v.slots = known, t.Cluster, nodes, t.Slots
	v.epoch++
	return true
}

// moved notes that addr owns a slot, and tells whether that is news.
func (v *view) moved(at int, addr string) bool {
	n := slices.Index(v.nodes, addr)
	if n >= 0 && v.slots[at] == int16(n) {
		return false
	}
	if n < 0 {
		n = len(v.nodes)
		v.nodes = append(slices.Clip(v.nodes), addr)
	}
	v.slots[at] = int16(n)
	v.servers = nil
	v.epoch++
	return true
}

// members are the masters that serve slots, and then the replicas.
func (v *view) members() []relay.Node {
	if v.servers != nil || !v.known {
		return v.servers
	}
	first := make([]int, len(v.nodes)) // slot of each node
	for n := range first {
		first[n] = relay.AnyNode
	}
	for at := slot.Count - 1; at >= 0; at-- {
		if n := v.slots[at]; n >= 0 {
			first[n] = at
		}
	}
	for n, addr := range v.nodes {
		if first[n] >= 0 {
			v.servers = append(v.servers, relay.Node{Addr: addr, Slot: first[n]})
		}
	}
	for _, addr := range v.replicas {
		v.servers = append(v.servers, relay.Node{Addr: addr, Slot: relay.AnyNode})
	}
	return v.servers
}

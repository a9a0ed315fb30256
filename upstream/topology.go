package upstream

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"

	"readthrough/internal/slot"
)

// Node is one Redis server.
type Node struct {
	Addr string // as to be dialled: host:port, IPv6 in brackets
	ID   string // its name in the cluster; empty on a standalone Redis
}

func (n Node) String() string { return n.Addr }

// Topology is an immutable snapshot of who serves which slot.
type Topology struct {
	Cluster bool
	// Nodes are the masters that own slots, by their first slot. So Nodes[0], the fixed node for commands without a key,
	// stays the same through failovers and resharding elsewhere in the cluster.
	Nodes []Node
	// Slots holds indexes into Nodes, -1 for a slot that nobody serves. On a standalone Redis all are 0.
	Slots [slot.Count]int16
	// Replicas are those of Nodes, by address. Those of a standalone Redis are unknown.
	Replicas []Node
}

// Equal tells whether the same nodes serve the same slots, with the same replicas. Nil equals nil only.
func (t *Topology) Equal(other *Topology) bool {
	if t == nil || other == nil {
		return t == other
	}
	return t.Cluster == other.Cluster && slices.Equal(t.Nodes, other.Nodes) && t.Slots == other.Slots &&
		slices.Equal(t.Replicas, other.Replicas)
}

// node returns the one that serves s.
func (t *Topology) node(s uint16) (Node, bool) {
	if i := t.Slots[s]; i >= 0 {
		return t.Nodes[i], true
	}
	return Node{}, false
}

// standalone is the topology of a single Redis at addr.
func standalone(addr string) *Topology { return &Topology{Nodes: []Node{{Addr: addr}}} }

// asked is the node that gave an answer: the address it was asked at, and the IP that this led to.
type asked struct{ host, ip string }

// newTopology reads the reply of CLUSTER SLOTS, in which strings are string, integers int64, lists []any, maps map[string]any
// and null is nil. Elements that later servers add are ignored.
//
// https://redis.io/docs/latest/commands/cluster-slots/
func newTopology(reply any, from asked) (*Topology, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("reply of CLUSTER SLOTS: a %T where a list should be", reply)
	}
	ranges := make([]slotRange, 0, len(list))
	for _, item := range list {
		r, err := newSlotRange(item, from)
		if err != nil {
			return nil, fmt.Errorf("reply of CLUSTER SLOTS: %w", err)
		}
		ranges = append(ranges, r)
	}
	slices.SortFunc(ranges, func(a, b slotRange) int { return cmp.Compare(a.first, b.first) })

	t := &Topology{Cluster: true}
	for i := range t.Slots {
		t.Slots[i] = -1
	}
	for _, r := range ranges {
		index := slices.Index(t.Nodes, r.master)
		if index < 0 {
			index = len(t.Nodes)
			t.Nodes = append(t.Nodes, r.master)
		}
		for s := r.first; s <= r.last; s++ {
			t.Slots[s] = int16(index)
		}
		for _, n := range r.replicas {
			if !slices.Contains(t.Replicas, n) {
				t.Replicas = append(t.Replicas, n)
			}
		}
	}
	slices.SortFunc(t.Replicas, func(a, b Node) int { return cmp.Compare(a.Addr, b.Addr) })
	return t, nil
}

type slotRange struct {
	first, last int // both included
	master      Node
	replicas    []Node
}

func newSlotRange(item any, from asked) (r slotRange, err error) {
	fields, ok := item.([]any)
	if !ok || len(fields) < 3 {
		return r, fmt.Errorf("a range of slots is %v, want a first slot, a last one and nodes", item)
	}
	first, ok1 := fields[0].(int64)
	last, ok2 := fields[1].(int64)
	if !ok1 || !ok2 || first < 0 || first > last || last >= slot.Count {
		return r, fmt.Errorf("a range of slots from %v to %v", fields[0], fields[1])
	}
	r.first, r.last = int(first), int(last)
	if r.master, err = newNode(fields[2], from); err != nil {
		return r, err
	}
	for _, field := range fields[3:] {
		if n, err := newNode(field, from); err == nil { // one without an address cannot be asked anything
			r.replicas = append(r.replicas, n)
		}
	}
	return r, nil
}

// newNode reads [host, port, id, metadata], of which Redis before 4 lacks the third and before 7 the fourth.
func newNode(item any, from asked) (Node, error) {
	fields, ok := item.([]any)
	if !ok || len(fields) < 2 {
		return Node{}, fmt.Errorf("a node is %v, want host and port", item)
	}
	port, ok := fields[1].(int64)
	if !ok || port <= 0 || port > 65535 {
		return Node{}, fmt.Errorf("a node's port is %v", fields[1])
	}
	host := fields[0]
	switch host {
	case nil: // cluster-preferred-endpoint-type unknown-endpoint: the host that was asked, as the client knows it
		host = from.host
	case "": // the node answers before it has learnt its own address
		host = from.ip
	case "?": // cluster-preferred-endpoint-type hostname, and the node has none
		host = metadata(fields, "ip")
		if host == "" {
			host = from.ip
		}
	}
	name, ok := host.(string)
	if !ok || name == "" {
		return Node{}, fmt.Errorf("a node's host is %v", fields[0])
	}
	n := Node{Addr: net.JoinHostPort(name, strconv.FormatInt(port, 10))}
	if len(fields) > 2 {
		n.ID, _ = fields[2].(string)
	}
	return n, nil
}

// metadata returns what a node of CLUSTER SLOTS says of itself under name, which is a map, or a flat list in RESP2.
func metadata(node []any, name string) string {
	if len(node) < 4 {
		return ""
	}
	var value any
	switch m := node[3].(type) {
	case map[string]any:
		value = m[name]
	case []any:
		for i := 0; i+1 < len(m); i += 2 {
			if m[i] == name {
				value = m[i+1]
			}
		}
	}
	s, _ := value.(string)
	return s
}

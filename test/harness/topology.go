package harness

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Member is a node as the cluster itself sees it.
type Member struct {
	Node     *Redis
	Master   *Redis      // nil for a master
	Failed   bool        // found failing by the majority
	Slots    []SlotRange // of a master, in order
	epoch    string      // of its claim to them: where two nodes claim a slot, the higher one is believed
	hasLinks bool
}

// SlotRange is a range of slots, both ends included.
type SlotRange struct{ First, Last int }

// Members asks a node that answers, CLUSTER NODES, for the members that the harness started.
func (c *Cluster) Members(ctx context.Context) ([]Member, error) {
	live := c.live()
	if len(live) == 0 {
		return nil, fmt.Errorf("no node of the cluster runs")
	}
	return c.membersSeenBy(ctx, live[0])
}

func (c *Cluster) membersSeenBy(ctx context.Context, n *Redis) ([]Member, error) {
	v, err := n.Do(ctx, "CLUSTER", "NODES")
	if err != nil {
		return nil, err
	}
	var members []Member
	for line := range strings.Lines(v.Str) {
		// id, address, flags, master, ping sent, pong received, epoch, link, slots…
		f := strings.Fields(line)
		if len(f) < 8 {
			return nil, fmt.Errorf("CLUSTER NODES: cannot read %q", line)
		}
		m := Member{Node: c.byID(f[0]), Master: c.byID(f[3]), epoch: f[6], hasLinks: f[7] == "connected"}
		if m.Node == nil {
			continue
		}
		flags := strings.Split(f[2], ",")
		m.Failed = slices.Contains(flags, "fail")
		if slices.Contains(flags, "slave") == (m.Master == nil) {
			return nil, fmt.Errorf("redis %s does not know yet whose replica %s is", n.addr, m.Node.addr)
		}
		for _, s := range f[8:] {
			if strings.HasPrefix(s, "[") { // a slot on its way: [slot->-id] or [slot-<-id]
				continue
			}
			r, err := parseSlots(s)
			if err != nil {
				return nil, err
			}
			m.Slots = append(m.Slots, r)
		}
		members = append(members, m)
	}
	return members, nil
}

func (c *Cluster) byID(id string) *Redis {
	i := slices.IndexFunc(c.nodes, func(n *Redis) bool { return n.id == id })
	if i < 0 {
		return nil
	}
	return c.nodes[i]
}

func parseSlots(s string) (SlotRange, error) {
	first, last, found := strings.Cut(s, "-")
	if !found {
		last = first
	}
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(last)
	if err := cmp.Or(err1, err2); err != nil {
		return SlotRange{}, fmt.Errorf("CLUSTER NODES: slots %q: %w", s, err)
	}
	return SlotRange{a, b}, nil
}

// Masters are the masters that serve slots, in the order of their first slot.
func (c *Cluster) Masters(ctx context.Context) ([]*Redis, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	members = slices.DeleteFunc(members, func(m Member) bool { return len(m.Slots) == 0 })
	slices.SortFunc(members, func(a, b Member) int { return a.Slots[0].First - b.Slots[0].First })
	var masters []*Redis
	for _, m := range members {
		masters = append(masters, m.Node)
	}
	return masters, nil
}

// MasterOf is the node that serves a slot.
func (c *Cluster) MasterOf(ctx context.Context, slot int) (*Redis, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		for _, r := range m.Slots {
			if r.First <= slot && slot <= r.Last {
				return m.Node, nil
			}
		}
	}
	return nil, fmt.Errorf("no node serves slot %d", slot)
}

// ReplicasOf are the replicas of a master that have not failed.
func (c *Cluster) ReplicasOf(ctx context.Context, master *Redis) ([]*Redis, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	var replicas []*Redis
	for _, m := range members {
		if m.Master == master && !m.Failed {
			replicas = append(replicas, m.Node)
		}
	}
	return replicas, nil
}

// Slot asks Redis for a key's slot.
func (c *Cluster) Slot(ctx context.Context, key string) (int, error) {
	live := c.live()
	if len(live) == 0 {
		return 0, fmt.Errorf("no node of the cluster runs")
	}
	v, err := live[0].Do(ctx, "CLUSTER", "KEYSLOT", key)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(v.Str)
}

// WaitAgreed waits until every node that is neither killed nor paused finds the cluster in order, all of them see the same
// members with the same slots, and every replica is in sync with its master. After a master was killed, this is when one of
// its replicas has taken over.
func (c *Cluster) WaitAgreed(ctx context.Context) error {
	return Poll(ctx, func() error { return c.agreed(ctx) })
}

func (c *Cluster) agreed(ctx context.Context) error {
	var first string
	for _, n := range c.live() {
		if err := n.clusterOK(ctx); err != nil {
			return err
		}
		view, err := c.view(ctx, n)
		if err != nil {
			return err
		}
		if first == "" {
			first = view
		}
		if view != first {
			return fmt.Errorf("the nodes do not agree yet: %s sees\n%s\nothers\n%s", n.addr, view, first)
		}
	}
	return nil
}

// view is what a node thinks of the live members and of the slots, in a form that can be compared. It is an error if the node
// misses something: a member, a slot, its own master. Epochs are part of it: who is given a slot takes a higher epoch than all that it
// knows, so that nobody believes what its last owner has said before.
func (c *Cluster) view(ctx context.Context, n *Redis) (string, error) {
	members, err := c.membersSeenBy(ctx, n)
	if err != nil {
		return "", err
	}
	live := c.live()
	served := 0
	var lines []string
	for _, m := range members {
		for _, r := range m.Slots {
			served += r.Last - r.First + 1
		}
		switch running := slices.Contains(live, m.Node); {
		case !running && len(m.Slots) > 0:
			return "", fmt.Errorf("redis %s serves slots, but is killed or paused", m.Node.addr)
		case !running:
			continue
		case m.Failed || !m.hasLinks:
			return "", fmt.Errorf("redis %s does not reach %s yet", n.addr, m.Node.addr)
		}
		live = slices.DeleteFunc(live, func(l *Redis) bool { return l == m.Node })
		line := m.Node.addr + " master"
		if m.Master != nil {
			line = m.Node.addr + " replica of " + m.Master.addr
		}
		lines = append(lines, fmt.Sprint(line, m.Slots, m.epoch))
		if m.Node == n && m.Master != nil {
			if err := n.inSync(ctx); err != nil {
				return "", err
			}
		}
	}
	if len(live) > 0 {
		return "", fmt.Errorf("redis %s does not know %s yet", n.addr, live[0].addr)
	}
	if served != Slots {
		return "", fmt.Errorf("redis %s knows who serves %d of %d slots", n.addr, served, Slots)
	}
	if err := n.listsReplicas(ctx, members); err != nil {
		return "", err
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// listsReplicas is nil if the node's CLUSTER SLOTS, which clients read, has every replica: it leaves out those whose
// replication offset it has not heard of yet.
func (r *Redis) listsReplicas(ctx context.Context, members []Member) error {
	v, err := r.Do(ctx, "CLUSTER", "SLOTS")
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, slots := range v.Elems {
		for _, server := range slots.Elems[2:] { // first slot, last slot, then [ip, port, id, …] of each server
			listed[server.Elems[2].Str] = true
		}
	}
	for _, m := range members {
		if m.Master != nil && m.Node.answers() && !listed[m.Node.id] {
			return fmt.Errorf("redis %s does not list the replica %s yet", r.addr, m.Node.addr)
		}
	}
	return nil
}

// inSync is nil if a replica's link to its master is up.
func (r *Redis) inSync(ctx context.Context) error {
	v, err := r.Do(ctx, "INFO", "replication")
	if err == nil && !strings.Contains(v.Str, "master_link_status:up") {
		err = fmt.Errorf("redis %s is not in sync with its master", r.addr)
	}
	return err
}

package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const (
	askTimeout = time.Second
	// askGrace is how long a good answer waits for the others of its group, one of which may know of a later epoch.
	askGrace = 100 * time.Millisecond
	// groupSize is how many masters, and then how many replicas, are asked at a time.
	groupSize = 3
)

// nodeView is what one node says of its cluster, or of itself where it is standalone.
type nodeView struct {
	client   *client
	topology *Topology
	version  string // of the server, empty where it is older than Redis 6
	software string // version and modules: what decides the commands it has
	settled  bool   // the cluster's state is ok as this node sees it, or this standalone Redis is a master
	epoch    uint64 // cluster_current_epoch
}

// survey finds the topology. It asks some of the known masters, then of the known replicas, then the seeds, and goes on to the
// next group when no answer is good.
//
// One node's CLUSTER SLOTS may be outdated, just after a failover or on the wrong side of a partition. The view of a node that
// finds the cluster's state ok goes before others, then the one with the highest current epoch: a promotion raises that
// epoch, so who knows of it has heard more recently. In the milliseconds between the vote, which spreads the epoch, and the
// promotion, which moves the slots, an old view may still win; its commands are then answered by MOVED, which asks again.
// Comparing the config epochs of every slot (CLUSTER NODES) would be exact, but does not give the endpoints clients are to use.
//
// The answer of a known node counts only if it still knows one of our nodes: in Kubernetes another cluster's pod may have got its IP.
func survey(ctx context.Context, cs *clients, known *nodeView) (*nodeView, error) {
	var masters, replicas []string
	if known != nil {
		masters, replicas = sample(known.topology.Nodes), sample(known.topology.Replicas)
	}
	var spare *nodeView // a view that nobody improved on
	var errs []error
	for i, group := range [][]string{masters, replicas, cs.opts.Addresses} {
		seeds := i == 2
		views, err := askAll(ctx, cs, group)
		errs = append(errs, err)
		if !seeds {
			views = slices.DeleteFunc(views, func(v *nodeView) bool { return !v.akin(known) })
		}
		if len(views) == 0 {
			continue
		}
		best := slices.MaxFunc(views, compareViews)
		if best.settled {
			return best, nil
		}
		if spare == nil || compareViews(best, spare) > 0 {
			spare = best
		}
	}
	if spare != nil {
		return spare, nil
	}
	return nil, fmt.Errorf("no Redis node answered: %w", errors.Join(errs...))
}

// sample returns the addresses of up to groupSize nodes, at random.
func sample(nodes []Node) []string {
	var addrs []string
	for _, i := range rand.Perm(len(nodes))[:min(groupSize, len(nodes))] {
		addrs = append(addrs, nodes[i].Addr)
	}
	return addrs
}

// compareViews orders views from worse to better.
func compareViews(a, b *nodeView) int {
	rank := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(rank(a.topology.Cluster), rank(b.topology.Cluster)),
		cmp.Compare(rank(a.settled), rank(b.settled)),
		cmp.Compare(a.epoch, b.epoch))
}

// akin tells whether v describes the same cluster, or standalone Redis, as known.
func (v *nodeView) akin(known *nodeView) bool {
	if v.topology.Cluster != known.topology.Cluster {
		return false
	}
	if !v.topology.Cluster {
		return v.topology.Nodes[0] == known.topology.Nodes[0]
	}
	ids := make(map[string]bool)
	for _, n := range known.members() {
		ids[n.ID] = true
	}
	return slices.ContainsFunc(v.members(), func(n Node) bool { return ids[n.ID] })
}

// degraded says why a view that is not settled is not.
func (v *nodeView) degraded() error {
	switch {
	case v.settled:
		return nil
	case v.topology.Cluster:
		return errors.New("the cluster's state is not ok") // whichever node says so: it is logged once
	}
	return fmt.Errorf("%s is a replica: give the address of its master", v.client.addr)
}

// members are the masters and the replicas.
func (v *nodeView) members() []Node { return slices.Concat(v.topology.Nodes, v.topology.Replicas) }

// askAll asks nodes side by side and returns the views of those that answered in time; err joins the failures of the others.
func askAll(ctx context.Context, cs *clients, addrs []string) (views []*nodeView, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	type answer struct {
		view *nodeView
		err  error
	}
	answers := make(chan answer, len(addrs))
	for _, addr := range addrs {
		go func() {
			v, err := askNode(ctx, cs.get(addr))
			answers <- answer{v, err}
		}()
	}
	var errs []error
	for range addrs {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		views = append(views, a.view)
		if a.view.settled {
			time.AfterFunc(askGrace, cancel)
		}
	}
	return views, errors.Join(errs...)
}

// askNode gets one node's view.
func askNode(ctx context.Context, c *client) (*nodeView, error) {
	// HELLO without arguments changes nothing and needs no right, unlike INFO. Redis 5 does not have it, 6.0 not in this form.
	results, err := c.do(ctx, []string{"HELLO"})
	if results == nil {
		return nil, err
	}
	hello, _ := results[0].AsMap()
	v := &nodeView{client: c, version: text(hello["version"])}
	v.software = v.version + modules(hello["modules"])
	switch text(hello["mode"]) {
	case "sentinel":
		return nil, fmt.Errorf("%s is a Redis Sentinel: give the addresses of Redis nodes", c.addr)
	case "standalone":
		v.topology = standalone(c.addr)
		v.settled = text(hello["role"]) != "replica"
		return v, nil
	}
	results, err = c.do(ctx, []string{"CLUSTER", "SLOTS"}, []string{"CLUSTER", "INFO"})
	if results == nil {
		return nil, err
	}
	slots, err := results[0].ToAny()
	if notCluster(err) {
		v.topology, v.settled = standalone(c.addr), true
		return v, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: CLUSTER SLOTS: %w", c.addr, err)
	}
	host, _, err := net.SplitHostPort(c.addr)
	if err != nil {
		return nil, err
	}
	if v.topology, err = newTopology(slots, asked{host: host, ip: c.remoteIP()}); err != nil {
		return nil, fmt.Errorf("%s: %w", c.addr, err)
	}
	if len(v.topology.Nodes) == 0 {
		return nil, fmt.Errorf("%s: the cluster has no slots assigned", c.addr)
	}
	info, err := results[1].ToString()
	if err != nil {
		return nil, fmt.Errorf("%s: CLUSTER INFO: %w", c.addr, err)
	}
	info = strings.TrimPrefix(info, "txt:") // RESP3's verbatim string says what it is of
	v.settled = infoField(info, "cluster_state") == "ok"
	v.epoch, _ = strconv.ParseUint(infoField(info, "cluster_current_epoch"), 10, 64)
	return v, nil
}

// notCluster tells that CLUSTER was answered by a Redis without cluster mode or without the command.
func notCluster(err error) bool {
	return refused(err) && (strings.Contains(err.Error(), "cluster support disabled") || strings.Contains(err.Error(), "unknown command"))
}

// infoField returns the value of name in a reply of lines name:value, empty where it is missing.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimRight(value, "\r\n")
		}
	}
	return ""
}

// modules lists the modules of HELLO's reply with their versions, in a stable order.
func modules(m rueidis.RedisMessage) string {
	list, _ := m.ToArray()
	var names []string
	for _, item := range list {
		fields, _ := item.AsMap()
		name, version := fields["name"], fields["ver"]
		number, _ := version.AsInt64()
		names = append(names, fmt.Sprintf(" %s/%d", text(name), number))
	}
	slices.Sort(names)
	return strings.Join(names, "")
}

// text returns a string reply, empty for any other. (ToString returns the text of an error along with the error.)
func text(m rueidis.RedisMessage) string {
	if s, err := m.ToString(); err == nil {
		return s
	}
	return ""
}

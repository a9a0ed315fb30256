package harness

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// Slots is the number of slots of a Redis Cluster.
const Slots = 16384

// ClusterOptions describes a Redis Cluster.
type ClusterOptions struct {
	RedisOptions

	Masters  int // 3 if zero; one master owns all slots
	Replicas int // of each master

	// NodeTimeout is cluster-node-timeout, after which a node that does not answer is failed over. 5 seconds if zero, so that a
	// busy machine fails over nothing by accident.
	NodeTimeout time.Duration
}

// Cluster is a Redis Cluster. Its methods are for one goroutine at a time.
type Cluster struct {
	options ClusterOptions
	nodes   []*Redis // the masters as started, then their replicas, then added ones
}

// StartCluster starts a Redis Cluster and returns when every node agrees who serves which slot and every replica is in sync.
//
// A fresh master refuses commands for two seconds, and gossip spreads at the pace of the node timeout. The harness waits for
// neither: a replica refuses nothing, so each master starts as the replica of a master that does not exist, takes its slots
// over (CLUSTER FAILOVER TAKEOVER) and forgets it; and the nodes meet under a short timeout.
func StartCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	if o.Masters == 0 {
		o.Masters = 3
	}
	if o.NodeTimeout == 0 {
		o.NodeTimeout = 5 * time.Second
	}
	c := &Cluster{options: o}
	if err := c.form(ctx); err != nil {
		output := c.Output()
		c.Close()
		return nil, fmt.Errorf("start a Redis Cluster: %w\n%s", err, output)
	}
	return c, nil
}

// NewCluster is StartCluster for tests.
func NewCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	c, err := StartCluster(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		showOutput(t, "the Redis Cluster", c.Output())
	})
	return c
}

// Nodes are all nodes, killed ones too: the masters as started, their replicas, then those added.
func (c *Cluster) Nodes() []*Redis { return slices.Clone(c.nodes) }

// Addrs are the addresses of all nodes.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		addrs[i] = n.Addr()
	}
	return addrs
}

// Output is the end of every node's output.
func (c *Cluster) Output() string {
	const most = 4 << 10
	var b strings.Builder
	for _, n := range c.nodes {
		if n.Process != nil {
			out := n.Output()
			fmt.Fprintf(&b, "--- %s\n%s\n", n.addr, out[max(0, len(out)-most):])
		}
	}
	return b.String()
}

// Close ends all nodes.
func (c *Cluster) Close() {
	for _, n := range c.nodes {
		n.Close()
	}
}

// DoAll runs one command on every node that is neither killed nor paused.
func (c *Cluster) DoAll(ctx context.Context, args ...string) error {
	return c.each(ctx, c.live(), func(ctx context.Context, n *Redis) error {
		_, err := n.Do(ctx, args...)
		return err
	})
}

// live are the nodes that are neither killed nor paused.
func (c *Cluster) live() []*Redis {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(n *Redis) bool { return n.Process == nil || !n.answers() })
}

// each runs a function on several nodes at once.
func (c *Cluster) each(ctx context.Context, nodes []*Redis, do func(context.Context, *Redis) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		g.Go(func() error { return do(ctx, n) })
	}
	return g.Wait()
}

// forming are the settings while the nodes meet; settled those afterwards, unless the options name them. Coverage is not
// demanded at first, since a node does not know the others yet; a short timeout makes gossip fast.
var (
	forming = map[string]string{
		"cluster-require-full-coverage": "no",
		"cluster-replica-no-failover":   "yes",
		"cluster-node-timeout":          "600",
	}
	settled = map[string]string{
		"cluster-require-full-coverage": "yes",
		"cluster-replica-no-failover":   "no",
	}
)

func (c *Cluster) form(ctx context.Context) error {
	var masters, replicas []*Redis
	for i := range c.options.Masters * (1 + c.options.Replicas) {
		n, err := c.newNode()
		if err != nil {
			return err
		}
		master := i % c.options.Masters
		if i < c.options.Masters {
			masters = append(masters, n)
			err = n.writeNodes(nobody, c.options.Masters, master)
		} else {
			replicas = append(replicas, n)
			err = n.writeNodes(masters[master], c.options.Masters, master)
		}
		if err = errors.Join(err, n.writeConfig(clusterLines(n, nil)), n.appendConfig(forming)); err != nil {
			return err
		}
	}
	if err := c.each(ctx, masters, takeOver); err != nil {
		return err
	}
	if err := c.each(ctx, replicas, func(ctx context.Context, n *Redis) error { return n.start(ctx) }); err != nil {
		return err
	}
	if err := c.meet(ctx, c.nodes...); err != nil {
		return err
	}
	if err := c.WaitAgreed(ctx); err != nil {
		return err
	}
	return c.each(ctx, c.nodes, c.settle)
}

// nobody is the master that does not exist.
var nobody = &Redis{id: strings.Repeat("f", 40), addr: "127.0.0.1:1", busPort: port{number: 1}}

// newNode reserves what a node needs and adds it to the cluster, so that Close finds it. The bus port is set, as the usual one, the
// client port plus 10,000, might be taken.
func (c *Cluster) newNode() (*Redis, error) {
	n, err := newRedis(c.options.RedisOptions)
	if err != nil {
		return nil, err
	}
	c.nodes = append(c.nodes, n)
	if n.busPort, err = reservePort(); err != nil {
		return nil, err
	}
	id := make([]byte, 20)
	_, _ = rand.Read(id) // never fails
	n.id = hex.EncodeToString(id)
	return n, nil
}

// writeNodes writes what the node shall remember of the cluster: that it is a replica of a master with the i-th of count
// equal shares of the slots. Epochs differ between the masters, so that none has to be settled by a collision.
func (r *Redis) writeNodes(master *Redis, count, i int) error {
	text := fmt.Sprintf("%s %s master - 0 0 %d connected %d-%d\n%s %s myself,slave %s 0 0 %d connected\nvars currentEpoch %d lastVoteEpoch 0\n",
		master.id, master.busAddr(), i+1, Slots*i/count, Slots*(i+1)/count-1, r.id, r.busAddr(), master.id, i+1, count+i)
	return os.WriteFile(r.dir.join("nodes.conf"), []byte(text), 0o600)
}

// busAddr is the address in the notation of nodes.conf: without brackets, the bus port behind an @.
func (r *Redis) busAddr() string {
	return strings.NewReplacer("[", "", "]", "").Replace(r.addr) + "@" + r.busPort.String()
}

// clusterLines are a cluster node's lines of redis.conf.
func clusterLines(n *Redis, settings map[string]string) []string {
	lines := []string{
		"cluster-enabled yes",
		"cluster-config-file nodes.conf",
		"cluster-port " + n.busPort.String(),
		"cluster-replica-validity-factor 0", // a replica may always take over
	}
	for name, value := range settings {
		lines = append(lines, name+" "+value)
	}
	return lines
}

// appendConfig puts settings at the end of redis.conf, where they win over the options' lines.
func (r *Redis) appendConfig(settings map[string]string) error {
	f, err := os.OpenFile(r.configFile(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for name, value := range settings {
		_, err = fmt.Fprintln(f, name, value)
	}
	return errors.Join(err, f.Close())
}

// takeOver starts a master and lets it take the slots of the master that does not exist.
func takeOver(ctx context.Context, n *Redis) error {
	if err := n.start(ctx); err != nil {
		return err
	}
	if err := Poll(ctx, func() error { return n.clusterOK(ctx) }); err != nil {
		return err
	}
	if _, err := n.Do(ctx, "CLUSTER", "FAILOVER", "TAKEOVER"); err != nil {
		return err
	}
	_, err := n.Do(ctx, "CLUSTER", "FORGET", nobody.id)
	return err
}

// settle gives a node its final settings, now and for a restart.
func (c *Cluster) settle(ctx context.Context, n *Redis) error {
	settings := map[string]string{"cluster-node-timeout": strconv.FormatInt(c.options.NodeTimeout.Milliseconds(), 10)}
	for name, value := range settled {
		settings[name] = value
	}
	for _, line := range c.options.Config {
		if f := strings.Fields(line); len(f) == 2 && settings[f[0]] != "" {
			settings[f[0]] = f[1]
		}
	}
	_, err := n.Do(ctx, configSet(settings)...)
	return errors.Join(err, n.writeConfig(clusterLines(n, settings)))
}

// configSet is the command that sets settings.
func configSet(settings map[string]string) []string {
	args := []string{"CONFIG", "SET"}
	for name, value := range settings {
		args = append(args, name, value)
	}
	return args
}

// meet introduces nodes to all others at once; gossip would take seconds.
func (c *Cluster) meet(ctx context.Context, nodes ...*Redis) error {
	return c.each(ctx, nodes, func(ctx context.Context, n *Redis) error {
		for _, other := range c.live() {
			if other == n {
				continue
			}
			if _, err := n.Do(ctx, "CLUSTER", "MEET", other.host(), other.port.String(), other.busPort.String()); err != nil {
				return err
			}
		}
		return nil
	})
}

// clusterOK is nil if the node finds the cluster in order.
func (r *Redis) clusterOK(ctx context.Context) error {
	v, err := r.Do(ctx, "CLUSTER", "INFO")
	if err == nil && !strings.Contains(v.Str, "cluster_state:ok") {
		err = fmt.Errorf("redis %s: cluster state is not ok", r.addr)
	}
	return err
}

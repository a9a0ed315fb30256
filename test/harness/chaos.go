package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Failover modes, as CLUSTER FAILOVER has them.
const (
	Coordinated = ""         // with the master: no write is lost
	Force       = "FORCE"    // without the master, by vote
	Takeover    = "TAKEOVER" // without the master, without a vote
)

// Failover makes a replica the master and waits until the cluster agrees.
func (c *Cluster) Failover(ctx context.Context, replica *Redis, mode string) error {
	args := []string{"CLUSTER", "FAILOVER"}
	if mode != Coordinated {
		args = append(args, mode)
	}
	if _, err := replica.Do(ctx, args...); err != nil {
		return err
	}
	err := Poll(ctx, func() error {
		v, err := replica.Do(ctx, "ROLE")
		if err == nil && v.Elems[0].Str != "master" {
			err = fmt.Errorf("redis %s is still a %s", replica.addr, v.Elems[0].Str)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.WaitAgreed(ctx)
}

// AddMaster adds a master without slots and waits until the cluster agrees, which takes the two seconds in which a fresh
// master refuses commands. Meanwhile nothing is failed over.
func (c *Cluster) AddMaster(ctx context.Context) (*Redis, error) {
	n, err := c.newNode()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(n.writeConfig(clusterLines(n, forming)), n.start(ctx)); err != nil {
		return nil, err
	}
	v, err := n.Do(ctx, "CLUSTER", "MYID")
	if err != nil {
		return nil, err
	}
	n.id = v.Str
	if err := c.DoAll(ctx, configSet(forming)...); err != nil {
		return nil, err
	}
	err = errors.Join(c.meet(ctx, n), c.WaitAgreed(ctx))
	return n, errors.Join(err, c.each(ctx, c.live(), c.settle))
}

// RemoveMaster takes a master that has no slots any more out of the cluster and ends it.
func (c *Cluster) RemoveMaster(ctx context.Context, n *Redis) error {
	c.nodes = slices.DeleteFunc(c.nodes, func(other *Redis) bool { return other == n })
	if err := c.DoAll(ctx, "CLUSTER", "FORGET", n.id); err != nil {
		return err
	}
	n.Close()
	return c.WaitAgreed(ctx)
}

// Readdress kills all nodes and starts them again at other addresses, as in Kubernetes pods do: each keeps its id, and what it knew of
// the cluster but for the addresses.
func (c *Cluster) Readdress(ctx context.Context) error {
	var addresses []string // old ones and new ones, as nodes.conf has them
	for _, n := range c.nodes {
		n.Kill()
		old, oldPort, oldBus := n.busAddr(), n.port, n.busPort
		var err1, err2 error
		n.port, err1 = reservePort()
		n.busPort, err2 = reservePort()
		oldPort.release()
		oldBus.release()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		n.addr = net.JoinHostPort(n.host(), n.port.String())
		addresses = append(addresses, old, n.busAddr())
		err := n.rewrite("redis.conf", "\nport "+oldPort.String()+"\n", "\nport "+n.port.String()+"\n",
			"cluster-port "+oldBus.String(), "cluster-port "+n.busPort.String())
		if err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.rewrite("nodes.conf", addresses...); err != nil {
			return err
		}
	}
	return errors.Join(c.each(ctx, c.nodes, func(ctx context.Context, n *Redis) error { return n.start(ctx) }), c.WaitAgreed(ctx))
}

// rewrite replaces old texts by new ones in a file of the server's.
func (r *Redis) rewrite(name string, oldnew ...string) error {
	text, err := os.ReadFile(r.dir.join(name))
	if err != nil {
		return err
	}
	return os.WriteFile(r.dir.join(name), []byte(strings.NewReplacer(oldnew...).Replace(string(text))), 0o600)
}

// Migration is a slot on its way from one master to another, for tests that act in the middle of it.
type Migration struct {
	Slot     int
	From, To *Redis
	cluster  *Cluster
}

// BeginMigration marks a slot as importing and migrating: from now on From answers ASK for keys that it has not.
func (c *Cluster) BeginMigration(ctx context.Context, slot int, to *Redis) (*Migration, error) {
	from, err := c.MasterOf(ctx, slot)
	if err != nil {
		return nil, err
	}
	if from == to {
		return nil, fmt.Errorf("redis %s serves slot %d already", to.addr, slot)
	}
	m := &Migration{slot, from, to, c}
	if err := m.setSlot(ctx, to, "IMPORTING", from.id); err != nil {
		return nil, err
	}
	return m, m.setSlot(ctx, from, "MIGRATING", to.id)
}

// MoveKeys moves up to count keys and returns how many it moved.
func (m *Migration) MoveKeys(ctx context.Context, count int) (int, error) {
	v, err := m.From.Do(ctx, "CLUSTER", "GETKEYSINSLOT", strconv.Itoa(m.Slot), strconv.Itoa(count))
	if err != nil || len(v.Elems) == 0 {
		return 0, err
	}
	args := []string{"MIGRATE", m.To.host(), m.To.port.String(), "", "0", "5000"}
	if pw := m.To.options.Password; pw != "" {
		args = append(args, "AUTH", pw)
	}
	_, err = m.From.Do(ctx, slices.Concat(args, []string{"KEYS"}, v.Strings())...)
	return len(v.Elems), err
}

// Finish moves the keys that are left and gives the slot to To on every master, To first, then waits until the cluster agrees.
func (m *Migration) Finish(ctx context.Context) error {
	for {
		n, err := m.MoveKeys(ctx, 100)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	masters, err := m.cluster.Masters(ctx)
	if err != nil {
		return err
	}
	masters = slices.DeleteFunc(masters, func(n *Redis) bool { return n == m.From || n == m.To })
	for _, n := range append([]*Redis{m.To, m.From}, masters...) {
		if err := m.setSlot(ctx, n, "NODE", m.To.id); err != nil {
			return err
		}
	}
	return m.cluster.WaitAgreed(ctx)
}

// Cancel ends the migration where it stands: the slot stays with From, as do the keys that were not moved.
func (m *Migration) Cancel(ctx context.Context) error {
	return errors.Join(m.setSlot(ctx, m.From, "STABLE"), m.setSlot(ctx, m.To, "STABLE"))
}

// MigrateSlot moves a slot with its keys to another master and waits until the cluster agrees.
func (c *Cluster) MigrateSlot(ctx context.Context, slot int, to *Redis) error {
	m, err := c.BeginMigration(ctx, slot, to)
	if err != nil {
		return err
	}
	return m.Finish(ctx)
}

func (m *Migration) setSlot(ctx context.Context, n *Redis, state ...string) error {
	_, err := n.Do(ctx, append([]string{"CLUSTER", "SETSLOT", strconv.Itoa(m.Slot)}, state...)...)
	return err
}

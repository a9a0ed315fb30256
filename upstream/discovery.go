package upstream

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"readthrough/internal/command"
)

const (
	refreshInterval = 15 * time.Second       // while nobody asks
	refreshGap      = 100 * time.Millisecond // between two refreshes, however many ask
	refreshBackoff  = 5 * time.Second        // between two failing ones, at most
)

// State is what discovery knows, for people and metrics.
type State struct {
	Topology    *Topology // nil until Redis has answered once
	Version     string    // of the server; empty where it is unknown
	LastSuccess time.Time // zero: never
	LastError   error     // of the latest refresh, nil when it succeeded
}

// discovery keeps the topology and the command table up to date. It starts without Redis and finds it when it comes.
type discovery struct {
	clients    *clients
	onTopology func(*Topology)
	onCommands func(*command.Table)
	wake       chan struct{}

	// Of the goroutine of run:
	view     *nodeView         // the latest
	commands *nodeView         // that the command table comes from
	warned   map[string]string // the latest error by message

	mu    sync.Mutex
	state State
}

// newDiscovery makes a discovery over clients, which the caller closes after run. The callbacks come from the goroutine of run,
// one after the other: onTopology with every topology that differs from the one before, onCommands with the command table
// once it is known, and again when the server's version or modules changed.
func newDiscovery(clients *clients, onTopology func(*Topology), onCommands func(*command.Table)) *discovery {
	return &discovery{clients: clients, onTopology: onTopology, onCommands: onCommands, wake: make(chan struct{}, 1), warned: make(map[string]string)}
}

// Refresh asks for a refresh soon and returns at once. It may be called as often as one likes, from any goroutine.
func (d *discovery) Refresh() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// State returns what is known now.
func (d *discovery) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Err returns why the latest refresh failed, nil when it succeeded or none has ended yet.
func (d *discovery) Err() error { return d.State().LastError }

// run works until ctx is done.
func (d *discovery) run(ctx context.Context) {
	var failed time.Duration // the pause after the latest failures
	for ctx.Err() == nil {
		pause := refreshGap
		if d.refresh(ctx) {
			failed = 0
		} else {
			failed = min(max(2*failed, refreshGap), refreshBackoff)
			pause = failed
		}
		select {
		case <-time.After(jitter(pause)):
		case <-ctx.Done():
			return
		}
		if failed > 0 {
			continue
		}
		select {
		case <-d.wake:
		case <-time.After(jitter(refreshInterval)):
		case <-ctx.Done():
		}
	}
}

// refresh takes a new view and publishes what is new in it. It tells whether there is one.
func (d *discovery) refresh(ctx context.Context) bool {
	v, err := survey(ctx, d.clients, d.view)
	if ctx.Err() != nil {
		return false
	}
	d.record(v, err)
	d.warn("Redis topology unknown", err)
	if err != nil {
		return false
	}
	if d.view == nil || !v.topology.Equal(d.view.topology) {
		d.clients.opts.logger().Info("Redis topology", zap.Bool("cluster", v.topology.Cluster), zap.Stringers("nodes", v.topology.Nodes))
		d.onTopology(v.topology)
	}
	d.view = v
	d.warn("Redis will refuse writes", v.degraded())
	d.warn("no command table from Redis, the built-in one serves", d.refreshCommands(ctx, v))
	d.clients.retain(v.topology.Nodes)
	d.warn("Redis connections keep their old credentials", d.clients.reauthenticate(ctx))
	return true
}

func (d *discovery) refreshCommands(ctx context.Context, v *nodeView) error {
	if d.commands != nil && d.commands.software == v.software {
		return nil
	}
	table, err := fetchCommands(ctx, v.client)
	if err != nil {
		return err
	}
	d.commands = v
	d.onCommands(table)
	return nil
}

// record keeps what State returns: v, or err where there is none.
func (d *discovery) record(v *nodeView, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.state.LastError = err
		return
	}
	d.state = State{Topology: v.topology, Version: v.version, LastSuccess: time.Now()}
}

// warn logs err where it is not what the message was logged with last.
func (d *discovery) warn(message string, err error) {
	if err == nil {
		delete(d.warned, message)
		return
	}
	if cause := err.Error(); d.warned[message] != cause {
		d.warned[message] = cause
		d.clients.opts.logger().Warn(message, zap.Error(err))
	}
}

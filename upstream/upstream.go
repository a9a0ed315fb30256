// Package upstream is the Redis side: which nodes there are and who owns which slot, the shared connections over which commands
// are relayed, and the typed work that the sidecar does on Redis for itself.
//
// A loop's part of it is a Side; on it, a lane is the connections of one identity, and a wire one connection to one node.
// Relaying passes bytes on and knows no types. What needs types - topology, command table, fills - goes over rueidis.
package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"readthrough/internal/loop"
	"readthrough/internal/relay"
)

// Upstream is the Redis behind the sidecar.
type Upstream struct {
	opts      Options
	log       *zap.Logger
	clients   *clients
	discovery *discovery
	words     vocabulary
	leases    *Leases
	sides     []*Side
	dials     *semaphore.Weighted // connections being made
	logins    *semaphore.Weighted // of them, those that only check a client's password
	changes   atomic.Uint64       // of any side's view: what Side.Generation returns

	ctx  context.Context // of everything that blocks; ends with Close
	stop context.CancelFunc
	mu   sync.Mutex // guards wg against an Add after Close has begun to wait
	wg   sync.WaitGroup
}

// New makes the upstream of some loops, which need not run yet. It connects to nothing until Start.
func New(opts Options, loops []*loop.Loop) (*Upstream, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	u := &Upstream{opts: opts, log: opts.logger(), dials: semaphore.NewWeighted(maxDials), logins: semaphore.NewWeighted(maxLogins)}
	u.changes.Store(rand.Uint64()) // a count from before a restart shall not go on where it was
	u.ctx, u.stop = context.WithCancel(context.Background())
	u.words.aliases = map[string]string{}
	u.clients = newClients(&u.opts)
	u.discovery = newDiscovery(u.clients, u.onTopology, u.onCommands)
	u.leases = newLeases(u.clients, func() *Topology { return u.discovery.State().Topology }, u.discovery.Refresh)
	for _, l := range loops {
		u.sides = append(u.sides, newSide(u, l))
	}
	return u, nil
}

// Start begins to look for Redis, in the background, for as long as it takes.
func (u *Upstream) Start() {
	for _, s := range u.sides {
		s.loop.Post(s.start)
	}
	u.run(u.discovery.run)
	u.run(u.watchCredentials)
}

// Close ends all background work and waits for it. The loops, which hold the relayed connections, must be stopped before.
func (u *Upstream) Close() {
	u.mu.Lock()
	u.stop()
	u.mu.Unlock()
	u.wg.Wait()
	u.clients.close()
}

// run calls f on a goroutine that Close waits for. After Close it does nothing.
func (u *Upstream) run(f func(ctx context.Context)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ctx.Err() == nil {
		u.wg.Go(func() { f(u.ctx) })
	}
}

// Side returns the part that lives on the i-th of New's loops.
func (u *Upstream) Side(i int) *Side { return u.sides[i] }

// Leases returns Redis as the place of leases.
func (u *Upstream) Leases() *Leases { return u.leases }

// State returns what is known of Redis now.
func (u *Upstream) State() State { return u.discovery.State() }

func (u *Upstream) onTopology(t *Topology) {
	version := u.discovery.State().Version
	for _, s := range u.sides {
		s.loop.Post(func() {
			s.version = version
			s.apply(t)
		})
	}
}

// watchCredentials has live connections authenticate again when the credentials changed, so that what is rotated can be
// withdrawn without anything failing.
func (u *Upstream) watchCredentials(ctx context.Context) {
	if u.opts.Credentials == nil {
		return
	}
	var known credentials
	first, unreadable := true, ""
	for tick := time.NewTicker(credentialsEvery); ; {
		as, err := u.opts.credentials(ctx)
		switch {
		case err != nil:
			if err.Error() != unreadable {
				u.log.Warn("Redis credentials cannot be read, the last ones serve", zap.Error(err))
			}
			unreadable = err.Error()
		case !first && as != known:
			u.log.Info("Redis credentials changed, connections authenticate again")
			for _, s := range u.sides {
				s.loop.Post(func() { s.reauthenticate(as) })
			}
			u.discovery.Refresh()
			known, unreadable = as, ""
		default:
			known, first, unreadable = as, false, ""
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// credentialsEvery is how often the credentials are read again.
const credentialsEvery = time.Second

func (u *Upstream) reauthFailed(addr, reply string) {
	u.log.Error("Redis refuses the changed credentials: connections keep the old ones until they break",
		zap.String("node", addr), zap.String("reply", reply))
}

// down says why no node is known.
func (u *Upstream) down() relay.Error {
	reason := "no node has answered yet"
	if err := u.discovery.State().LastError; err != nil {
		reason = err.Error()
	}
	return relay.Error(fmt.Sprintf("UPSTREAMDOWN Redis: %s", oneLine(reason)))
}

package upstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"readthrough/internal/slot"
)

// fillTimeout bounds a Fill whose context gives it longer.
const fillTimeout = time.Second

// Errors that a Fill gives before anything was sent.
var (
	errNoTopology = errors.New("no Redis node is known yet")
	errNoNode     = errors.New("no Redis node serves the key's slot")
)

// Cache stores loaded values in Redis.
type Cache struct {
	clients  *clients
	topology func() *Topology // nil before discovery
	refresh  func()
}

// newCache stores on the nodes of topology, and asks for a refresh of it where a node's answer says that it is outdated.
func newCache(clients *clients, topology func() *Topology, refresh func()) *Cache {
	return &Cache{clients: clients, topology: topology, refresh: refresh}
}

// Fill sets key to value for ttl, at least a millisecond, unless the key exists; stored tells which. It takes a second at
// most. It is sent again when the connection is lost, so stored may be false although an earlier sending stored the value.
// Redirects are errors: a value is good on the node whose null reply it answers, and on no other.
//
// Redis may be sent value after Fill returned, if ctx ended first: it must never be changed.
func (c *Cache) Fill(ctx context.Context, key, value []byte, ttl time.Duration) (stored bool, err error) {
	if ttl < time.Millisecond {
		return false, fmt.Errorf("fill: time to live %v: it must be at least 1ms", ttl)
	}
	topology := c.topology()
	if topology == nil {
		return false, fmt.Errorf("fill: %w", errNoTopology)
	}
	node, ok := topology.node(slot.Of(key))
	if !ok {
		c.refresh()
		return false, fmt.Errorf("fill: %w", errNoNode)
	}
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	results, err := c.clients.get(node.Addr).do(ctx, []string{
		"SET", string(key), rueidis.BinaryString(value),
		"PX", strconv.FormatInt(ttl.Milliseconds(), 10), "NX",
	})
	if err != nil {
		if outdated(err) {
			c.refresh()
		}
		return false, fmt.Errorf("fill: %w", err)
	}
	return !rueidis.IsRedisNil(results[0].Error()), nil
}

// outdated tells whether err is a reason to look at the topology again: the node is gone, or says that it is not the one.
func outdated(err error) bool {
	return !refused(err) || hasCode(err, "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN")
}

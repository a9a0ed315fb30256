package upstream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"readthrough/internal/slot"
)

// NoExpiry is the TTL of a key that does not expire.
const NoExpiry time.Duration = -1

// KeyReport is what Redis knows of a key.
type KeyReport struct {
	Slot   int    // in a cluster; on a standalone Redis what it would be
	Node   string // address of the node that was asked
	Exists bool
	Type   string        // in Redis's words; empty for a key that does not exist
	TTL    time.Duration // what is left, NoExpiry for ever; 0 for a key that does not exist
}

// Inspect finds the node that serves key and asks it. It neither changes the key nor counts as an access to it. A key on its way to
// another node, in a slot that moves, is looked for there.
func Inspect(ctx context.Context, opts *Options, key []byte) (KeyReport, error) {
	report := KeyReport{Slot: int(slot.Of(key))}
	cs := newClients(opts)
	defer cs.close()
	v, err := survey(ctx, cs, nil)
	if err != nil {
		return report, err
	}
	node, ok := v.topology.node(uint16(report.Slot))
	if !ok {
		return report, fmt.Errorf("slot %d: %w", report.Slot, errNoNode)
	}
	report.Node = node.Addr
	typ, left := []string{"TYPE", string(key)}, []string{"PTTL", string(key)}
	results, err := cs.get(node.Addr).do(ctx, typ, left)
	if reply, asks := strings.CutPrefix(errorText(err), "ASK "); asks {
		if to, ok := parseRedirection([]byte(reply), node.Addr); ok {
			report.Node = to.addr
			asking := []string{"ASKING"} // holds for one command
			results, err = cs.get(to.addr).do(ctx, asking, typ, asking, left)
			if err == nil {
				results = []rueidis.RedisResult{results[1], results[3]}
			}
		}
	}
	if err != nil {
		return report, fmt.Errorf("%s: %w", report.Node, err)
	}
	if report.Type, err = results[0].ToString(); err != nil {
		return report, err
	}
	ms, err := results[1].AsInt64()
	if err != nil {
		return report, err
	}
	const noKey, noExpiry = -2, -1
	switch {
	case report.Type == "none" || ms == noKey: // it may expire between the two
		report.Type = ""
	case ms == noExpiry:
		report.Exists, report.TTL = true, NoExpiry
	default:
		report.Exists, report.TTL = true, time.Duration(ms)*time.Millisecond
	}
	return report, nil
}

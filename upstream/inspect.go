package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"readthrough/internal/lease"
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
	Lease  LeaseReport
}

// LeaseReport is what stands at a key's lease key.
type LeaseReport struct {
	What LeaseState
	Left time.Duration // until it is forgotten; 0 for LeaseNone
	Err  error         // why nobody knows; nil else
}

// LeaseState is what a lease key says of its key.
type LeaseState string

// The states of a lease key.
const (
	LeaseNone     LeaseState = ""
	LeaseLoading  LeaseState = "loading"  // a pod loads the key
	LeaseMissing  LeaseState = "missing"  // there is no row
	LeaseFilled   LeaseState = "filled"   // a sidecar has filled the key in, and will load it anew
	LeaseRenewing LeaseState = "renewing" // a pod does
)

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
	report.Lease = inspectLease(ctx, cs.get(report.Node), key)
	return report, nil
}

// inspectLease reads the lease key of a key on its node. While the slot moves it may be elsewhere, which is an error.
func inspectLease(ctx context.Context, node *client, key []byte) (report LeaseReport) {
	leaseKey, ok := lease.AppendKey(nil, key)
	if !ok {
		return LeaseReport{Err: lease.ErrNone}
	}
	results, err := node.do(ctx, []string{"GET", string(leaseKey)}, []string{"PTTL", string(leaseKey)})
	if err != nil {
		return LeaseReport{Err: err}
	}
	held, err := results[0].ToString()
	if rueidis.IsRedisNil(err) || err == nil && held == "" {
		return LeaseReport{}
	}
	left, leftErr := results[1].AsInt64()
	if err := errors.Join(err, leftErr); err != nil {
		return LeaseReport{Err: err}
	}
	report.Left = time.Duration(max(left, 0)) * time.Millisecond // it may expire between the two
	switch held[0] {
	case 't':
		report.What = LeaseLoading
	case 'm':
		report.What = LeaseMissing
	case 'f':
		report.What = LeaseFilled
	case 'r':
		report.What = LeaseRenewing
	default:
		return LeaseReport{Err: fmt.Errorf("%q stands at its lease key", held[:1])}
	}
	return report
}

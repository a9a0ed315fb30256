package lease

import (
	"context"
	"errors"
	"time"
)

// State is what Redis says to an acquire.
type State int

// The states of a key that was missing.
const (
	Failed  State = iota // nobody knows: Err says why
	Hit                  // it has a value by now
	Missing              // it is known not to exist
	Wait                 // somebody else is loading it
	Granted              // the caller is to load it
)

// Grant is the right to fill in a key. It is good on the node that granted it, and on no other.
type Grant struct {
	Key   []byte
	Token string // of one call, never used again
	Node  string // address
}

// Acquired is the outcome of an acquire.
type Acquired struct {
	State State
	Value []byte // of Hit; nil where Redis has something that is no string
	Grant Grant  // of Granted
	Err   error  // of Failed
}

// Fill is a value for a key, or the word that there is none.
type Fill struct {
	Grant Grant
	Value []byte // must never be changed after
	Found bool   // false: the origin has no row
	// TTL is how long Redis keeps the value, at least a millisecond. Stale is the last part of it, in which the value is past
	// its time and one pod refreshes it; 0: there is none.
	TTL, Stale time.Duration
	Missing    time.Duration // for how long it is remembered that there is no row; 0: not at all
}

// Leases is Redis as the place of leases. Calls are safe for concurrent use. They end when ctx does, and what was sent may then still be
// carried out.
type Leases interface {
	// Acquire asks for the right to load keys, which lasts for a while after a grant. The outcomes come in the order of the keys.
	// It may be sent again with the same token.
	Acquire(ctx context.Context, keys [][]byte, token string, lasts time.Duration) []Acquired
	// Fill fills in what was loaded, where the right to it is still there. accepted[i] is false where it is not, errs[i] says that
	// nobody knows.
	Fill(ctx context.Context, fills []Fill) (accepted []bool, errs []error)
	// GiveBack gives up rights that were not used.
	GiveBack(ctx context.Context, grants []Grant)

	// Renew asks for the right to replace a value that a fill has put there, and that is past its time. Granted comes with the value's
	// fingerprint; Wait with how long it is not due. Missing says that there is nothing to renew.
	Renew(ctx context.Context, key []byte, token string, lasts time.Duration) Renewal
	// Replace is Fill for a renewal: the key must also hold the value of the fingerprint still. Where there is no row, the key is
	// removed.
	Replace(ctx context.Context, fill Fill, fingerprint string) (accepted bool, err error)
}

// Renewal is the outcome of a Renew.
type Renewal struct {
	State       State
	Grant       Grant
	Fingerprint string
	Due         time.Duration // of Wait
	Err         error         // of Failed
}

// The reasons why nobody could be given the right to fill in. All others mean that Redis cannot be reached.
var (
	// ErrMoving says that the key's slot is on its way between nodes.
	ErrMoving = errors.New("the key's slot is moving")
	// ErrRefused says that Redis does not take it: it is out of memory, read-only, or the sidecar's user lacks a right.
	ErrRefused = errors.New("Redis refuses")
	// ErrNone says that the key can have no lease.
	ErrNone = errors.New("the key can have no lease: it has a closing brace and no hash tag")
)

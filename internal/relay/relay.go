// Package relay is the contract between the two ends of a relayed command: the session of the client that sent it and the
// connection to Redis that carries it. All of it is used on one loop, without locks.
package relay

import "time"

// AnyNode is the Slot of a request that no key binds to a node: it goes to the fixed node, unless Request.Node names another.
const AnyNode = -1

// Request is one command on its way to Redis. The session owns it; it is lent to the lane from Send until its Sink has heard the
// last of it, and may be used again from then on.
type Request struct {
	Sink  Sink
	Owner *Owner
	Slot  int  // of its keys, or AnyNode
	Safe  bool // changes nothing, so that it may be sent again when a connection was lost
	Waits bool // may be answered as late as it likes, which only a link allows
	// Patience is how long it may wait for a connection, and be sent again, before it fails. Zero: as long as the lane finds right.
	Patience time.Duration
	// Node is the address of the one node that has to get it, whatever Slot says; empty for almost all.
	Node string
	// Lead is the size in bytes of a command that was put ahead of this one, the void of leases: both are one in what Send takes, go
	// over the same connection, and are sent again together. Its reply is an integer, and not for Sink. 0: there is none.
	Lead int

	// Raw is the command itself, without what leads it, while Sink's methods run, and not valid after.
	Raw []byte
	// Refused is what Redis said in place of carrying out what leads the command, where that will not change: the user lacks a right. It
	// is there while Sink's methods run.
	Refused []byte

	// The rest belongs to the lane.

	Leads    int       // replies that come before the command's own
	Asked    bool      // ASKING stands at the end of what leads it
	Next     *Request  // behind this one on the same connection
	Size     int       // bytes of the command, and of what leads it, on the connection
	Attempts int       // times that it was sent again
	Deadline time.Time // after which it is not sent again, once it was
	Moving   bool      // its slot has been on its way: it waits in spite of Patience
	Gating   bool      // counted in Owner.Gated
	Order    uint64    // among those that were ever gated
}

// Sink hears what becomes of a request. It must not send on the lane from within.
type Sink interface {
	// Reply brings the reply's next bytes, which are valid during the call; last says that they end it. It returns false when
	// the receiver has more buffered than it likes: the connection to Redis is then not read until Owner.Resume.
	Reply(r *Request, b []byte, last bool) (ready bool)
	// Fail says that no reply will come, in the place of Reply, or of the rest of a reply. The error is an Error.
	Fail(r *Request, err error)
}

// Error is an error made by the sidecar, as the text of a RESP error.
type Error string

func (e Error) Error() string { return string(e) }

// Owner is what lanes know of a session.
type Owner struct {
	// Gated counts requests that are being sent again, to another node or on another connection. While there are any, the
	// session must not send: the new request could overtake them.
	Gated int
	// Kill ends the session, since its replies cannot be right any more or hold up others. It does nothing when called again.
	Kill func(reason string)

	resume []func()
}

// OnResume has f called at the next Resume.
func (o *Owner) OnResume(f func()) { o.resume = append(o.resume, f) }

// Resume says that the session takes replies again, or that it is gone and never mind.
func (o *Owner) Resume() {
	if len(o.resume) == 0 {
		return
	}
	waiting := o.resume
	o.resume = nil
	for _, f := range waiting {
		f()
	}
}

// Identity is on whose behalf connections to Redis are made, and how they are set up. Sessions with the same one share
// connections.
type Identity struct {
	Protocol int // 2 or 3
	Database int
	// Own says that the client has authenticated by itself, with User and Password; else the configured user is meant.
	Own            bool
	User, Password string
}

// Lane is the set of shared connections, one to each node, for one identity.
type Lane interface {
	// Send relays a command, with what leads it. It copies raw.
	Send(r *Request, raw []byte)
	// Link opens a connection of its own to the node of a slot, or LinkTo to a node's address.
	Link(slot int) Link
	LinkTo(addr string) Link
	// Node is the address of the node of a slot, empty while it is unknown.
	Node(slot int) string
	// Redirected tells whether an error reply of a node says that another one has to be asked, and notes what it says. ask is
	// for that one command alone. The address is empty when the same node is to be asked later.
	Redirected(reply []byte, from string) (addr string, ask, is bool)
	// Epoch changes when requests take another way than those before. A session may not send while it has replies
	// outstanding from before the change.
	Epoch() uint64
	// Release gives up the lane.
	Release()
}

// Own is what a session asks of a lane of its own.
type Own struct {
	Owner *Owner
	// Setup returns the commands that put a connection to a node into the session's state, before any other. Nil: there are none.
	Setup func(addr string) [][]byte
	// Everywhere has connections to all masters made, not only to those that are needed.
	Everywhere bool
	// Push gets what Redis sends by itself, and Lost hears that a connection broke. Both may be nil. Push returns false when it wants no
	// more before Owner.Resume; it gets more all the same over a connection that owes a reply.
	Push func(b []byte, last bool) (ready bool)
	Lost func(err error)
}

// Link is a connection to one node for one session's use. Its commands are not kept, so that nothing is sent again, and their
// errors, redirects among them, are the session's to read.
type Link interface {
	// Addr is the node's address, empty when none is known.
	Addr() string
	// Send sends a command, behind those that are not answered yet. r may be nil where nobody waits for a reply, or where it
	// comes by OnOther.
	Send(r *Request, raw []byte)
	// Owes says whether a reply is due that comes by OnOther. A node that owes one must not be silent for long.
	Owes(due bool)
	// Begin sends the first part of a command, and More brings the rest of it; last says that it ends there.
	Begin(r *Request, raw []byte)
	More(raw []byte, last bool)
	// Buffered is the number of bytes that wait to be sent, and NotifyBelow has f called once when it has fallen to n.
	Buffered() int
	NotifyBelow(n int, f func())
	// OnOther has f called with what comes and answers no request: pushes, and whole replies while none is due. It returns
	// false when it wants no more before Owner.Resume; it gets more all the same while a reply is due.
	OnOther(owner *Owner, f func(b []byte, last bool) (ready bool))
	// OnLost has f called when the connection breaks, after its requests have failed.
	OnLost(f func(err error))
	// Lasts says that the client decides how long the link is used, and that the node takes AUTH over it while it owes nothing.
	Lasts()
	// Estrange says that the session changes the identity of the connection, which is no other session's after that.
	Estrange()
	// Release gives the link up: open for other sessions when it is in the state of a new connection and owes no reply, else
	// closed.
	Release(clean bool)
}

// Node is a server of the Redis behind the sidecar.
type Node struct {
	Addr string // host:port
	// Slot is one that it owns, so that a request for that slot is one for this node, or for the one that takes its place.
	// A replica has AnyNode.
	Slot int
}

// Server is what a client is told of the Redis behind the sidecar.
type Server struct {
	Version string // redis_version, such as "7.0.15"; empty while it is unknown
	Cluster bool
	Awaited bool // it has not been found yet, and may be at any moment
}

package command

// Handling is what a proxy that looks like one server does with a command.
type Handling uint8

const (
	// ByKey: relayed to the node of the slot of its keys (or, with
	// Info.Channels, its channels). With none among the arguments it is
	// handled as FixedNode. Keys of several slots are that node's CROSSSLOT.
	ByKey Handling = iota + 1
	// BySlot: relayed to the node of the slot that args[2] names in decimal;
	// if that is no slot, handled as FixedNode.
	BySlot
	// FixedNode: relayed to the one node that serves whatever has no better place.
	FixedNode
	// Local: answered by the client's session itself: Info.Action.
	Local
	// Split: as ByKey while all keys are of one slot; else one command for each
	// slot, made of the name and, for each of its keys, the Info.KeyStep
	// arguments that begin with the key. The replies are merged by Info.Response.
	// A last key with too few arguments makes it one with the wrong number of them.
	Split
	// AllShards: sent to every master, the replies merged by Info.Response.
	AllShards
	// AllNodes: sent to every master and replica, the replies merged by Info.Response.
	AllNodes
	// Scan: one master after the other, with the master kept in the cursor.
	Scan
	// RandomKey: asked of one master after the other, from a random one on, until
	// one has a key.
	RandomKey
	// Private: relayed over a connection of the session's own: Info.Reason.
	Private
)

var handlingNames = [...]string{"", "by key", "by slot", "fixed node", "local", "split", "all shards", "all nodes", "scan", "random key", "private"}

func (h Handling) String() string { return handlingNames[h] }

// Action is what the session does for a command whose Handling is Local, or Private with a state that the session keeps.
type Action uint8

const (
	ActionNone Action = iota
	ActionAuth
	ActionHello
	ActionSelect
	ActionQuit
	ActionReset
	ActionClose // closes the connection without a reply
	ActionReadonly
	ActionReadwrite
	ActionAsking
	ActionClientSetName
	ActionClientGetName
	ActionClientSetInfo
	ActionClientID
	ActionClientInfo
	ActionClientList
	ActionClientKill
	ActionClientUnblock
	ActionClientTrackingInfo
	ActionClientGetRedir
	ActionClusterSlots
	ActionClusterShards
	ActionClusterNodes
	ActionClusterInfo
	ActionClusterMyID
	ActionClusterMyShardID
	ActionClusterKeySlot
	ActionClusterLinks
	ActionClusterReplicas
	ActionClusterFailureReports

	// Of Private, with ReasonTransaction.
	ActionMulti
	ActionExec
	ActionDiscard
	ActionWatch
	ActionUnwatch

	// Of Private, with ReasonReply, ReasonTracking and ReasonState.
	ActionClientReply
	ActionClientTracking
	ActionClientCaching
	ActionClientNoEvict
	ActionClientNoTouch
)

var actionNames = [...]string{
	"", "auth", "hello", "select", "quit", "reset", "close", "readonly", "readwrite", "asking",
	"client setname", "client getname", "client setinfo", "client id", "client info", "client list", "client kill",
	"client unblock", "client trackinginfo", "client getredir", "cluster slots", "cluster shards", "cluster nodes",
	"cluster info", "cluster myid", "cluster myshardid", "cluster keyslot", "cluster links", "cluster replicas",
	"cluster count-failure-reports", "multi", "exec", "discard", "watch", "unwatch",
	"client reply", "client tracking", "client caching", "client no-evict", "client no-touch",
}

func (a Action) String() string { return actionNames[a] }

// Reason is why a command whose Handling is Private cannot use a shared connection.
type Reason uint8

const (
	ReasonNone        Reason = iota // Handling is not Private
	ReasonTransaction               // MULTI and WATCH belong to a connection
	ReasonSubscribe                 // so do subscriptions
	ReasonBlocking                  // the replies of others would wait: but see Info.Blocks
	ReasonWait                      // waits for the replicas of what its own connection wrote
	ReasonMonitor                   // the connection becomes a stream of commands
	ReasonReplication               // the connection becomes a replica's
	ReasonReply                     // replies stop, or one is left out
	ReasonTracking                  // invalidations come for what its own connection read
	ReasonState                     // sets some other state of its own connection
)

var reasonNames = [...]string{"", "transaction", "subscribe", "blocking", "wait", "monitor", "replication", "reply", "tracking", "state"}

func (r Reason) String() string { return reasonNames[r] }

// Request is the request_policy among a command's tips: which nodes the server
// would have a cluster client send it to. Handling is what follows from it.
type Request uint8

const (
	RequestDefault Request = iota
	RequestMultiShard
	RequestAllShards
	RequestAllNodes
	RequestSpecial // or a policy that this package does not know
)

var requestNames = [...]string{"", "multi_shard", "all_shards", "all_nodes", "special"}

func (r Request) String() string { return requestNames[r] }

// Response is how the replies of Split, AllShards and AllNodes become one. Up to
// ResponseSpecial it is the response_policy among a command's tips
// (redis.io/docs, "Command tips"). An error from any party is the reply, the
// first in key order, except for ResponseOneSucceeded.
type Response uint8

const (
	// ResponseDefault joins arrays, sets or maps: elements in the order of the
	// keys for Split, one party's after the other's for the rest.
	ResponseDefault       Response = iota
	ResponseOneSucceeded           // the first reply that is no error
	ResponseAllSucceeded           // any reply
	ResponseAggLogicalAnd          // integers of 0 and 1, or arrays of them by position
	ResponseAggLogicalOr
	ResponseAggMin // integers
	ResponseAggMax
	ResponseAggSum
	ResponseSpecial // or a policy that this package does not know; no Handling that merges has it
	// ResponseUnion joins arrays and leaves out what was there before.
	ResponseUnion
	// ResponseSumPairs adds up the integers of arrays of the same names:
	// name, integer, name, integer …
	ResponseSumPairs
)

var responseNames = [...]string{
	"", "one_succeeded", "all_succeeded", "agg_logical_and", "agg_logical_or", "agg_min", "agg_max",
	"agg_sum", "special", "union", "sum pairs",
}

func (r Response) String() string { return responseNames[r] }

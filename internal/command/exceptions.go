package command

// exception overrules, for the commands it names, what classify makes of the
// server's description. Names that a server does not have do not matter.
type exception struct {
	names    []string
	handling Handling // 0: as classify says
	action   Action
	reason   Reason
	response Response
	finder   keyFinder
	option   bool   // blocks only with the option BLOCK before the key specs' keyword
	why      string // shown in the documents, as Info.Why
}

// exceptions is the reviewed list. A change here changes testdata/handling.golden.
var exceptions = []exception{
	// Answered by the session.
	local("auth", ActionAuth, "moves the session to connections of that user"),
	local("hello", ActionHello, "moves the session to connections of that protocol and user"),
	local("select", ActionSelect, "moves the session to connections of that database"),
	local("quit", ActionQuit, "closes the client's connection, not a shared one"),
	local("reset", ActionReset, "resets the session, not a shared connection"),
	local("host:", ActionClose, "the server takes it for an HTTP request and closes the connection"),
	local("post", ActionClose, "the server takes it for an HTTP request and closes the connection"),
	local("readonly", ActionReadonly, "reads go to masters in any case"),
	local("readwrite", ActionReadwrite, "reads go to masters in any case"),
	local("asking", ActionAsking, "redirects are followed inside"),
	local("client|setname", ActionClientSetName, "the name belongs to the session"),
	local("client|getname", ActionClientGetName, "the name belongs to the session"),
	local("client|setinfo", ActionClientSetInfo, "the library belongs to the session"),
	local("client|id", ActionClientID, "the server's id is that of a shared connection"),
	local("client|info", ActionClientInfo, "the server describes a shared connection"),
	local("client|list", ActionClientList, "the server lists shared connections"),
	local("client|kill", ActionClientKill, "ids and addresses are those of sessions"),
	local("client|unblock", ActionClientUnblock, "ids are those of sessions"),
	local("client|trackinginfo", ActionClientTrackingInfo, "tracking is the session's"),
	local("client|getredir", ActionClientGetRedir, "ids are those of sessions"),
	local("cluster|slots", ActionClusterSlots, describesItself),
	local("cluster|shards", ActionClusterShards, describesItself),
	local("cluster|nodes", ActionClusterNodes, describesItself),
	local("cluster|info", ActionClusterInfo, describesItself),
	local("cluster|myid", ActionClusterMyID, describesItself),
	local("cluster|myshardid", ActionClusterMyShardID, describesItself),
	local("cluster|keyslot", ActionClusterKeySlot, "a matter of arithmetic, also where the upstream is no cluster"),
	local("cluster|links", ActionClusterLinks, describesItself),
	local("cluster|replicas", ActionClusterReplicas, describesItself),
	local("cluster|slaves", ActionClusterReplicas, describesItself),
	local("cluster|count-failure-reports", ActionClusterFailureReports, describesItself),

	// State of a connection.
	transaction("multi", ActionMulti),
	transaction("exec", ActionExec),
	transaction("discard", ActionDiscard),
	transaction("watch", ActionWatch),
	transaction("unwatch", ActionUnwatch),
	private(ReasonSubscribe, "subscriptions belong to a connection",
		"subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe"),
	private(ReasonMonitor, "the connection becomes a stream of commands", "monitor"),
	private(ReasonReplication, "the connection becomes a replica's", "sync", "psync", "replconf"),
	private(ReasonWait, "a shared connection's writes are not the session's, and others would wait", "wait", "waitaof"),
	stateful("client|reply", ActionClientReply, ReasonReply, "replies of a shared connection may not stop"),
	stateful("client|tracking", ActionClientTracking, ReasonTracking, "invalidations go to the connection that read the key"),
	stateful("client|caching", ActionClientCaching, ReasonTracking, "is about the next command of its connection"),
	stateful("client|no-evict", ActionClientNoEvict, ReasonState, "sets a state of its connection"),
	stateful("client|no-touch", ActionClientNoTouch, ReasonState, "sets a state of its connection"),
	private(ReasonState, "sets a state of its connection", "script|debug"),
	private(ReasonState, "whatever CLIENT does that is not listed here, it may do to its connection", "client|*"),
	{names: []string{"client|help"}, handling: FixedNode, why: "only text"},

	// Tips that do not suit a proxy, and tips that are missing.
	{
		names: []string{"ping"}, handling: FixedNode,
		why: "tipped all_shards to probe a cluster; one server gives one answer, with its own LOADING or NOPERM",
	},
	{
		names: []string{"msetnx"}, handling: ByKey,
		why: "tipped multi_shard, but split it could set some keys and not others, when its promise is all or none",
	},
	{names: []string{"scan"}, handling: Scan, why: "the cursor must say which master it belongs to"},
	{names: []string{"randomkey"}, handling: RandomKey, why: "one key is wanted, null only where no master has any"},
	{
		names:    []string{"acl|setuser", "acl|deluser", "acl|load", "acl|save", "config|resetstat", "config|rewrite"},
		handling: AllNodes, response: ResponseAllSucceeded,
		why: "a node's users, configuration and statistics are its own; later servers tip most of these so",
	},
	{
		names: []string{"client|pause", "client|unpause"}, handling: AllShards, response: ResponseAllSucceeded,
		why: "pauses a server's clients, and all masters are the server",
	},
	{
		names: []string{"cluster|countkeysinslot", "cluster|getkeysinslot"}, handling: BySlot,
		why: "a node counts and lists the keys it has",
	},
	{
		names: []string{"publish"}, handling: FixedNode,
		why: "any node passes it to all; one node keeps a client's messages in order",
	},
	{
		names: []string{"pubsub|channels", "pubsub|shardchannels"}, handling: AllShards, response: ResponseUnion,
		why: "a node knows its own subscribers only",
	},
	{
		names: []string{"pubsub|numsub", "pubsub|shardnumsub"}, handling: AllShards, response: ResponseSumPairs,
		why: "a node knows its own subscribers only",
	},
	{
		names: []string{"pubsub|numpat"}, handling: AllShards, response: ResponseAggSum,
		why: "a node knows its own subscribers only; a pattern used at several nodes counts several times",
	},

	// What key specs cannot say.
	{names: []string{"sort"}, finder: sortKeys, why: "STORE may stand anywhere among the options"},
	{names: []string{"sort_ro"}, finder: firstArgument, why: "the keys that BY and GET reach are known to the server only"},
	{names: []string{"migrate"}, finder: migrateKeys, why: "KEYS may also be a password"},
	{names: []string{"xread", "xreadgroup"}, option: true, why: "blocks only with the option BLOCK"},
}

// readsThrough are the commands whose reply is, for each key and in their order, its value or null.
var readsThrough = map[string]bool{"get": true, "mget": true, "getex": true}

// repeatable is the reviewed list of commands that run as well twice as once, although they are no reads of keys: they tell of the
// server, or do nothing. ACL LOG, which may be told to forget, and whatever is not listed here, is not sent again.
var repeatable = func() map[string]bool {
	names := make(map[string]bool)
	for _, name := range []string{
		"ping", "echo", "time", "lastsave", "role", "info",
		"command", "command|count", "command|docs", "command|getkeys", "command|getkeysandflags", "command|help", "command|info", "command|list",
		"config|get", "config|help", "client|help", "module|list", "module|help", "object|help", "xinfo|help", "xgroup|help", "cluster|help",
		"acl|cat", "acl|dryrun", "acl|genpass", "acl|getuser", "acl|help", "acl|list", "acl|users", "acl|whoami",
		"memory|doctor", "memory|help", "memory|malloc-stats", "memory|stats",
		"latency|doctor", "latency|graph", "latency|help", "latency|histogram", "latency|history", "latency|latest",
		"slowlog|get", "slowlog|help", "slowlog|len",
		"pubsub|channels", "pubsub|help", "pubsub|numpat", "pubsub|numsub", "pubsub|shardchannels", "pubsub|shardnumsub",
		"script|exists", "script|help", "function|dump", "function|help", "function|list", "function|stats",
		"cluster|countkeysinslot", "cluster|getkeysinslot", "cluster|slots", "cluster|shards", "cluster|nodes", "cluster|info", "cluster|myid",
		"cluster|myshardid", "cluster|keyslot", "cluster|links", "cluster|replicas", "cluster|slaves", "cluster|count-failure-reports",
	} {
		names[name] = true
	}
	return names
}()

const describesItself = "the cluster that a client sees is one node with every slot"

func local(name string, action Action, why string) exception {
	return exception{names: []string{name}, handling: Local, action: action, why: why}
}

func private(reason Reason, why string, names ...string) exception {
	return exception{names: names, handling: Private, reason: reason, why: why}
}

func transaction(name string, action Action) exception {
	return stateful(name, action, ReasonTransaction, "a transaction belongs to a connection")
}

func stateful(name string, action Action, reason Reason, why string) exception {
	return exception{names: []string{name}, handling: Private, action: action, reason: reason, why: why}
}

// unlisted are the names that a server acts on although its COMMAND does not
// list them: both close the connection, whatever the arguments are.
var unlisted = []Entry{{Name: "host:", Arity: -1}, {Name: "post", Arity: -1}}

var exceptionsByName = func() map[string]*exception {
	byName := make(map[string]*exception)
	for i := range exceptions {
		for _, name := range exceptions[i].names {
			byName[name] = &exceptions[i]
		}
	}
	return byName
}()

// exceptionFor returns the exception for a command or, failing that, for
// any subcommand of its parent, or nil.
func exceptionFor(i *Info) *exception {
	if x := exceptionsByName[i.Name]; x != nil || i.Parent == nil {
		return x
	}
	return exceptionsByName[i.Parent.Name+"|*"]
}

package parity

// sharedShapes are the commands of the sequences of several clients, in the form of shapes: those that have a state or act on other
// clients, and enough to act with. The groups tell what a client may say when.
var sharedShapes = map[string]string{
	"data": `
		SET str short [ GET | NX ]
		GET str
		APPEND str short
		INCR ( num | list )
		DEL key key
		EXISTS key
		RENAME list list
		LPUSH list short +
		RPUSH list short +
		LPOP list [ 2 ]
		RPOP list
		LMOVE list list LEFT RIGHT
		LRANGE list 0 -1
		LLEN list
		SADD set member +
		SREM set member
		HSET hash field short
		HDEL hash field
		ZADD zset score zmember
		ZPOPMIN zset
		ZRANGE zset 0 -1 WITHSCORES
		XADD stream newid f short
		XLEN stream
		XACK stream g1 newid
		XGROUP CREATE stream g1 $ MKSTREAM
		XGROUP DESTROY stream g1
		EXPIRE key 1000
		PERSIST key
		PING
		ECHO short
		NOSUCHCOMMAND
		GET
		TYPE key`,
	"scripts": `
		EVAL setter 1 str short
		EVAL publisher 1 str channel short
		EVAL pusher 1 list short
		EVAL failing 1 str
		EVAL_RO reader 1 str
		EVALSHA sha 1 key short
		FCALL count 1 num
		FCALL_RO echo 1 key short
		SCRIPT EXISTS sha
		SCRIPT KILL
		FUNCTION KILL
		FUNCTION STATS`,
	"transactions": `
		MULTI
		MULTI
		MULTI
		EXEC
		DISCARD
		WATCH key
		WATCH key
		WATCH key key
		UNWATCH
		WATCH`,
	"blocking": `
		BLPOP list list timeout
		BRPOP list timeout
		BLMOVE list list LEFT ( LEFT | RIGHT ) timeout
		BRPOPLPUSH list list timeout
		BLMPOP timeout numkeys list list LEFT [ COUNT 2 ]
		BZPOPMIN zset zset timeout
		BZPOPMAX zset timeout
		BZMPOP timeout 1 zset MIN
		XREAD BLOCK msecs STREAMS stream $
		XREAD COUNT 2 BLOCK msecs STREAMS stream stream $ 0-0
		XREADGROUP GROUP g1 c1 BLOCK msecs STREAMS stream >
		BLPOP list ( abc | -1 )
		WAIT 0 0
		WAIT 1 20`,
	"publishing": `
		PUBLISH channel short
		PUBLISH channel short
		SPUBLISH shard short
		PUBSUB CHANNELS [ pattern ]
		PUBSUB NUMSUB channel channel
		PUBSUB NUMPAT
		PUBSUB SHARDCHANNELS
		PUBSUB SHARDNUMSUB shard`,
	"subscribing": `
		SUBSCRIBE channel +
		SUBSCRIBE channel
		PSUBSCRIBE channels +
		SSUBSCRIBE shard
		UNSUBSCRIBE [ channel + ]
		PUNSUBSCRIBE [ channels + ]
		SUNSUBSCRIBE [ shard ]`,
	"notifications": `
		PSUBSCRIBE keyspace
		PUNSUBSCRIBE keyspace`,
	"connection": `
		! HELLO ( 2 | 3 )
		! HELLO 3 SETNAME word
		! HELLO 2 AUTH nobody short
		! RESET
		! QUIT
		PING short
		CLIENT SETNAME word
		CLIENT GETNAME
		CLIENT ID
		CLIENT INFO
		CLIENT LIST [ ID client | TYPE ( normal | pubsub | replica | abc ) ]
		CLIENT KILL ( ID client | TYPE ( master | abc ) | ADDR 1.2.3.4:5 )
		CLIENT KILL 1.2.3.4:5
		CLIENT UNBLOCK client [ TIMEOUT | ERROR | ABC ]
		CLIENT UNBLOCK 99999999
		CLIENT NO-EVICT ( ON | OFF | ABC )
		CLIENT NO-TOUCH ( ON | OFF )
		CLIENT SETINFO LIB-NAME word
		CLIENT MYID
		SELECT ( 0 | 0 | 1 | abc )
		READONLY
		ASKING`,
	"replies": `
		CLIENT REPLY OFF
		CLIENT REPLY SKIP
		CLIENT REPLY ABC`,
	"tracking": `
		CLIENT TRACKING ON
		CLIENT TRACKING ON [ BCAST PREFIX tagged ] [ NOLOOP ]
		CLIENT TRACKING ON ( OPTIN | OPTOUT )
		CLIENT TRACKING ON ( OPTIN OPTOUT | PREFIX x | BCAST OPTIN | REDIRECT 99999999 )
		CLIENT TRACKING OFF
		CLIENT TRACKING ABC
		CLIENT CACHING ( YES | NO | ABC )
		CLIENT TRACKINGINFO
		CLIENT GETREDIR`,
}

func init() {
	for name, f := range map[string]func(g *generator) string{
		"client":    func(g *generator) string { return clientName(g.IntN(crowdSize)) },
		"timeout":   func(g *generator) string { return g.oneOf("0", "0", "0.01") },
		"msecs":     func(g *generator) string { return g.oneOf("0", "0", "10") },
		"channel":   func(g *generator) string { return g.oneOf("news", "sport", "a\r\nb") },
		"channels":  func(g *generator) string { return g.oneOf("n*", "*", "sp?rt", "s*") },
		"keyspace":  func(g *generator) string { return g.oneOf("__key*__:*", "__keyevent@0__:*") },
		"shard":     func(g *generator) string { return "{" + g.tag + "}" + g.oneOf("s1", "s2") },
		"tagged":    func(g *generator) string { return "{" + g.tag + "}" + g.oneOf("", "str", "list") },
		"newid":     func(g *generator) string { g.times++; return "1000-" + g.number() },
		"setter":    func(*generator) string { return `return redis.call('SET', KEYS[1], ARGV[1])` },
		"publisher": func(*generator) string { return `return redis.call('PUBLISH', ARGV[1], ARGV[2])` },
		"pusher":    func(*generator) string { return `return redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[1])` },
		"reader":    func(*generator) string { return `return redis.call('GET', KEYS[1])` },
		"failing":   func(*generator) string { return `redis.call('SET', KEYS[1], 'x') return redis.call('NOSUCH')` },
	} {
		values[name] = f
	}
}

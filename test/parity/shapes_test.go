package parity

// shapes are the commands that sequences are made of, one shape a line, by what they work on.
//
//	WORD      as it stands; sometimes in another case
//	word      a random value of that kind: see generator.value
//	[ … ]     sometimes left out
//	( … | … ) one of these; alternatives also stand in brackets
//	… +       one to three times
//	'…        literally what follows, be it nothing
//	! …       never with an argument too few or too many, as the other shapes are at times
//
// Shapes avoid what would let two servers drift apart: ids and times that a server makes up, and choices at random. So a command
// that picks members at random is asked for all of them, and the ACL log, which tells how the sidecar checked a password, is not read.
var shapes = map[string]string{
	"strings": `
		APPEND str val
		DECR num
		DECRBY num int
		GET str
		GETDEL str
		GETEX str [ PERSIST | EX secs | EXAT farsecs | PXAT farms ]
		GETRANGE str index index
		GETSET str val
		INCR num
		INCRBY num int
		INCRBYFLOAT num float
		LCS str str [ LEN | IDX [ MINMATCHLEN small ] [ WITHMATCHLEN ] ]
		MGET str +
		MSET ( str val ) +
		MSETNX ( str val ) +
		PSETEX str ms val
		SET ( str val | num int ) [ NX | XX ] [ GET ] [ EX secs | PX ms | EXAT farsecs | PXAT farms | KEEPTTL ]
		SETEX str ( secs | secs | 0 | -1 ) val
		SETNX str val
		SETRANGE str ( offset | -1 ) val
		STRLEN str
		SUBSTR str index index`,
	"bitmaps": `
		BITCOUNT bits [ index index [ BYTE | BIT ] ]
		BITFIELD bits ( ( GET | SET | INCRBY ) bittype offset int | OVERFLOW ( WRAP | SAT | FAIL ) ) +
		BITFIELD bits OVERFLOW FAIL INCRBY u2 offset int GET bittype offset
		BITFIELD bits GET bittype offset
		BITFIELD_RO bits GET bittype offset
		BITOP ( AND | OR | XOR ) key bits +
		BITOP NOT bits bits
		BITPOS bits ( 0 | 1 ) [ index [ index [ BIT ] ] ]
		GETBIT bits offset
		SETBIT bits offset ( 0 | 1 )`,
	"hyperloglog": `
		PFADD hll val +
		PFCOUNT hll +
		PFMERGE hll hll +
		PFDEBUG ( ENCODING | DECODE | TODENSE ) hll`,
	"lists": `
		LINDEX list index
		LINSERT list ( BEFORE | AFTER ) val val
		LLEN list
		LMOVE list list ( LEFT | RIGHT ) ( LEFT | RIGHT )
		LMPOP numkeys list list ( LEFT | RIGHT ) [ COUNT small ]
		LPOP list [ small ]
		LPOS list val [ RANK index ] [ COUNT small ] [ MAXLEN small ]
		LPUSH list val +
		LPUSHX list val
		LRANGE list index index
		LREM list index val
		LSET list index val
		LTRIM list index index
		RPOP list [ small ]
		RPOPLPUSH list list
		RPUSH list val +
		RPUSHX list val +`,
	"hashes": `
		HDEL hash field +
		HEXISTS hash field
		HGET hash field
		HGETALL hash
		HINCRBY hash field int
		HINCRBYFLOAT hash field float
		HKEYS hash
		HLEN hash
		HMGET hash field +
		HMSET hash ( field short ) +
		! HRANDFIELD hash 1000 [ WITHVALUES ]
		HSCAN hash ( 0 | abc ) [ MATCH pattern ] [ COUNT 1000 ]
		HSET hash ( field short ) +
		HSETNX hash field short
		HSTRLEN hash field
		HVALS hash`,
	"sets": `
		SADD set member +
		SCARD set
		SDIFF set +
		SDIFFSTORE set set +
		SINTER set +
		SINTERCARD numkeys set set [ LIMIT small ]
		SINTERSTORE set set +
		SISMEMBER set member
		SMEMBERS set
		SMISMEMBER set member +
		SMOVE set set member
		! SPOP set ( 1000 | 0 | -1 )
		! SRANDMEMBER set 1000
		SREM set member +
		SSCAN set 0 [ MATCH pattern ] COUNT ( 1000 | 0 )
		SUNION set +
		SUNIONSTORE set set +`,
	"sorted sets": `
		ZADD zset [ NX | XX ] [ GT | LT ] [ CH ] ( score zmember ) +
		ZADD zset [ XX ] INCR score zmember
		ZCARD zset
		ZCOUNT zset bound bound
		ZDIFF numkeys zset zset [ WITHSCORES ]
		ZDIFFSTORE zset numkeys zset zset
		ZINCRBY zset score zmember
		ZINTER numkeys zset zset [ WEIGHTS score score ] [ AGGREGATE ( SUM | MIN | MAX ) ] [ WITHSCORES ]
		ZINTERCARD numkeys zset zset [ LIMIT small ]
		ZINTERSTORE zset numkeys zset zset [ WEIGHTS score score ] [ AGGREGATE ( SUM | MIN | MAX ) ]
		ZLEXCOUNT zset lex lex
		ZMPOP numkeys zset zset ( MIN | MAX ) [ COUNT small ]
		ZMSCORE zset zmember +
		ZPOPMAX zset [ small ]
		ZPOPMIN zset [ small ]
		! ZRANDMEMBER zset 1000 [ WITHSCORES ]
		ZRANGE zset index index [ REV ] [ WITHSCORES ]
		ZRANGE zset bound bound BYSCORE [ REV ] [ LIMIT small index ] [ WITHSCORES ]
		ZRANGE zset lex lex BYLEX [ REV ] [ LIMIT small index ]
		ZRANGEBYLEX zset lex lex [ LIMIT small index ]
		ZRANGEBYSCORE zset bound bound [ WITHSCORES ] [ LIMIT small index ]
		ZRANGESTORE zset zset index index
		ZRANK zset zmember
		ZREM zset zmember +
		ZREMRANGEBYLEX zset lex lex
		ZREMRANGEBYRANK zset index index
		ZREMRANGEBYSCORE zset bound bound
		ZREVRANGE zset index index [ WITHSCORES ]
		ZREVRANGEBYLEX zset lex lex
		ZREVRANGEBYSCORE zset bound bound [ WITHSCORES ]
		ZREVRANK zset zmember
		ZSCAN zset 0 [ MATCH pattern ] COUNT 1000
		ZSCORE zset zmember
		ZUNION numkeys zset zset [ WEIGHTS score score ] [ AGGREGATE ( SUM | MIN | MAX ) ] [ WITHSCORES ]
		ZUNIONSTORE zset numkeys zset zset [ WEIGHTS score score ]`,
	"geo": `
		GEOADD geo [ NX | XX ] [ CH ] ( lon lat zmember ) +
		GEODIST geo zmember zmember [ unit ]
		GEOHASH geo zmember +
		GEOPOS geo zmember +
		GEORADIUS geo lon lat radius unit [ WITHCOORD ] [ WITHDIST ] [ WITHHASH ] [ COUNT 5 ] [ ASC | DESC ]
		GEORADIUS geo lon lat radius unit ( STORE | STOREDIST ) zset
		GEORADIUS_RO geo lon lat radius unit [ WITHDIST ] ASC
		GEORADIUSBYMEMBER geo zmember radius unit [ WITHCOORD ] [ ASC | DESC ] [ STORE geo ]
		GEORADIUSBYMEMBER_RO geo zmember radius unit DESC
		GEOSEARCH geo ( FROMMEMBER zmember | FROMLONLAT lon lat ) ( BYRADIUS radius unit | BYBOX radius radius unit ) [ ASC | DESC ] [ WITHCOORD ] [ WITHDIST ]
		GEOSEARCHSTORE geo geo FROMLONLAT lon lat BYRADIUS radius unit ASC [ COUNT small ] [ STOREDIST ]`,
	"streams": `
		XACK stream group id +
		XADD stream [ NOMKSTREAM ] [ MAXLEN [ = ] 20 | MINID id ] id ( field short ) +
		XAUTOCLAIM stream group consumer 0 ( 0-0 | id ) [ COUNT 10 ] [ JUSTID ]
		XCLAIM stream group consumer 0 id + [ FORCE ] [ JUSTID ]
		XDEL stream id +
		XGROUP CREATE stream group ( 0 | $ | id ) [ MKSTREAM ]
		XGROUP CREATECONSUMER stream group consumer
		XGROUP DELCONSUMER stream group consumer
		XGROUP DESTROY stream group
		XGROUP SETID stream group ( 0 | $ | id )
		XGROUP HELP
		XINFO CONSUMERS stream group
		XINFO GROUPS stream
		XINFO STREAM stream [ FULL [ COUNT 5 ] ]
		XINFO HELP
		XLEN stream
		XPENDING stream group [ ( - '+ | id id ) 10 [ consumer ] ]
		XRANGE stream ( - | id ) ( '+ | id ) [ COUNT small ]
		XREAD [ COUNT 3 ] STREAMS ( stream id | stream stream 0-0 id )
		XREADGROUP GROUP group consumer [ COUNT 3 ] [ NOACK ] STREAMS stream ( > | 0 | id )
		XREVRANGE stream ( '+ | id ) ( - | id ) [ COUNT small ]
		XSETID stream ( id | 999-0 )
		XTRIM stream ( MAXLEN | MINID ) [ = | ~ ] 10`,
	"keys": `
		COPY key key [ REPLACE ]
		DEL key +
		DUMP key
		EXISTS key +
		EXPIRE key secs [ NX | XX | GT | LT ]
		EXPIRE key ( 0 | -1 )
		EXPIREAT key ( farsecs | 1 ) [ NX | XX | GT | LT ]
		EXPIRETIME key
		MIGRATE 127.0.0.1 1 key 0 10
		MIGRATE 127.0.0.1 1 ' 0 10 KEYS key +
		OBJECT ENCODING key
		OBJECT FREQ key
		OBJECT HELP
		OBJECT IDLETIME key
		OBJECT REFCOUNT num
		PERSIST key
		PEXPIRE key ms [ NX | XX | GT | LT ]
		PEXPIREAT key farms
		PEXPIRETIME key
		PTTL key
		RENAME key key
		RENAMENX key key
		RESTORE key 0 payload [ REPLACE ] [ IDLETIME 5 ]
		RESTORE-ASKING key 0 payload REPLACE
		SORT ( list | set | zset ) [ LIMIT small small ] [ ASC | DESC ] ALPHA [ STORE key ]
		SORT list [ DESC ] [ GET # ]
		SORT_RO ( list | set ) ALPHA [ LIMIT small small ]
		TOUCH key +
		TTL key
		TYPE key
		UNLINK key +`,
	"scripts": `
		EVAL script numkeys key key val
		EVAL script 1 key val
		EVAL script 0 val
		EVAL_RO script 1 key val
		EVALSHA sha 1 key val
		EVALSHA_RO sha 1 key val
		FCALL ( echo | count | nosuch ) 1 key val
		FCALL_RO ( echo | count ) 1 key val`,
	"slots": `
		CLUSTER COUNT-FAILURE-REPORTS word
		CLUSTER INFO
		CLUSTER KEYSLOT key
		CLUSTER LINKS
		CLUSTER MYID
		CLUSTER NODES
		CLUSTER REPLICAS word
		CLUSTER SHARDS
		CLUSTER SLAVES word
		CLUSTER SLOTS
		CLUSTER COUNTKEYSINSLOT ( slot | -1 | 16384 )
		CLUSTER GETKEYSINSLOT slot ( 10 | -1 )
		PUBLISH key val
		SPUBLISH key val`,
	"connection": `
		ASKING
		! AUTH [ short | default secret | nobody short | a b c ]
		CLIENT GETNAME
		CLIENT ID
		CLIENT SETNAME ( word | short )
		ECHO val
		! HELLO [ 2 | 3 ]
		! HELLO ( 2 | 3 ) SETNAME word
		! HELLO 2 AUTH nobody short
		HELLO ( 1 | 4 | abc )
		! HELLO 3 NONSENSE
		PING [ val ]
		READONLY
		READWRITE
		RESET
		SELECT ( 0 | 0 | 1 | 2 | 99 | abc )`,
	"server": `
		ACL CAT [ read | nosuch ]
		ACL DELUSER nobody
		ACL DRYRUN default ( GET key | SET key )
		ACL DRYRUN nobody GET key
		ACL GENPASS [ 16 ]
		ACL GETUSER ( default | nobody )
		ACL HELP
		ACL LIST
		ACL LOAD
		! ACL LOG RESET
		ACL SAVE
		ACL SETUSER app on nopass ~app:* +@read
		ACL SETUSER app nonsense
		ACL USERS
		ACL WHOAMI
		CLIENT HELP
		CLIENT PAUSE 0
		CLIENT UNPAUSE
		CLUSTER ADDSLOTS ( 0 | 99999 )
		CLUSTER ADDSLOTSRANGE 0 ( 1 | abc )
		CLUSTER BUMPEPOCH
		CLUSTER DELSLOTS ( 99999 | abc )
		CLUSTER DELSLOTSRANGE 0 99999
		CLUSTER FAILOVER
		CLUSTER FORGET 0123456789012345678901234567890123456789
		CLUSTER HELP
		CLUSTER MEET nohost noport
		CLUSTER REPLICATE 0123456789012345678901234567890123456789
		CLUSTER SAVECONFIG
		CLUSTER SET-CONFIG-EPOCH -1
		CLUSTER SETSLOT slot ( STABLE | NONSENSE )
		COMMAND
		COMMAND COUNT
		COMMAND DOCS ( GET | zadd | nosuch ) +
		COMMAND GETKEYS ( GET key | ZUNIONSTORE key 2 key key | PING | EVAL script 1 key | SORT key STORE key )
		COMMAND GETKEYSANDFLAGS SET key val
		COMMAND HELP
		COMMAND INFO ( get | XGROUP | nosuch ) +
		COMMAND LIST [ FILTERBY ( ACLCAT string | PATTERN z* | MODULE none ) ]
		CONFIG GET ( maxmemory | slowlog-* | nosuch ) +
		CONFIG HELP
		CONFIG RESETSTAT
		CONFIG REWRITE
		CONFIG SET slowlog-max-len ( 128 | 64 | abc )
		CONFIG SET nosuch 1
		DBSIZE
		DEBUG OBJECT key
		FAILOVER
		FLUSHALL [ SYNC | ASYNC | NONSENSE ]
		FLUSHDB [ SYNC | ASYNC ]
		FUNCTION DELETE nosuch
		FUNCTION DUMP
		FUNCTION HELP
		FUNCTION KILL
		FUNCTION LIST [ LIBRARYNAME p* ] [ WITHCODE ]
		FUNCTION LOAD ( library | REPLACE library | val )
		FUNCTION RESTORE ( functions REPLACE | functions | val )
		FUNCTION STATS
		FUNCTION FLUSH NONSENSE
		INFO [ server | nosuch | everything ]
		KEYS pattern
		LASTSAVE
		LATENCY DOCTOR
		LATENCY GRAPH command
		LATENCY HELP
		LATENCY HISTORY command
		LATENCY LATEST
		LATENCY RESET
		LOLWUT [ VERSION 5 ]
		MEMORY DOCTOR
		MEMORY HELP
		MEMORY MALLOC-STATS
		MEMORY PURGE
		MEMORY STATS
		MEMORY USAGE key
		MODULE HELP
		MODULE LIST
		MODULE LOAD /nosuch.so
		MODULE LOADEX /nosuch.so
		MODULE UNLOAD nosuch
		MOVE key ( 1 | 2 | 99 )
		PUBSUB CHANNELS [ pattern ]
		PUBSUB HELP
		PUBSUB NUMPAT
		PUBSUB NUMSUB word +
		PUBSUB SHARDCHANNELS
		PUBSUB SHARDNUMSUB word
		RANDOMKEY
		REPLICAOF NO ONE
		ROLE
		SCAN 0 [ MATCH pattern ] COUNT 100000 [ TYPE string ]
		SCRIPT EXISTS sha sha
		SCRIPT FLUSH [ SYNC | NONSENSE ]
		SCRIPT HELP
		SCRIPT KILL
		SCRIPT LOAD script
		SLAVEOF NO ONE
		SLOWLOG HELP
		SLOWLOG LEN
		SLOWLOG RESET
		SWAPDB ( 1 2 | 0 99 )
		TIME
		NOSUCHCOMMAND val key
		CONFIG NOSUCHSUBCOMMAND val`,
}

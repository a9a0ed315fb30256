// Package origin is the database side of the sidecar: it knows which keys are rows of PostgreSQL, and loads them.
//
// Read it in this order:
//
//	capture.go, pattern.go   key patterns: "usr:{<user_id:int>}:profile"
//	sql.go                   queries: @user_id becomes $1, always bound
//	maps.go                  Compile: definitions in, Maps or every mistake out
//	trie.go, overlap.go      which map a key belongs to, and the proof that it is one at most
//	explain.go               the same question, answered for people
//	resolver.go              what answers misses, and what it is told to count
//	call.go                  one load per key, and who of those who wait may have it
//	resolve.go               what a miss does: lease, load, fill
//	renewal.go               values past their time
//	database.go              one PostgreSQL: its settings and its pool
//	bound.go                 how many loads run or wait at a time
//	breaker.go               when an origin, or a map, is left alone for a while
//	load.go                  loads of many keys at once, and what becomes of them when a connection is lost
//	session.go, batch.go     their one round trip over one connection
//	value.go                 what their rows become
//	cancel.go                a load whose time is up
//	errors.go, sqlstate.go   what a client is told
//	prepare.go               what a database says about the maps before they serve
//
// A miss goes Resolver.Resolve → Maps.Match → call → Leases.Acquire → database.loadAll → session.load → Leases.Fill → every waiter.
package origin

// Package harness starts the real servers that tests, the demo and the benchmarks run against: Redis, Redis Cluster,
// PostgreSQL, PgBouncer and the sidecar itself, several at once, on free loopback ports.
//
// Each server has two constructors. Start… returns an error, and the caller closes what it got. New… is for tests: it fails
// the test instead, closes the server when the test ends and shows its output if the test failed. The context of Start…
// bounds the start alone; a server runs until Close, and dies with the process that started it even if that is killed.
//
// What a test process builds or starts once (the sidecar's binary, the PostgreSQL server behind [NewDatabase]) is shared by
// its tests, so a package that uses those has
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
// The harness needs Linux.
package harness

// Package checker shows by trial that no stale value is read. Many clients read and write a few keys at random through three sidecars,
// while everything on the way is delayed, moved, evicted, cut, killed and paused; what they saw is recorded, and the record is judged
// afterwards. It takes what an application sees and nothing else: it does not know how the sidecars keep their promise.
//
// # What is recorded
//
// Each key has a row in PostgreSQL. Each change of the row, its deletion and insertion too, has a version, one more than the last, which
// PostgreSQL gives out under the row's lock; the value is the version, and "no row" is the value of those versions that deleted it. So
// every answer can be placed in the order of versions: a value is the version that it names, and null is any of the versions that
// deleted the row.
//
// A clock that all share gives each event a tick of its own: a read is sent and done, a write has begun and is acknowledged. It ticks
// before the first byte is sent and after the last one has come, so an event with a smaller tick was over before one with a larger
// one was sent.
//
// A write is acknowledged when both its parts are: the row's change is committed, and the command that tells Redis of it (DEL, SET and
// their like) was answered without an error. Where the answer is an error or does not come, nobody knows whether it ran:
// the write is never acknowledged, unless the application does it again and that is. Until then a read may answer with it or
// with what was before.
//
// # What is judged
//
//   - P1. A read does not return a version older than any that was acknowledged before the read was sent, to whichever client; nor older
//     than a write that its own client sent before it in the same pipeline, if that was acknowledged. What it returns was begun
//     before the read was done.
//   - P2. When all is quiet (nobody writes, no load is under way, nothing is held on the wire), Redis holds for no key a value older than
//     the last acknowledged version: neither the key itself nor, where the key is absent, the mark at its lease key that says that
//     there is no row.
//   - P3. Every read and every write is answered within a bound. A connection that is closed is an answer, and the time for which the
//     test itself had paused the sidecar does not count.
//
// Reads may be answered with errors, which are counted; a run in which many are has failed. So has a run in which what the
// protocol is for did not happen: misses, joined loads, fills that are refused.
//
// # What is not generated
//
// What the sidecars do not promise is not asked of them:
//
//   - Two writers that SET one key after their changes of its row can do so in the other order. So keys that are SET have a lock in the
//     application, which all their writers take, from before the change until after the acknowledgement.
//   - A SET whose answer did not come may run much later, after the next writer's. So a locked key is given up after a write that was
//     not acknowledged: it is written no more, and a new one takes its place. What was asked of it is judged all the same.
//   - A SET before the commit, followed by an eviction, has the old row loaded again. So keys that are SET before the commit are
//     never evicted.
//   - Writers past the sidecars. What the test does at the nodes themselves is what Redis itself might: it removes a key or a lease key,
//     as expiry and eviction do, and moves slots.
//
// # How it is run
//
// "make test" runs a short one, "make test-long" five minutes and "make checker" as long as CHECKER says. CHECKER_SEED is the first round's
// seed; each round prints its own. A seed gives each client and each fault the same decisions again; how they interleave is up to the machine.
//
// The mutations are sidecars in which one rule of the protocol is broken on purpose: the checker must find each of them out, under a load
// that makes it likely, and nothing wrong with the sidecar as it is under the same load.
package checker

// Package parity holds the tests that compare the sidecar with Redis itself: the same bytes go to both, from one client or from several
// that take turns, and what comes back has to be the same, byte for byte before a standalone Redis and before a cluster whose commands of
// several slots are refused, and in its meaning where three masters stand for one standalone Redis. What cannot be equal is listed
// in unequal_test.go, with the reasons.
package parity

// Package parity holds the tests that compare the sidecar with Redis itself, byte for byte: the same bytes go to both.
package parity

//go:build race

package parity

// framingShadow is how many times as much memory the sidecar needs with the race detector, which the tests build it with when
// they have it themselves.
const framingShadow = 3

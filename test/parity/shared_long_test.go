//go:build long

package parity

import "testing"

// These take minutes, and belong to make test-long.

func TestSharedStandalone(t *testing.T)   { share(t, newStandalonePair(t), "standalone") }
func TestSharedOneMaster(t *testing.T)    { share(t, newClusterPair(t, 1), "one master") }
func TestSharedThreeMasters(t *testing.T) { share(t, newClusterPair(t, 3), "three masters") }

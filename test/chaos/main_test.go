// Package chaos holds the tests in which something goes wrong: nodes, connections, clients and clusters that fail, hang, move
// or misbehave while clients work. Most run the relay within the test, where the race detector and goleak see it; those that
// measure memory, and those that need the configuration, run the program.
package chaos

import (
	"testing"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

package rules

import (
	"testing"

	"readthrough/test/harness"
)

// WAIT answers for what its client wrote, the least of its masters, and holds up nobody else.
func TestWaitIsForWhatItsClientWrote(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{Replicas: 1, NodeTimeout: patience})
	keys := w.keysOfAll(t, "k")
	c, other := w.connect(t), w.connect(t)
	replicas, err := w.cluster.ReplicasOf(t.Context(), w.master(t, keys[1]))
	if err != nil {
		t.Fatal(err)
	}
	if err := replicas[0].Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = replicas[0].Resume() }()
	do(t, c, "WAIT 1 5000", ":1\r\n") // for nothing
	send(t, c, "SET "+keys[0]+" v", "SET "+keys[1]+" v", "WAIT 1 200")
	expect(t, c, ok, ok, ":0\r\n")
	send(t, other, "SET "+keys[0]+" v", "WAIT 1 5000") // whose replica is there
	expect(t, other, ok, ":1\r\n")

	send(t, c, "SET "+keys[1]+" v", "WAIT 1 0", "GET "+keys[1])
	await(t, w.master(t, keys[1]), "flags=b", 1)
	send(t, other, "SET "+keys[1]+" w", "GET "+keys[1])
	expect(t, other, ok, bulk("w"))
	if err := replicas[0].Resume(); err != nil {
		t.Fatal(err)
	}
	expect(t, c, ok, ":1\r\n", bulk("w"))
}

package rules

import (
	"fmt"
	"slices"
	"testing"

	"readthrough/internal/slot"
	"readthrough/test/harness"
)

// While a command is put off by its node, later ones of its client wait: here one that the node would take.
func TestCommandsBehindOneThatIsPutOffWait(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c, other := w.connect(t), w.connect(t)
	keys := []string{"{t}a", "{t}b"}
	do(t, c, "MSET {t}a {t}a {t}b {t}b", ok)
	at := int(slot.Of([]byte("{t}")))
	m, err := w.cluster.BeginMigration(t.Context(), at, w.other(t, "{t}"))
	if err == nil {
		_, err = m.MoveKeys(t.Context(), 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	if m.From.MustDo(t, "CLUSTER", "GETKEYSINSLOT", fmt.Sprint(at), "2").Elems[0].Str == keys[0] {
		slices.Reverse(keys)
	}
	moved, here := keys[0], keys[1]
	before := w.Stats(t).Retried
	send(t, c, "RENAME "+moved+" "+here) // which no node can do now
	poll(t, func() error {
		if n := w.Stats(t).Retried - before; n < 2 {
			return fmt.Errorf("it was put off %d times", n)
		}
		return nil
	})
	send(t, c, "GET "+here)
	passes(t, other)
	finish(t, m)
	expect(t, c, ok, bulk(moved))
}

// Of the errors of a command's parts the first in the order of its keys is the reply.
func TestTheFirstErrorIsThatOfTheFirstKey(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{})
	c := w.connect(t)
	keys := w.keysOfAll(t, "k")
	w.master(t, keys[0]).MustDo(t, "CONFIG", "SET", "min-replicas-to-write", "1")
	w.master(t, keys[1]).MustDo(t, "CONFIG", "SET", "maxmemory", "1")
	const few, full = "-NOREPLICAS Not enough good replicas to write.\r\n", "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
	for _, test := range []struct {
		order []int
		want  string
	}{{[]int{0, 1, 2}, few}, {[]int{1, 0, 2}, full}, {[]int{2, 0, 1}, few}, {[]int{2, 1, 0}, full}} {
		command := "MSET"
		for _, i := range test.order {
			command += " " + keys[i] + " v"
		}
		do(t, c, command, test.want)
		do(t, c, "GET "+keys[2], bulk("v")) // the others have done their parts
		do(t, c, "DEL "+keys[2], ":1\r\n")
	}
}

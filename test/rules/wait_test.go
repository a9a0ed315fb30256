package rules

import (
	"strings"
	"testing"

	"readthrough/resp"
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

// WAIT knows of every way to write: it asks the master of the key, whose replica does not answer, and no other.
func TestWaitKnowsAllWaysToWrite(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{Replicas: 1, NodeTimeout: patience})
	keys := w.keysOfAll(t, "k")
	replicas, err := w.cluster.ReplicasOf(t.Context(), w.master(t, keys[2]))
	if err != nil {
		t.Fatal(err)
	}
	if err := replicas[0].Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = replicas[0].Resume() }()
	for name, commands := range map[string][]string{
		"split":       {"MSET " + keys[0] + " v " + keys[2] + " v"},
		"spread":      {"FLUSHALL"},
		"blocking":    {"BRPOP " + keys[2] + " 0"},
		"transaction": {"MULTI", "DEL " + keys[2], "EXEC"},
		"large":       {"SET " + keys[2] + " " + strings.Repeat("x", 2<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			writer, c := w.connect(t), w.connect(t)
			writer.MustDo(t, "DEL", keys[2])
			do(t, writer, "LPUSH "+keys[2]+" v", ":1\r\n")
			for _, command := range commands {
				if got := c.MustDo(t, strings.Fields(command)...); got[0] == '-' {
					t.Fatal(got)
				}
			}
			do(t, c, "WAIT 1 50", ":0\r\n")
		})
	}
}

// What was written to a master that is none any more, its successor has.
func TestWaitAfterAFailover(t *testing.T) {
	w := newWorld(t, nil, harness.ClusterOptions{Replicas: 1})
	c := w.connect(t)
	do(t, c, "SET k v", ok)
	w.failOver(t, "k")
	do(t, w.connect(t), "SET k w", ok) // by which the relay learns of it
	do(t, c, "WAIT 1 10000", ":1\r\n")
}

// A WAIT that Redis does not answer counts as failed, not as answered by an error of Redis.
func TestAWaitThatFailsIsCounted(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	c := r.connect(t)
	do(t, c, "SET k v", ok)
	send(t, c, "WAIT 1 0")
	await(t, redis, "flags=b", 1)
	redis.Kill()
	if got := read(t, c); !strings.HasPrefix(got, "-UPSTREAM") {
		t.Errorf("%q", got)
	}
	if got := r.counted(t, "wait"); got != (resp.Count{Failed: 1}) {
		t.Errorf("counted %+v", got)
	}
}

// counted is how often a command was answered.
func (r *relay) counted(t testing.TB, name string) resp.Count {
	t.Helper()
	got := make(chan resp.Count, 1)
	if !r.Loop.Post(func() { got <- r.Server.Stats(0).Commands[name] }) {
		t.Fatal("the loop has stopped")
	}
	return <-got
}

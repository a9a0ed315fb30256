package fanout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"readthrough/test/harness"
)

const (
	seeds          = 8
	commandsOfSeed = 1000
)

// TestEqualsStandalone holds that the sidecar before three masters answers what one standalone Redis does.
func TestEqualsStandalone(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	one := harness.NewRedis(t, harness.RedisOptions{})
	sidecar := newSidecar(t, cluster.Addrs())
	for _, protocol := range []int{2, 3} {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprintf("RESP%d seed %d", protocol, seed), func(t *testing.T) {
				want, got := harness.NewConn(t, one.Addr()), newConn(t, sidecar, protocol)
				if protocol == 3 {
					want.MustDo(t, "HELLO", "3")
				}
				r := rand.New(rand.NewPCG(seed, uint64(protocol)))
				for n := 0; n < commandsOfSeed; {
					var batch [][]string
					for range 1 + r.IntN(30) {
						batch = append(batch, generate(r))
					}
					n += len(batch)
					compare(t, batch, pipelined(t, want, batch), pipelined(t, got, batch))
				}
				for _, c := range []*harness.Conn{want, got} {
					c.MustDo(t, "FLUSHALL")
					c.MustDo(t, "FUNCTION", "FLUSH")
					c.MustDo(t, "SCRIPT", "FLUSH")
				}
			})
		}
	}
}

// pipelined sends commands at once and returns their replies.
func pipelined(t *testing.T, c *harness.Conn, batch [][]string) []string {
	t.Helper()
	var raw []byte
	for _, args := range batch {
		raw = append(raw, harness.Command(args...)...)
	}
	sent := make(chan error, 1) // the replies may be more than the sockets hold
	go func() { sent <- c.Send(raw) }()
	replies := make([]string, len(batch))
	for i := range batch {
		reply, err := c.ReadReply()
		if err != nil {
			t.Fatalf("%.200q: %v", batch[i], err)
		}
		replies[i] = string(reply)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	return replies
}

// compare fails where replies differ in more than the order of keys.
func compare(t *testing.T, batch [][]string, want, got []string) {
	t.Helper()
	for i, args := range batch {
		w, g := want[i], got[i]
		switch strings.ToUpper(args[0]) {
		case "KEYS":
			w, g = sorted(t, w), sorted(t, g)
		case "RANDOMKEY": // any
			w, g = w[:1]+fmt.Sprint(len(w) > 5), g[:1]+fmt.Sprint(len(g) > 5)
		}
		if w != g {
			t.Fatalf("%.300q\nRedis:   %.600q\nsidecar: %.600q", args, w, g)
		}
	}
}

func sorted(t *testing.T, reply string) string {
	t.Helper()
	v, err := harness.Decode([]byte(reply))
	if err != nil {
		t.Fatal(err)
	}
	if v.Err() != nil {
		return reply
	}
	return fmt.Sprintf("%c %q", v.Type, slices.Sorted(slices.Values(v.Strings())))
}

const (
	script      = "return redis.call('GET', KEYS[1])"
	scriptSHA   = "d3c21d0c2b9ca22f82737626a27bcaf5d288f99f"
	unknownSHA  = "0000000000000000000000000000000000000000"
	library     = "#!lua name=lib\nredis.register_function('get', function(keys) return redis.call('GET', keys[1]) end)"
	otherScript = "return 1"
)

// generate makes a command: mostly of several slots or of all nodes, between commands of one key.
func generate(r *rand.Rand) []string {
	key := func() string {
		if r.IntN(10) == 0 {
			return "list" + strconv.Itoa(r.IntN(3))
		}
		return "key" + strconv.Itoa(r.IntN(40))
	}
	some := func(name string, withValues bool) []string {
		args := []string{name}
		for range r.IntN(12) {
			args = append(args, key())
			if withValues {
				args = append(args, strings.Repeat("v", r.IntN(100)))
			}
		}
		return args
	}
	switch r.IntN(30) {
	case 0, 1, 2, 3:
		return some("MGET", false)
	case 4, 5, 6:
		return some("mset", true)
	case 7:
		return some("DEL", false)
	case 8:
		return some("UNLINK", false)
	case 9, 10:
		return some("EXISTS", false)
	case 11:
		return some("Touch", false)
	case 12, 13:
		return []string{"DBSIZE"}
	case 14, 15:
		return []string{"KEYS", []string{"*", "key1*", "nothing", "list?", "["}[r.IntN(5)]}
	case 16:
		return []string{[]string{"FLUSHALL", "FLUSHDB"}[r.IntN(2)], []string{"ASYNC", "SYNC", "NOW"}[r.IntN(3)]}
	case 17:
		return []string{"RANDOMKEY"}
	case 18:
		return []string{"SCRIPT", "LOAD", []string{script, otherScript, "return return"}[r.IntN(3)]}
	case 19:
		return []string{"SCRIPT", "EXISTS", scriptSHA, unknownSHA, scriptSHA}
	case 20, 21:
		return []string{"EVALSHA", scriptSHA, "1", key()}
	case 22:
		return []string{"SCRIPT", []string{"FLUSH", "KILL"}[r.IntN(2)]}
	case 23:
		return [][]string{
			{"FUNCTION", "LOAD", library},
			{"FUNCTION", "LOAD", "REPLACE", library},
			{"FUNCTION", "DELETE", "lib"},
			{"FUNCTION", "KILL"},
			{"FUNCTION", "STATS"},
			{"FUNCTION", "LIST"},
		}[r.IntN(6)]
	case 24:
		return []string{"FCALL", "get", "1", key()}
	case 25:
		return [][]string{
			{"CONFIG", "SET", "slowlog-max-len", "77"},
			{"CONFIG", "SET", "nothing", "1"},
			{"CONFIG", "RESETSTAT"},
			{"PUBSUB", "CHANNELS"},
			{"PUBSUB", "NUMSUB", "a", "b"},
			{"PUBSUB", "NUMPAT"},
			{"SLOWLOG", "RESET"},
			{"CLIENT", "UNPAUSE"},
		}[r.IntN(8)]
	case 26:
		return []string{"LPUSH", "list" + strconv.Itoa(r.IntN(3)), "x"}
	case 27:
		return []string{"SETEX", key(), "1000", "x"}
	default:
		return []string{[]string{"GET", "STRLEN"}[r.IntN(2)], key()}
	}
}

package parity

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"readthrough/internal/command"
	"readthrough/internal/slot"
	"readthrough/test/harness"
)

const (
	sequences      = 10 // of each combination
	sequenceLength = 300
	largestBatch   = 50
	// shrinkRuns bounds how often a failing sequence is tried again to make it shorter.
	shrinkRuns = 200
)

// pair is two sides that get the same commands: a bare Redis, and the sidecar before another one.
type pair struct {
	bare, sidecar string // addresses
	direct        *harness.Redis
	behind        []*harness.Redis
	table         *command.Table
	payload       payloads
	unlike        bool // of several masters, while the bare Redis is one
	meaning       bool // and the bare Redis is standalone, so that it knows no slots
	patience      time.Duration
}

// together has commands of several slots refused, as one node of a cluster refuses them.
const together = "crossSlot: error"

func newStandalonePair(t *testing.T) *pair {
	return newPair(t, "", &pair{direct: harness.NewRedis(t, harness.RedisOptions{}), behind: []*harness.Redis{harness.NewRedis(t, harness.RedisOptions{})}})
}

func newClusterPair(t *testing.T, masters int) *pair {
	bare := harness.NewCluster(t, harness.ClusterOptions{Masters: 1})
	behind := harness.NewCluster(t, harness.ClusterOptions{Masters: masters})
	return newPair(t, together, &pair{direct: bare.Nodes()[0], behind: behind.Nodes(), unlike: masters > 1})
}

// newMeaningPair is a standalone Redis, and the sidecar before three masters, which is to look like it.
func newMeaningPair(t *testing.T) *pair {
	behind := harness.NewCluster(t, harness.ClusterOptions{Masters: 3})
	return newPair(t, "", &pair{direct: harness.NewRedis(t, harness.RedisOptions{}), behind: behind.Nodes(), unlike: true, meaning: true})
}

func newPair(t *testing.T, config string, p *pair) *pair {
	t.Helper()
	var addrs []string
	for _, n := range p.behind {
		addrs = append(addrs, n.Addr())
	}
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%s]}\n%s\n", strings.Join(addrs, ", "), config),
	})
	bare := p.direct
	p.bare, p.sidecar, p.patience = bare.Addr(), s.Addr(), 10*time.Second

	// The topology is learnt in the background.
	if err := harness.Poll(t.Context(), func() error { return upstreamFound(t.Context(), s) }); err != nil {
		t.Fatal(err)
	}
	entries, err := command.Entries(plain(bare.MustDo(t, "COMMAND")))
	if err != nil {
		t.Fatal(err)
	}
	p.table = command.New(entries)
	bare.MustDo(t, "SET", "{payload}", "a string")
	bare.MustDo(t, "RPUSH", "{payload}list", "a", "b", "3")
	for _, key := range []string{"{payload}", "{payload}list"} {
		p.payload.values = append(p.payload.values, bare.MustDo(t, "DUMP", key).Str)
	}
	if err := p.reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.payload.functions = []string{bare.MustDo(t, "FUNCTION", "DUMP").Str}
	return p
}

func upstreamFound(ctx context.Context, s *harness.Sidecar) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.AdminURL()+"/readyz?verbose", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && !strings.Contains(string(body), "[+] upstream") {
		err = fmt.Errorf("/readyz?verbose answers %q", body)
	}
	return err
}

// plain is a reply as the command table takes it.
func plain(v harness.Value) any {
	switch v.Type {
	case '*', '~':
		list := make([]any, len(v.Elems))
		for i, e := range v.Elems {
			list[i] = plain(e)
		}
		return list
	case ':':
		var n int64
		_, _ = fmt.Sscan(v.Str, &n)
		return n
	}
	return v.Str
}

// reset brings all servers into the same state.
func (p *pair) reset(ctx context.Context) error {
	for _, server := range append(p.behind, p.direct) {
		c, err := server.Dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		do := func(args ...string) {
			if err == nil {
				_, err = c.Do(args...)
			}
		}
		do("FLUSHALL")
		do("SCRIPT", "FLUSH")
		do("FUNCTION", "FLUSH")
		do("FUNCTION", "LOAD", library)
		do("ACL", "DELUSER", "app")
		do("ACL", "LOG", "RESET")
		do("CONFIG", "SET", "slowlog-max-len", "128", "notify-keyspace-events", p.notifications())
		for _, s := range scripts {
			do("SCRIPT", "LOAD", s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// notifications are those of keyspace events that the servers give. A client that subscribes to a pattern of all channels is told of all
// nodes' keys by one node only: the sidecar gathers what patterns name as such.
func (p *pair) notifications() string {
	if p.unlike {
		return ""
	}
	return "KEA"
}

// mismatch is the first command whose replies differ.
type mismatch struct {
	at        int
	want, got string
}

// run sends the commands to both sides, in batches of the sizes that batch gives, and compares.
func (p *pair) run(ctx context.Context, protocol int, commands [][]string, batch func() int) (*mismatch, error) {
	if err := p.reset(ctx); err != nil {
		return nil, err
	}
	bare, err := harness.Dial(ctx, p.bare, nil)
	if err != nil {
		return nil, err
	}
	defer bare.Close()
	sidecar, err := harness.Dial(ctx, p.sidecar, nil)
	if err != nil {
		return nil, err
	}
	defer sidecar.Close()
	sidecar.Timeout = p.patience
	for _, c := range []*harness.Conn{bare, sidecar} {
		if protocol == 3 {
			if _, err := c.Do("HELLO", "3"); err != nil {
				return nil, err
			}
		}
	}
	for first := 0; first < len(commands); {
		end := min(first+batch(), len(commands))
		var raw, rawBare []byte
		for _, args := range commands[first:end] {
			raw = append(raw, harness.Command(args...)...)
			if !p.crosses(args) {
				rawBare = append(rawBare, harness.Command(args...)...)
			}
		}
		sent := make(chan error, 2) // beside the reading: a batch and its replies may be larger than the sockets' buffers
		go func() { sent <- bare.Send(rawBare) }()
		go func() { sent <- sidecar.Send(raw) }()
		var found *mismatch
		for ; first < end; first++ { // to the end of the batch, so that nothing of it still runs after the next reset
			args := commands[first]
			want := []byte(crossSlot)
			if !p.crosses(args) {
				if want, err = bare.ReadReply(); err != nil {
					return nil, fmt.Errorf("redis, %q: %w", args, err)
				}
			}
			got, err := sidecar.ReadReply()
			if err == nil && p.unlike {
				got, err = scanned(sidecar, args, got)
			}
			if err != nil {
				return cmp.Or(found, &mismatch{first, string(want), err.Error()}), nil
			}
			if found == nil && !p.same(args, want, got) {
				found = &mismatch{first, string(want), string(got)}
			}
		}
		for range 2 {
			if err := <-sent; err != nil {
				return nil, err
			}
		}
		if found != nil {
			return found, nil
		}
	}
	return nil, nil
}

const crossSlot = "-CROSSSLOT Keys in request don't hash to the same slot\r\n"

// crosses tells whether a command that cannot be split has keys of several slots, and so is refused by a cluster, while a
// standalone Redis would not mind.
func (p *pair) crosses(args []string) bool {
	if !p.meaning {
		return false
	}
	info := p.table.Find(bytesOf(args))
	if info == nil || info.Handling == command.Split || !info.ArityOK(len(args)) {
		return false
	}
	keys, err := info.AppendKeys(nil, bytesOf(args))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(keys, func(k int) bool { return slot.Of([]byte(args[k])) != slot.Of([]byte(args[keys[0]])) })
}

// scanned completes the reply of a SCAN, which covers one of the masters, with those about the others.
func scanned(c *harness.Conn, args []string, reply []byte) ([]byte, error) {
	if !strings.EqualFold(args[0], "SCAN") {
		return reply, nil
	}
	var keys []byte
	for n := 0; ; {
		v, err := harness.Decode(reply)
		if err != nil || v.Err() != nil {
			return reply, err
		}
		for _, e := range v.Elems[1].Elems {
			keys = fmt.Appendf(keys, "$%d\r\n%s\r\n", len(e.Str), e.Str)
			n++
		}
		if v.Elems[0].Str == "0" {
			return fmt.Appendf(nil, "*2\r\n$1\r\n0\r\n*%d\r\n%s", n, keys), nil
		}
		next := slices.Clone(args)
		next[1] = v.Elems[0].Str
		if reply, err = c.Do(next...); err != nil {
			return nil, err
		}
	}
}

// batches gives the same sizes whenever it is asked anew.
func batches(seed uint64, pipelined bool) func() int {
	if !pipelined {
		return func() int { return 1 }
	}
	r := rand.New(rand.NewPCG(seed, 2))
	return func() int { return 1 + r.IntN(largestBatch) }
}

func TestStandalone(t *testing.T)   { compare(t, newStandalonePair(t)) }
func TestOneMaster(t *testing.T)    { compare(t, newClusterPair(t, 1)) }
func TestThreeMasters(t *testing.T) { compare(t, newClusterPair(t, 3)) }

// TestMeaning holds that three masters behind the sidecar are for its clients what one standalone Redis is.
func TestMeaning(t *testing.T) { compare(t, newMeaningPair(t)) }

// compare holds that the replies are the same over generated sequences.
func compare(t *testing.T, p *pair) {
	for _, protocol := range []int{2, 3} {
		for _, pipelined := range []bool{false, true} {
			t.Run(fmt.Sprintf("RESP%d pipelined %t", protocol, pipelined), func(t *testing.T) {
				for n := range long(sequences) {
					seed := n
					if pipelined {
						seed += long(sequences)
					}
					g := newGenerator(seed, p, shapes)
					if pipelined && p.unlike {
						g.without("SCAN") // which takes several commands, and would see what comes after it
					}
					commands := make([][]string, sequenceLength)
					for i := range commands {
						commands[i] = g.command()
					}
					run := func(commands [][]string) (*mismatch, error) {
						return p.run(t.Context(), protocol, commands, batches(seed, pipelined))
					}
					found, err := run(commands)
					if err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					if found != nil {
						commands, found = shrink(p, commands[:found.at+1], found, run)
						t.Errorf("seed %d: the replies to the last of these differ:\n%s\nRedis:   %s\nsidecar: %s",
							seed, listing(commands), abbreviated(found.want), abbreviated(found.got))
					}
				}
			})
		}
	}
}

// long is a number of sequences, ten times as many for the tests at full length.
func long(n uint64) uint64 {
	if harness.Long() {
		return 10 * n
	}
	return n
}

// shrink leaves out items as long as the replies to the last one still differ.
func shrink[T any](p *pair, items []T, found *mismatch, run func([]T) (*mismatch, error)) ([]T, *mismatch) {
	defer func(d time.Duration) { p.patience = d }(p.patience)
	p.patience = time.Second
	runs := 0
	for chunk := len(items) / 2; chunk > 0; chunk /= 2 {
		for at := 0; at+chunk < len(items) && runs < shrinkRuns; {
			runs++
			fewer := slices.Concat(items[:at], items[at+chunk:])
			if again, err := run(fewer); err == nil && again != nil {
				items, found = fewer[:again.at+1], again
			} else {
				at += chunk
			}
		}
	}
	return items, found
}

func listing(commands [][]string) string {
	var b strings.Builder
	for _, args := range commands {
		for _, a := range args {
			b.WriteString(abbreviated(a) + " ")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// abbreviated quotes a text, without the middle of a long one.
func abbreviated(s string) string {
	const most = 1000
	if len(s) > most {
		return fmt.Sprintf("%q… %d bytes …%q", s[:most/2], len(s)-most, s[len(s)-most/2:])
	}
	return fmt.Sprintf("%q", s)
}

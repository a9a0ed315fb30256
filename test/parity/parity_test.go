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

	"readthrough/internal/command"
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
	servers       []*harness.Redis
	table         *command.Table
	payload       payloads
	cluster       bool
	byKeyOnly     bool // of several masters only commands with keys are relayed
}

func newStandalonePair(t *testing.T) *pair {
	bare, behind := harness.NewRedis(t, harness.RedisOptions{}), harness.NewRedis(t, harness.RedisOptions{})
	return newPair(t, bare, behind)
}

func newClusterPair(t *testing.T, masters int) *pair {
	bare := harness.NewCluster(t, harness.ClusterOptions{Masters: 1})
	behind := harness.NewCluster(t, harness.ClusterOptions{Masters: masters})
	p := newPair(t, bare.Nodes()[0], behind.Nodes()...)
	p.cluster = true
	return p
}

func newPair(t *testing.T, bare *harness.Redis, behind ...*harness.Redis) *pair {
	t.Helper()
	var addrs []string
	for _, n := range behind {
		addrs = append(addrs, n.Addr())
	}
	s := harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%s]}\n", strings.Join(addrs, ", ")),
	})
	p := &pair{bare: bare.Addr(), sidecar: s.Addr(), servers: append([]*harness.Redis{bare}, behind...), byKeyOnly: len(behind) > 1}

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
	for _, server := range p.servers {
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
		do("CONFIG", "SET", "slowlog-max-len", "128")
		for _, s := range scripts {
			do("SCRIPT", "LOAD", s)
		}
		if err != nil {
			return err
		}
	}
	return nil
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
	for _, c := range []*harness.Conn{bare, sidecar} {
		if protocol == 3 {
			if _, err := c.Do("HELLO", "3"); err != nil {
				return nil, err
			}
		}
	}
	for first := 0; first < len(commands); {
		end := min(first+batch(), len(commands))
		var raw []byte
		for _, args := range commands[first:end] {
			raw = append(raw, harness.Command(args...)...)
		}
		sent := make(chan error, 2) // beside the reading: a batch and its replies may be larger than the sockets' buffers
		for _, c := range []*harness.Conn{bare, sidecar} {
			go func() { sent <- c.Send(raw) }()
		}
		var found *mismatch
		for ; first < end; first++ { // to the end of the batch, so that nothing of it still runs after the next reset
			want, err := bare.ReadReply()
			if err != nil {
				return nil, fmt.Errorf("redis, %q: %w", commands[first], err)
			}
			got, err := sidecar.ReadReply()
			if err != nil {
				return cmp.Or(found, &mismatch{first, string(want), err.Error()}), nil
			}
			if found == nil && !same(p.table, commands[first], want, got) {
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

// compare holds that the replies are the same over generated sequences.
func compare(t *testing.T, p *pair) {
	for _, protocol := range []int{2, 3} {
		for _, pipelined := range []bool{false, true} {
			t.Run(fmt.Sprintf("RESP%d pipelined %t", protocol, pipelined), func(t *testing.T) {
				for n := range sequences {
					seed := uint64(n)
					if pipelined {
						seed += sequences
					}
					g := newGenerator(seed, p)
					commands := make([][]string, sequenceLength)
					for i := range commands {
						commands[i] = g.command()
					}
					found, err := p.run(t.Context(), protocol, commands, batches(seed, pipelined))
					if err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					if found != nil {
						commands, found = p.shrink(t.Context(), protocol, commands[:found.at+1], *found, func() func() int { return batches(seed, pipelined) })
						t.Errorf("seed %d: the replies to the last of these differ:\n%s\nRedis:   %s\nsidecar: %s",
							seed, listing(commands), abbreviated(found.want), abbreviated(found.got))
					}
				}
			})
		}
	}
}

// shrink leaves out commands as long as the last one's replies still differ.
func (p *pair) shrink(ctx context.Context, protocol int, commands [][]string, found mismatch, batch func() func() int) ([][]string, *mismatch) {
	runs := 0
	for chunk := len(commands) / 2; chunk > 0; chunk /= 2 {
		for at := 0; at+chunk < len(commands) && runs < shrinkRuns; {
			runs++
			fewer := slices.Concat(commands[:at], commands[at+chunk:])
			if again, err := p.run(ctx, protocol, fewer, batch()); err == nil && again != nil {
				commands, found = fewer[:again.at+1], *again
			} else {
				at += chunk
			}
		}
	}
	return commands, &found
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

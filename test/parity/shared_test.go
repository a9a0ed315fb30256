package parity

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"readthrough/test/harness"
)

const (
	sharedSequences = 12
	sharedLength    = 400
	crowdSize       = 4 // clients of a sequence
)

// step is what one client sends at once, before anybody sends more. With no command, it closes its connection and opens another.
type step struct {
	client   int
	commands [][]string
}

// census is what servers know about clients that wait for something.
type census struct{ blocked, timed, channels, patterns, shards int }

// count asks servers for their census, when they have done what they were sent before.
func count(servers ...*harness.Conn) (all census, err error) {
	for _, c := range servers {
		for _, args := range [][]string{{"PING"}, {"INFO", "clients", "stats"}} { // what came before is done in the round before the second
			raw, err := c.Do(args...)
			if err != nil {
				return census{}, err
			}
			for line := range bytes.Lines(raw) {
				name, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
				n, _ := strconv.Atoi(value)
				switch name {
				case "blocked_clients":
					all.blocked += n
				case "clients_in_timeout_table":
					all.timed += n
				case "pubsub_channels":
					all.channels += n
				case "pubsub_patterns":
					all.patterns += n
				case "pubsubshard_channels":
					all.shards += n
				}
			}
		}
	}
	return all, nil
}

// play has the clients of both sides do the same, one step after the other, and compares what all of them are sent. It ends before a
// step that leads to where they cannot be equal.
func (p *pair) play(ctx context.Context, steps []step) (*mismatch, error) {
	if err := p.reset(ctx); err != nil {
		return nil, err
	}
	control, err := p.direct.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	var controls []*harness.Conn
	for _, server := range p.behind {
		c, err := server.Dial(ctx)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		controls = append(controls, c)
	}
	if err := p.await(ctx, "the clients of the sequence before to have left", func() error { return p.agree(control, controls) }); err != nil {
		return nil, err
	}
	bare, err := gather(ctx, p.bare, p)
	if err != nil {
		return nil, err
	}
	defer bare.leave()
	sidecar, err := gather(ctx, p.sidecar, p)
	if err != nil {
		return nil, err
	}
	defer sidecar.leave()

	var clients [crowdSize]standing
sequence:
	for at, s := range steps {
		if len(s.commands) == 0 {
			clients[s.client] = standing{}
		}
		for _, args := range s.commands {
			if clients[s.client].say(p, args) != "" {
				break sequence
			}
		}
		if err := bare.act(ctx, s, p); err != nil {
			return nil, err
		}
		// The bare Redis is quiet when nobody's time can run out and everything before was done: then all is there to read.
		if err := p.await(ctx, "the bare Redis to be quiet", func() error {
			now, err := count(control)
			if err == nil && now.timed > 0 {
				err = fmt.Errorf("it counts %+v", now)
			}
			return err
		}); err != nil {
			return nil, fmt.Errorf("step %d: %w", at, err)
		}
		want := make([]replies, crowdSize)
		for i, c := range bare.clients {
			for c.Pending() && !want[i].closed {
				if err := want[i].read(bare, i); err != nil {
					return nil, fmt.Errorf("step %d: Redis, client %d: %w", at, i, err)
				}
			}
		}

		different := func(client int, got any) *mismatch {
			return &mismatch{at, fmt.Sprintf("client %d: %v", client, want[client]), fmt.Sprintf("client %d: %v", client, got)}
		}
		if err := sidecar.act(ctx, s, p); err != nil {
			return different(s.client, err), nil
		}
		for i, c := range sidecar.clients {
			var got replies
			for got.lacks(want[i]) {
				if err := got.read(sidecar, i); err != nil {
					return different(i, fmt.Sprintf("%v, and then %v", got, err)), nil
				}
			}
			for c.Pending() && !got.closed {
				if err := got.read(sidecar, i); err != nil {
					return different(i, fmt.Sprintf("%v, and then %v", got, err)), nil
				}
			}
			if !p.agreeing(s, i, want[i], got) {
				return different(i, got), nil
			}
		}
		if err := p.await(ctx, "as many clients that wait", func() error { return p.agree(control, controls) }); err != nil {
			return &mismatch{at, "the same numbers of clients that wait", err.Error()}, nil
		}
		for i := range want {
			if want[i].closed {
				clients[i] = standing{}
				for _, side := range []*crowd{bare, sidecar} {
					if err := side.join(ctx, i, p); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	bare.leave()
	sidecar.leave()
	if err := p.await(ctx, "all clients to have left", func() error { return p.agree(control, controls) }); err != nil {
		return &mismatch{len(steps) - 1, "then leaves nothing of clients that have left", err.Error()}, nil
	}
	return nil, nil
}

// await waits until ready is nil, for as long as the sidecar may take.
func (p *pair) await(ctx context.Context, what string, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	if err := harness.Poll(ctx, ready); err != nil {
		return fmt.Errorf("waited %v for %s: %w", p.patience, what, err)
	}
	return nil
}

// agree is nil when the servers of both sides know the same numbers of clients that wait for something.
func (p *pair) agree(bare *harness.Conn, behind []*harness.Conn) error {
	want, err := count(bare)
	if err != nil {
		return err
	}
	got, err := count(behind...)
	if err == nil && got != want {
		err = fmt.Errorf("Redis counts %+v, the Redis behind the sidecar %+v", want, got)
	}
	return err
}

// agreeing compares what one client was sent during a step.
func (p *pair) agreeing(s step, client int, want, got replies) bool {
	if p.unlike && !slices.Contains(want.invalidated, everything) { // a transaction leaves the node for that of its first key
		got.invalidated = slices.DeleteFunc(got.invalidated, func(key string) bool { return key == everything })
	}
	if want.closed != got.closed || !slices.Equal(want.invalidated, got.invalidated) {
		return false
	}
	for _, both := range [][2][][]byte{{want.plain, got.plain}, {want.pushes, got.pushes}} {
		w, g := both[0], both[1]
		switch {
		case slices.Equal(comparable(w), comparable(g)):
		case client != s.client || len(w) != len(g) || len(w) != len(s.commands):
			return false
		default:
			for i, args := range s.commands {
				if !p.same(args, w[i], g[i]) {
					return false
				}
			}
		}
	}
	return true
}

func TestSharedStandalone(t *testing.T)   { share(t, newStandalonePair(t), "standalone") }
func TestSharedOneMaster(t *testing.T)    { share(t, newClusterPair(t, 1), "one master") }
func TestSharedThreeMasters(t *testing.T) { share(t, newClusterPair(t, 3), "three masters") }

// share holds that several clients are all sent the same, over generated sequences and over those that have failed once.
func share(t *testing.T, p *pair, name string) {
	for seed := range long(sharedSequences) {
		g := newSharedGenerator(seed, p)
		p.hold(t, name, fmt.Sprintf("seed %d", seed), g.steps(sharedLength))
	}
	kept, err := filepath.Glob("testdata/kept/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := parseSteps(string(text))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		p.hold(t, name, path, steps)
	}
}

// hold fails where a sequence is not the same on both sides, with the shortest one that is not.
func (p *pair) hold(t *testing.T, name, what string, steps []step) {
	t.Run(what, func(t *testing.T) {
		play := func(steps []step) (*mismatch, error) { return p.play(t.Context(), steps) }
		found, err := play(steps)
		if err != nil {
			t.Fatal(err)
		}
		if found != nil {
			steps, found = shrink(p, steps[:found.at+1], found, play)
			t.Errorf("%s: the last of these steps differs; to keep it, put it into testdata/kept:\n%s\nRedis:   %s\nsidecar: %s",
				name, stepsText(steps), found.want, found.got)
		}
	})
}

package parity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

// crowd is the clients of one side.
type crowd struct {
	addr    string
	clients []*harness.Conn
	ids     []string // as CLIENT ID tells them
}

func gather(ctx context.Context, addr string, p *pair) (*crowd, error) {
	c := &crowd{addr: addr, clients: make([]*harness.Conn, crowdSize), ids: make([]string, crowdSize)}
	for i := range c.clients {
		if err := c.join(ctx, i, p); err != nil {
			c.leave()
			return nil, err
		}
	}
	return c, nil
}

// join opens a client's connection, in place of one that is closed.
func (c *crowd) join(ctx context.Context, i int, p *pair) error {
	conn, err := harness.Dial(ctx, c.addr, nil)
	if err != nil {
		return err
	}
	conn.Timeout = p.patience
	if c.clients[i] != nil {
		_ = c.clients[i].Close()
	}
	c.clients[i] = conn
	id, err := conn.Do("CLIENT", "ID")
	c.ids[i] = strings.Trim(string(id), ":\r\n")
	return err
}

func (c *crowd) leave() {
	for _, conn := range c.clients {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// clientName stands for a client's id, which each side makes up for itself.
func clientName(i int) string { return "client-" + strconv.Itoa(i) }

// act sends a step.
func (c *crowd) act(ctx context.Context, s step, p *pair) error {
	if len(s.commands) == 0 {
		_ = c.clients[s.client].Close()
		return c.join(ctx, s.client, p)
	}
	var raw []byte
	for _, args := range s.commands {
		args = slices.Clone(args)
		for i := range args {
			for n := range crowdSize {
				if args[i] == clientName(n) {
					args[i] = c.ids[n]
				}
			}
		}
		raw = append(raw, harness.Command(args...)...)
	}
	return c.clients[s.client].Send(raw)
}

// replies are what one client is sent during a step.
type replies struct {
	plain, pushes [][]byte
	// invalidated are the keys that it is told to forget, sorted, each once: how many of them one message names depends on which
	// commands a server has found together.
	invalidated []string
	closed      bool
}

// everything stands for all keys among those that are invalidated.
const everything = "all keys"

// lacks tells whether there is more to come, before these can be what they should.
func (r replies) lacks(want replies) bool {
	return !r.closed && (want.closed || len(r.plain) < len(want.plain) || len(r.pushes) < len(want.pushes) ||
		slices.ContainsFunc(want.invalidated, func(key string) bool { return !slices.Contains(r.invalidated, key) }))
}

func (r replies) String() string {
	text := fmt.Sprintf("%q, pushes %q, invalidated %q", r.plain, r.pushes, r.invalidated)
	if r.closed {
		text += ", and the connection ends"
	}
	return text
}

// read reads what comes next. Pushes have no place among the replies to commands, nor invalidations among other pushes: they come
// from several connections to Redis.
func (r *replies) read(c *crowd, client int) error {
	raw, err := c.clients[client].ReadReply()
	switch {
	case errors.Is(err, io.EOF):
		r.closed = true
		return nil
	case err != nil:
		return err
	case raw[0] != '>':
		r.plain = append(r.plain, c.named(raw))
	case bytes.HasPrefix(raw, []byte(">2\r\n$10\r\ninvalidate\r\n")):
		return r.invalidate(raw)
	default:
		r.pushes = append(r.pushes, raw)
	}
	return nil
}

// invalidate reads an invalidation.
func (r *replies) invalidate(raw []byte) error {
	v, err := harness.Decode(raw)
	if err != nil {
		return err
	}
	keys := v.Elems[1].Strings()
	if v.Elems[1].Null {
		keys = []string{everything}
	}
	r.invalidated = slices.Compact(slices.Sorted(slices.Values(append(r.invalidated, keys...))))
	return nil
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
steps:
	for at, s := range steps {
		if len(s.commands) == 0 {
			clients[s.client] = standing{}
		}
		for _, args := range s.commands {
			if clients[s.client].say(p, args) != "" {
				break steps
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

// comparable is replies as they are, but for the confirmations of one UNSUBSCRIBE and the messages by several patterns about one thing,
// whose order is that of a hash table. Each run of those is one element, in which the scalars are sorted.
func comparable(replies [][]byte) (all []string) {
	latest := ""
	var run []string
	end := func() {
		if latest != "" {
			slices.Sort(run)
			all = append(all, strings.Join(run, "\n"))
		}
		latest, run = "", nil
	}
	for _, raw := range replies {
		kind := ""
		v, err := harness.Decode(raw)
		if err == nil && len(v.Elems) > 0 {
			switch k := v.Elems[0].Str; k {
			case "unsubscribe", "punsubscribe", "sunsubscribe":
				kind = k
			case "pmessage":
				kind = k + strings.Join(v.Strings()[2:], " ")
			}
		}
		if kind != latest {
			end()
		}
		if latest = kind; kind == "" {
			all = append(all, string(raw))
		} else {
			run = append(run, scalars(v)...)
		}
	}
	end()
	return all
}

// named is a reply with the names of clients in place of the ids that the side has given them, and what CLIENT LIST and CLIENT INFO
// tell of other clients and of the servers left out.
func (c *crowd) named(raw []byte) []byte {
	for i, id := range c.ids {
		if string(raw) == ":"+id+"\r\n" {
			return []byte(clientName(i))
		}
		raw = bytes.Replace(raw, []byte("$2\r\nid\r\n:"+id+"\r\n"), []byte("$2\r\nid\r\n"+clientName(i)), 1)
	}
	if !bytes.Contains(raw[:min(len(raw), 100)], []byte("id=")) || !bytes.Contains(raw, []byte(" laddr=")) {
		return raw
	}
	_, lines, _ := bytes.Cut(raw, []byte("\r\n"))
	told := []byte{raw[0]}
	for line := range bytes.Lines(lines) {
		fields := strings.Fields(strings.TrimPrefix(string(line), "txt:"))
		if len(fields) == 0 {
			continue
		}
		id := strings.TrimPrefix(fields[0], "id=")
		i := slices.Index(c.ids, id)
		if i < 0 {
			continue
		}
		told = append(told, clientName(i)...)
		for _, f := range fields[1:] {
			name, value, _ := strings.Cut(f, "=")
			switch name {
			case "flags": // what is watched and has changed, and who is just unblocked, only Redis knows; READONLY changes nothing
				name += "=" + strings.NewReplacer("d", "", "u", "", "r", "", "N", "").Replace(value)
			case "multi": // of queued commands, the sidecar counts those that were refused too
				name += "=" + strconv.FormatBool(value != "-1")
			case "name", "db", "sub", "psub", "ssub", "user", "redir", "resp":
				name += "=" + value
			}
			told = append(told, " "+name...)
		}
		told = append(told, '\n')
	}
	return told
}

// sharedGenerator makes the steps of several clients.
type sharedGenerator struct {
	*generator
	pair    *pair
	groups  map[string][]shape
	clients [crowdSize]struct {
		standing
		blocked bool // for as long as nobody wakes it
	}
}

func newSharedGenerator(seed uint64, p *pair) *sharedGenerator {
	g := &sharedGenerator{generator: newGenerator(seed, p, nil), pair: p, groups: parseShapes(sharedShapes)}
	g.tags = g.tags[:1]
	g.tag = g.tags[0]
	return g
}

// steps makes a sequence.
func (g *sharedGenerator) steps(n int) []step {
	var all []step
	for i := range crowdSize {
		all = append(all, step{i, [][]string{{"HELLO", g.oneOf("2", "3")}}})
	}
	for len(all) < n {
		all = append(all, g.step())
	}
	return all
}

func (g *sharedGenerator) step() step {
	n := g.IntN(crowdSize)
	c := &g.clients[n]
	if c.blocked {
		switch x := g.IntN(6); {
		case x == 0:
			c.blocked, c.standing = false, standing{}
			return step{client: n} // leaves
		case x <= 2 && g.clients[0].standing == (standing{}):
			c.blocked = false
			return step{0, [][]string{{"CLIENT", "UNBLOCK", clientName(n)}}}
		}
		n = 0
		c = &g.clients[0]
	}
	if g.IntN(60) == 0 {
		c.standing = standing{}
		return step{client: n}
	}
	s := step{client: n}
	times := 1
	if g.IntN(4) == 0 {
		times += g.IntN(5)
	}
	for range times {
		next := g.next(n)
		now := c.standing
		if slices.ContainsFunc(next, func(args []string) bool { return now.say(g.pair, args) != "" }) {
			continue
		}
		info := g.table.Find(bytesOf(next[0]))
		alone := info != nil && g.pair.difference(info) != none // so that it is known which reply is its
		if alone && len(s.commands) > 0 {
			break
		}
		c.standing = now
		s.commands = append(s.commands, next...)
		if alone || c.blocked {
			break
		}
	}
	if len(s.commands) == 0 {
		s.commands = [][]string{{"PING"}}
	}
	return s
}

// next makes a client's next command, or several that belong together.
func (g *sharedGenerator) next(n int) [][]string {
	c := &g.clients[n]
	notifications := "notifications"
	if g.pair.unlike {
		notifications = "publishing"
	}
	group := g.oneOf(notifications, "data", "data", "data", "scripts", "transactions", "transactions", "publishing", "subscribing", "connection", "blocking", "tracking", "replies")
	switch {
	case c.inside:
		group = g.oneOf("data", "data", "data", "scripts", "publishing", "blocking", "transactions", "transactions")
	case c.subscribed && g.IntN(2) > 0:
		group = "subscribing"
	}
	shapes := g.groups[group]
	args := g.expand(nil, shapes[g.IntN(len(shapes))].root)
	if group == "blocking" && !c.inside && slices.Contains(args, "0") && args[0] != "WAIT" {
		if n == 0 {
			return [][]string{{"LPUSH", g.key("list"), "a"}} // somebody has to wake the others
		}
		c.blocked = true
	}
	all := [][]string{args}
	if group == "replies" && strings.EqualFold(args[len(args)-1], "OFF") {
		for range g.IntN(3) {
			all = append(all, []string{"SET", g.key("str"), "silently"}, []string{"NOSUCHCOMMAND"})
		}
		all = append(all, []string{"CLIENT", "REPLY", "ON"})
	} else if group == "replies" {
		all = append(all, []string{"INCR", g.key("num")}, []string{"PING"})
	}
	return all
}

// number is the number of times that the generator was asked.
func (g *generator) number() string { return strconv.Itoa(g.times) }

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

// stepsText writes steps down, one a line: the client, and its commands.
func stepsText(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%d:", s.client)
		if len(s.commands) == 0 {
			b.WriteString(" leaves")
		}
		for i, args := range s.commands {
			if i > 0 {
				b.WriteString(" ;")
			}
			for _, a := range args {
				b.WriteString(" " + strconv.Quote(a))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// parseSteps reads what stepsText writes, and comments after #.
func parseSteps(text string) ([]step, error) {
	var all []step
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		client, rest, _ := strings.Cut(line, ":")
		n, err := strconv.Atoi(client)
		if err != nil || n < 0 || n >= crowdSize {
			return nil, fmt.Errorf("%q begins with no client from 0 to %d", line, crowdSize-1)
		}
		s := step{client: n}
		if rest = strings.TrimSpace(rest); rest != "leaves" {
			s.commands = [][]string{nil}
		}
		for rest != "leaves" && rest != "" {
			last := &s.commands[len(s.commands)-1]
			if rest[0] == ';' {
				s.commands = append(s.commands, nil)
				rest = strings.TrimSpace(rest[1:])
				continue
			}
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", rest, err)
			}
			arg, _ := strconv.Unquote(quoted)
			*last = append(*last, arg)
			rest = strings.TrimSpace(rest[len(quoted):])
		}
		all = append(all, s)
	}
	return all, nil
}

package parity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

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

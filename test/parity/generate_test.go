package parity

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"readthrough/internal/command"
	"readthrough/internal/slot"
)

// shape is how a command may look.
type shape struct {
	name  []string // its first words, up to two, by which the table knows it
	root  part
	exact bool // no argument is left out or added
}

// part is a piece of a shape: a word, or a choice between sequences.
type part struct {
	word     string
	literal  bool
	choice   [][]part // where it is no word
	optional bool
	repeated bool
}

// parseShapes parses a table of them.
func parseShapes(shapes map[string]string) map[string][]shape {
	parsed := map[string][]shape{}
	for group, text := range shapes {
		for line := range strings.Lines(text) {
			line, exact := strings.CutPrefix(strings.TrimSpace(line), "! ")
			if words := strings.Fields(line); len(words) > 0 {
				rest := words
				parsed[group] = append(parsed[group], shape{words[:min(2, len(words))], part{choice: parse(&rest, "")}, exact})
			}
		}
	}
	return parsed
}

// parse reads alternatives up to the closing bracket.
func parse(words *[]string, closing string) [][]part {
	alternatives := [][]part{nil}
	last := &alternatives[0]
	for len(*words) > 0 {
		w := (*words)[0]
		*words = (*words)[1:]
		switch w {
		case closing:
			return alternatives
		case "|":
			alternatives = append(alternatives, nil)
			last = &alternatives[len(alternatives)-1]
		case "(":
			*last = append(*last, part{choice: parse(words, ")")})
		case "[":
			*last = append(*last, part{choice: parse(words, "]"), optional: true})
		case "+":
			(*last)[len(*last)-1].repeated = true
		default:
			text, quoted := strings.CutPrefix(w, "'")
			*last = append(*last, part{word: text, literal: quoted || values[w] == nil})
		}
	}
	if closing != "" {
		panic("a shape lacks its " + closing)
	}
	return alternatives
}

// generator makes commands, the same ones from the same seed.
type generator struct {
	*rand.Rand
	table   *command.Table
	payload payloads
	tags    []string // of the keys of this sequence
	shapes  []shape
	times   int

	tag   string // of the keys of this command
	stray int    // one key in so many has another one
}

// payloads are what commands take that only a server can make.
type payloads struct{ values, functions []string }

// hashTags lie on different masters of three, in turn.
var hashTags = []string{"a", "b", "c", "user:1000", "x y", "é", "12", "tag"}

func newGenerator(seed uint64, p *pair, shapes map[string]string) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), table: p.table, payload: p.payload, stray: 100}
	if p.meaning {
		g.stray = 3
	}
	for _, i := range g.Perm(len(hashTags))[:3] {
		g.tags = append(g.tags, hashTags[i])
	}
	parsed := parseShapes(shapes)
	for _, group := range slices.Sorted(maps.Keys(parsed)) {
		for _, s := range parsed[group] {
			if info := p.table.Find(bytesOf(s.name)); info == nil || p.difference(info) != notAsked {
				g.shapes = append(g.shapes, s)
			}
		}
	}
	return g
}

// without leaves a command out.
func (g *generator) without(name string) {
	g.shapes = slices.DeleteFunc(g.shapes, func(s shape) bool { return s.name[0] == name })
}

// command makes one command.
func (g *generator) command() []string {
	s := g.shapes[g.IntN(len(g.shapes))]
	g.tag = g.tags[g.IntN(len(g.tags))]
	args := g.expand(nil, s.root)
	if s.exact {
		return args
	}
	switch g.IntN(60) {
	case 0:
		if len(args) > 1 {
			args = args[:len(args)-1]
		}
	case 1:
		args = append(args, g.key("key"))
	}
	return args
}

func (g *generator) expand(args []string, p part) []string {
	if p.optional && g.IntN(2) == 0 {
		return args
	}
	times := 1
	if p.repeated {
		times += g.IntN(3)
	}
	for range times {
		switch {
		case p.literal:
			args = append(args, g.inSomeCase(p.word))
		case p.word != "":
			args = append(args, values[p.word](g))
		default:
			for _, q := range p.choice[g.IntN(len(p.choice))] {
				args = g.expand(args, q)
			}
		}
	}
	return args
}

func (g *generator) inSomeCase(word string) string {
	switch g.IntN(20) {
	case 0:
		return strings.ToLower(word)
	case 1:
		return strings.ToUpper(word[:len(word)/2]) + strings.ToLower(word[len(word)/2:])
	}
	return word
}

func (g *generator) oneOf(choices ...string) string { return choices[g.IntN(len(choices))] }

// keyKinds are the kinds of keys, by the type of what is mostly kept there.
var keyKinds = []string{"str", "num", "list", "hash", "set", "zset", "stream", "geo", "bits", "hll"}

// key makes a key of a kind, or at times of another one, whose value then is of a wrong type.
func (g *generator) key(kind string) string {
	if kind == "key" || g.IntN(25) == 0 {
		kind = g.oneOf(keyKinds...)
	}
	tag := g.tag
	if g.IntN(g.stray) == 0 {
		tag = g.oneOf(g.tags...)
	}
	switch g.IntN(12) {
	case 0:
		return tag // which is its own tag
	case 1:
		return "\x00" + kind + "{" + tag + "}\xff\r\n{other}"
	default:
		return "{" + tag + "}" + kind + strconv.Itoa(g.IntN(2))
	}
}

// text makes a value of one of the many forms that values have.
func (g *generator) text() string {
	switch g.IntN(14) {
	case 0:
		return ""
	case 1:
		return "\x00\xff\r\n$5\r\n\x1b"
	case 2:
		return strings.Repeat("lorem ", 1+g.IntN(300))
	case 3:
		if g.IntN(80) == 0 {
			return strings.Repeat("x", 1<<20+g.IntN(5)) // past 1 MiB, where commands are not collected any more
		}
		return "v"
	case 4, 5, 6:
		return values["int"](g)
	case 7:
		return values["float"](g)
	default:
		return values["short"](g)
	}
}

// values make the arguments that shapes name.
var values map[string]func(g *generator) string

func init() {
	values = map[string]func(g *generator) string{
		"val":   (*generator).text,
		"short": func(g *generator) string { return g.oneOf("", "one", "two", "3", "4.5", "a b", "\x00\r\n", "zeta") },
		"word":  func(g *generator) string { return g.oneOf("alpha", "beta", "gamma") },
		"int": func(g *generator) string {
			return g.oneOf("0", "1", "-7", "42", "9223372036854775807", "-1000000", "1.5", "x")
		},
		"small":   func(g *generator) string { return g.oneOf("0", "1", "2", "3", "3", "-1") },
		"index":   func(g *generator) string { return g.oneOf("0", "1", "2", "5", "-1", "-2", "-5", "100") },
		"offset":  func(g *generator) string { return strconv.Itoa(g.IntN(3000)) },
		"float":   func(g *generator) string { return g.oneOf("0.5", "-2.25", "3e3", "10", "inf", "nan", "x") },
		"numkeys": func(g *generator) string { return g.oneOf("2", "2", "2", "2", "2", "2", "1", "3", "0", "-1", "x") },
		"member":  func(g *generator) string { return g.oneOf("1", "2", "3", "5", "8", "-13", "21", "34", "x", "y\r\n") },
		"zmember": func(g *generator) string { return g.oneOf("a", "b", "c", "d", "e", "f\x00", "", "1", "2") },
		"field":   func(g *generator) string { return g.oneOf("f1", "f2", "f3", "n", "n", "\xff", "") },
		"score":   func(g *generator) string { return g.oneOf("0", "1", "2", "2.5", "-3", "1e10", "inf", "-inf", "x") },
		"bound":   func(g *generator) string { return g.oneOf("-inf", "+inf", "0", "(1", "2", "(2.5", "x") },
		"lex":     func(g *generator) string { return g.oneOf("-", "+", "[a", "(b", "[d", "(e", "x") },
		"pattern": func(g *generator) string { return g.oneOf("*", "?", "{a}*", "[a-f]*", "f[^1]", "\\*", "nosuch") },
		"bittype": func(g *generator) string { return g.oneOf("u8", "i16", "u1", "i64", "u63", "u64") },
		"lon":     func(g *generator) string { return g.oneOf("13.361389", "15.087269", "-122.4", "0", "181") },
		"lat":     func(g *generator) string { return g.oneOf("38.115556", "37.502669", "0", "-85", "86") },
		"radius":  func(g *generator) string { return g.oneOf("1", "200", "20000", "-1") },
		"unit":    func(g *generator) string { return g.oneOf("m", "km", "mi", "ft", "xx") },
		"group":   func(g *generator) string { return g.oneOf("g1", "g1", "g2") },
		"slot":    func(g *generator) string { return strconv.Itoa(int(slot.Of([]byte(g.tag)))) },
		"payload": func(g *generator) string { return g.oneOf(append(g.payload.values, "nonsense")...) },
		"script":  func(g *generator) string { return g.oneOf(scripts...) },
		"sha":     func(g *generator) string { return g.oneOf(append(scriptSHAs, strings.Repeat("0", 40))...) },
		"library": func(*generator) string { return library },

		"functions": func(g *generator) string { return g.oneOf(g.payload.functions...) },
		"consumer":  func(g *generator) string { return g.oneOf("c1", "c2") },
		"id":        func(g *generator) string { return fmt.Sprintf("%d-%d", g.IntN(40), g.IntN(3)) },

		// Times: the relative ones are all different, so that which of two is later does not depend on when they were set; the
		// absolute ones are far beyond them.
		"secs":    func(g *generator) string { return strconv.Itoa(g.later()) },
		"ms":      func(g *generator) string { return strconv.Itoa(g.later() * 1000) },
		"farsecs": func(g *generator) string { return strconv.Itoa(7000000000 + g.IntN(5)) },
		"farms":   func(g *generator) string { return strconv.Itoa(7000000000000 + g.IntN(5)) },
	}
	for _, kind := range append(keyKinds, "key") {
		values[kind] = func(g *generator) string { return g.key(kind) }
	}
}

// later makes a number of seconds that this sequence has not seen, an hour or more away from the others.
func (g *generator) later() int {
	g.times++
	return 1000000 + g.times*7919%10007*3600
}

package origin

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// node is a place in the trie of all patterns: parts that patterns have in common are walked once for all of them, so a match
// costs the key's length and not the number of maps. Every capture has one possible end in a key, given where it begins, so a
// node is reached at one position at most and nothing is tried twice.
//
// A trie is built by insert, and never changed after.
type node struct {
	literal  string   // what the key must have here, before anything else
	ends     []*Map   // maps whose pattern ends after the literal; more than one is an overlap, refused by Compile
	captures []branch // what may go on with a capture
	next     []*node  // what may go on with a literal, each beginning with a character of its own
	index    []rune   // those characters, sorted
}

// branch is a capture that patterns have in common, and what follows it.
type branch struct {
	kind CaptureType
	stop string
	node *node
}

// insert adds a pattern. m is what match returns for its keys.
func (n *node) insert(p *pattern, m *Map) {
	for _, part := range p.parts {
		if part.literal != "" {
			n = n.descend(part.literal)
		} else {
			n = n.branch(part.capture.Type, part.stop)
		}
	}
	n.ends = append(n.ends, m)
}

func (n *node) branch(kind CaptureType, stop string) *node {
	for _, b := range n.captures {
		if b.kind == kind && b.stop == stop {
			return b.node
		}
	}
	b := branch{kind: kind, stop: stop, node: &node{}}
	n.captures = append(n.captures, b)
	return b.node
}

// descend returns the node after literal, splitting nodes where literals part. Splits fall between characters.
func (n *node) descend(literal string) *node {
	r, _ := utf8.DecodeRuneInString(literal)
	at, known := slices.BinarySearch(n.index, r)
	if !known {
		child := &node{literal: literal}
		n.index = slices.Insert(n.index, at, r)
		n.next = slices.Insert(n.next, at, child)
		return child
	}
	child := n.next[at]
	common := commonPrefix(child.literal, literal)
	if common < len(child.literal) {
		rest := *child
		rest.literal = child.literal[common:]
		first, _ := utf8.DecodeRuneInString(rest.literal)
		*child = node{literal: child.literal[:common], index: []rune{first}, next: []*node{&rest}}
	}
	if common == len(literal) {
		return child
	}
	return child.descend(literal[common:])
}

// child returns the node whose literal begins with r, or nil.
func (n *node) child(r rune) *node {
	if i, ok := slices.BinarySearch(n.index, r); ok {
		return n.next[i]
	}
	return nil
}

// commonPrefix returns the length in bytes of the longest common prefix that ends between characters.
func commonPrefix(a, b string) int {
	n := 0
	for i, r := range a {
		if !strings.HasPrefix(b[i:], string(r)) {
			break
		}
		n = i + utf8.RuneLen(r)
	}
	return n
}

// span is where a capture stands in a key.
type span struct{ start, end int }

// match returns the map whose pattern key[at:] fits, or nil, and fills spans with the captures in their order.
func (n *node) match(key []byte, at int, spans []span) *Map {
	for {
		if len(key)-at < len(n.literal) || string(key[at:at+len(n.literal)]) != n.literal {
			return nil
		}
		at += len(n.literal)
		if at == len(key) {
			if len(n.ends) == 0 {
				return nil
			}
			return n.ends[0]
		}
		for i := range n.captures {
			b := &n.captures[i]
			end := b.kind.end(key, at, b.stop)
			if end < 0 {
				continue
			}
			spans[0] = span{at, end}
			if m := b.node.match(key, end, spans[1:]); m != nil {
				return m
			}
		}
		r, _ := utf8.DecodeRune(key[at:])
		if n = n.child(r); n == nil {
			return nil
		}
	}
}

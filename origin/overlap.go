package origin

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxOverlaps bounds how many overlaps one compilation reports.
const maxOverlaps = 20

// overlap is a key that two maps match.
type overlap struct {
	a, b *Map
	key  string
}

// overlaps finds the pairs of maps that match one key, each with the shortest such key below the place where the two patterns
// part. It walks two paths of the trie side by side over the characters that either of them tells apart (the product of two
// automata), beginning wherever the trie leaves more than one way to go on with the same character. That is only where captures
// are: so maps that differ in a literal cost nothing.
func (n *node) overlaps(prefix string, found []overlap) []overlap {
	prefix += n.literal
	for i := range n.ends {
		for _, b := range n.ends[:i] {
			found = addOverlap(found, overlap{b, n.ends[i], prefix})
		}
	}
	for i, b := range n.captures {
		ways := []way{{n, literals}}
		for j := range n.captures[:i] {
			ways = append(ways, way{n, j})
		}
		for _, w := range ways {
			found = search(w, way{n, i}, prefix, found)
		}
		found = b.node.overlaps(prefix+b.kind.example(b.stop), found)
	}
	for _, c := range n.next {
		found = c.overlaps(prefix, found)
	}
	return found
}

func addOverlap(found []overlap, o overlap) []overlap {
	for _, f := range found {
		if f.a == o.a && f.b == o.b || f.a == o.b && f.b == o.a {
			return found
		}
	}
	if len(found) == maxOverlaps {
		return found
	}
	return append(found, o)
}

// way is one of the ways to go on after a node's literal: a capture by its index, or the literals of the nodes below.
type way struct {
	node    *node
	capture int
}

const literals = -1

// position is a place on a path through the trie.
type position struct {
	node *node
	off  int // bytes of the node's literal that are behind
	way  way // the capture that the path is in; its node is nil outside of captures
	p    progress
}

// step appends the places that the way leads to with r as its first character.
func (w way) step(r rune, to []position) []position {
	if w.capture == literals {
		if c := w.node.child(r); c != nil {
			to = append(to, position{node: c, off: utf8.RuneLen(r)})
		}
		return to
	}
	return position{way: w}.step(r, to)
}

// step appends the places that one more character leads to.
func (s position) step(r rune, to []position) []position {
	if s.way.node != nil {
		b := s.way.node.captures[s.way.capture]
		if p, ok := b.kind.step(s.p, r, b.stopRune()); ok {
			to = append(to, position{way: s.way, p: p})
		}
		if !b.kind.complete(s.p) {
			return to
		}
		s = position{node: b.node}
	}
	if s.off < len(s.node.literal) {
		if strings.HasPrefix(s.node.literal[s.off:], string(r)) {
			to = append(to, position{node: s.node, off: s.off + utf8.RuneLen(r)})
		}
		return to
	}
	to = way{s.node, literals}.step(r, to)
	for i := range s.node.captures {
		to = way{s.node, i}.step(r, to)
	}
	return to
}

// ends returns the maps whose pattern ends here.
func (s position) ends() []*Map {
	if s.way.node != nil {
		b := s.way.node.captures[s.way.capture]
		if !b.kind.complete(s.p) {
			return nil
		}
		s = position{node: b.node}
	}
	if s.off < len(s.node.literal) {
		return nil
	}
	return s.node.ends
}

// runes adds the characters that this place tells apart.
func (s position) runes(set map[rune]bool) {
	if s.way.node != nil {
		b := s.way.node.captures[s.way.capture]
		way{s.way.node, s.way.capture}.runes(set)
		if !b.kind.complete(s.p) {
			return
		}
		s = position{node: b.node}
	}
	if s.off < len(s.node.literal) {
		r, _ := utf8.DecodeRuneInString(s.node.literal[s.off:])
		set[r] = true
		return
	}
	way{s.node, literals}.runes(set)
	for i := range s.node.captures {
		way{s.node, i}.runes(set)
	}
}

func (w way) runes(set map[rune]bool) {
	if w.capture == literals {
		for _, r := range w.node.index {
			set[r] = true
		}
		return
	}
	for _, r := range w.node.captures[w.capture].kind.runes() {
		set[r] = true
	}
}

func (b branch) stopRune() rune {
	if b.stop == "" {
		return 0
	}
	r, _ := utf8.DecodeRuneInString(b.stop)
	return r
}

// search looks for keys that begin with prefix and match both a map on way a and one on way b, shortest first.
func search(a, b way, prefix string, found []overlap) []overlap {
	type pair struct{ a, b position }
	type visit struct {
		pair
		key string
	}
	seen := map[pair]bool{}
	var queue []visit
	push := func(as, bs []position, key string) {
		for _, pa := range as {
			for _, pb := range bs {
				if p := (pair{pa, pb}); !seen[p] {
					seen[p] = true
					queue = append(queue, visit{p, key})
				}
			}
		}
	}

	set := map[rune]bool{}
	a.runes(set)
	b.runes(set)
	for _, r := range slices.Sorted(maps.Keys(set)) {
		push(a.step(r, nil), b.step(r, nil), prefix+string(r))
	}
	for len(queue) > 0 && len(found) < maxOverlaps {
		v := queue[0]
		queue = queue[1:]
		for _, ma := range v.a.ends() {
			for _, mb := range v.b.ends() {
				found = addOverlap(found, overlap{ma, mb, v.key})
			}
		}
		clear(set)
		v.a.runes(set)
		v.b.runes(set)
		for _, r := range slices.Sorted(maps.Keys(set)) {
			push(v.a.step(r, nil), v.b.step(r, nil), v.key+string(r))
		}
	}
	return found
}

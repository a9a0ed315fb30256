package command

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
)

// index finds an Info by its name in any case, without allocating: an open
// addressing table whose keys are the lower-cased first and last eight bytes of
// the name. That is the whole name up to 16 bytes; longer ones are compared.
type index struct {
	slots []indexSlot // a power of two, at most half full; empty for no names
	shift uint8       // 64 - log2(len(slots))
}

type indexSlot struct {
	head, tail uint64
	name       string // lower case
	info       *Info  // nil: free
}

// newIndex takes names in lower case. The index of the same names is always the same.
func newIndex(names map[string]*Info) index {
	if len(names) == 0 {
		return index{}
	}
	log := bits.Len(uint(2*len(names) - 1))
	x := index{slots: make([]indexSlot, 1<<log), shift: uint8(64 - log)}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s := indexSlot{name: name, info: names[name]}
		s.head, s.tail = pack([]byte(s.name))
		at := x.home(s.head, s.tail)
		for x.slots[at].info != nil {
			at = (at + 1) & (len(x.slots) - 1)
		}
		x.slots[at] = s
	}
	return x
}

func (x *index) empty() bool { return len(x.slots) == 0 }

func (x *index) find(name []byte) *Info {
	if len(x.slots) == 0 {
		return nil
	}
	head, tail := pack(name)
	for at := x.home(head, tail); ; at = (at + 1) & (len(x.slots) - 1) {
		s := &x.slots[at]
		if s.info == nil {
			return nil
		}
		if s.head == head && s.tail == tail && len(s.name) == len(name) && (len(name) <= 16 || equalFold(name, s.name)) {
			return s.info
		}
	}
}

// names returns what the index was made of.
func (x *index) names() map[string]*Info {
	all := make(map[string]*Info)
	for _, s := range x.slots {
		if s.info != nil {
			all[s.name] = s.info
		}
	}
	return all
}

// home is where the search for a name starts: multiplicative hashing by the
// golden ratio (Knuth, The Art of Computer Programming, 6.4).
func (x *index) home(head, tail uint64) int {
	return int((head ^ bits.RotateLeft64(tail, 29)) * 0x9E3779B97F4A7C15 >> x.shift)
}

// pack returns the first and the last eight bytes of name in lower case; up to
// eight bytes stand in head alone, padded with zeros.
func pack(name []byte) (head, tail uint64) {
	n := len(name)
	switch {
	case n > 8:
		return lower(binary.LittleEndian.Uint64(name)), lower(binary.LittleEndian.Uint64(name[n-8:]))
	case n == 8:
		head = binary.LittleEndian.Uint64(name)
	case n >= 4:
		head = uint64(binary.LittleEndian.Uint32(name)) | uint64(binary.LittleEndian.Uint32(name[n-4:]))<<(8*(n-4))
	case n == 3:
		head = uint64(binary.LittleEndian.Uint16(name)) | uint64(name[2])<<16
	case n == 2:
		head = uint64(binary.LittleEndian.Uint16(name))
	case n == 1:
		head = uint64(name[0])
	}
	return lower(head), 0
}

// lower returns its eight bytes with A to Z in lower case, all at once: with the
// top bit of each byte set aside, an addition carries into it exactly where the
// byte is at least the constant's complement.
func lower(x uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	low := x &^ tops
	fromA := low + (0x80-'A')*ones
	pastZ := low + (0x7F-'Z')*ones
	upper := (fromA &^ pastZ) &^ x & tops
	return x | upper>>2
}

// equalFold reports whether s equals lowered but for the case of ASCII letters.
func equalFold(s []byte, lowered string) bool {
	if len(s) != len(lowered) {
		return false
	}
	for i, c := range s {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lowered[i] {
			return false
		}
	}
	return true
}

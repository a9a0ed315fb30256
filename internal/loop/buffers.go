package loop

import "math/bits"

// Buffers come in powers of two from minBuffer to maxBuffer bytes, and are kept for use up to maxKept bytes in all; larger ones
// go back to the garbage collector.
const (
	minBuffer = 1 << 10
	maxBuffer = 1 << 20
	maxKept   = 4 << 20
	classes   = 11
)

// buffers hands out the memory of a loop's connections. A connection has one only while it has something unfinished, so idle
// ones cost nothing.
type buffers struct {
	free [classes][][]byte // last in, first out: the warmest one first
	kept int               // bytes in free
	used int               // bytes handed out
}

// get returns an empty buffer of at least n bytes.
func (p *buffers) get(n int) []byte {
	class := classOf(n)
	if class >= classes {
		b := make([]byte, 0, n)
		p.used += cap(b)
		return b
	}
	size := minBuffer << class
	p.used += size
	if list := p.free[class]; len(list) > 0 {
		b := list[len(list)-1]
		p.free[class] = list[:len(list)-1]
		p.kept -= size
		return b
	}
	return make([]byte, 0, size)
}

// put takes back a buffer that get has returned. It takes nil.
func (p *buffers) put(b []byte) {
	if b == nil {
		return
	}
	p.used -= cap(b)
	class := classOf(cap(b))
	if class >= classes || cap(b) != minBuffer<<class || p.kept+cap(b) > maxKept {
		return
	}
	p.kept += cap(b)
	p.free[class] = append(p.free[class], b[:0])
}

// adopt counts b, which append has made from a buffer of get, in the place of that.
func (p *buffers) adopt(old, b []byte) {
	p.put(old)
	p.used += cap(b)
}

// classOf is the class of the smallest buffers that hold n bytes; it is classes or more when none does.
func classOf(n int) int {
	if n <= minBuffer {
		return 0
	}
	return bits.Len(uint(n-1)) - bits.Len(uint(minBuffer-1))
}

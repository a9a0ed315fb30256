package resp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"readthrough/internal/relay"
)

func TestCursor(t *testing.T) {
	for _, c := range []cursor{
		{},
		{node: 1},
		{tag: 1},
		{generation: 1},
		{pass: missedPass},
		{node: 1<<nodeBits - 1, tag: 1<<tagBits - 1, generation: 1<<generationBits - 1, pass: secondPass},
		{node: 1 << 34, tag: 4000, generation: 7, pass: missedPass},
	} {
		n := c.number()
		if got, ok := parseCursor([]byte(strconv.FormatUint(n, 10))); !ok || got != c {
			t.Errorf("%+v is %d, which is read as %+v, %t", c, n, got, ok)
		}
		if n > math.MaxInt64 {
			t.Errorf("%+v is %d, which is no signed number of 64 bits", c, n)
		}
		if c.node < 1<<35 && n >= 1<<53 {
			t.Errorf("%+v is %d, which a floating-point number cannot hold", c, n)
		}
		if (n == 0) != (c == cursor{}) {
			t.Errorf("%+v is %d", c, n)
		}
	}
	for _, text := range []string{"", "x", "-1", "+1", " 1", "1.5", "3", "9223372036854775808", "18446744073709551616", "1\x00"} {
		if c, ok := parseCursor([]byte(text)); ok {
			t.Errorf("%q is read as %+v", text, c)
		}
	}
}

// Tags are different, in order, in range, and mostly stay when others come and go.
func TestTags(t *testing.T) {
	const all = 1 << tagBits
	for _, count := range []int{1, 2, 3, 100, 1000, all - 1, all} {
		masters := make([]relay.Node, count)
		for i := range masters {
			masters[i].Addr = fmt.Sprintf("10.0.%d.%d:6379", i>>8, i&255)
		}
		before := tags(masters)
		for i, m := range before {
			if m.tag >= all || i > 0 && m.tag <= before[i-1].tag {
				t.Fatalf("of %d masters, the one at %d has tag %d", count, i, m.tag)
			}
		}
		rand.New(rand.NewPCG(uint64(count), 1)).Shuffle(count, func(i, j int) { masters[i], masters[j] = masters[j], masters[i] })
		if !slices.Equal(tags(masters), before) {
			t.Errorf("the tags of %d masters depend on their order", count)
		}
	}
	three := []relay.Node{{Addr: "127.0.0.1:7001"}, {Addr: "127.0.0.1:7002"}, {Addr: "127.0.0.1:7003"}}
	for _, m := range tags(three) {
		for _, alone := range tags([]relay.Node{m.Node}) {
			if alone != m {
				t.Errorf("%s has tag %d alone, and %d among others", m.Addr, alone.tag, m.tag)
			}
		}
	}
}

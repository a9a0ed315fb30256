package loop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// stream returns n bytes in which every place can be told from those near it.
func stream(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// size is a random number of bytes, small ones and large ones.
func size(rng *rand.Rand) int { return 1 + rng.IntN(1<<rng.IntN(19)) }

// The output of a connection against a reference that keeps every byte: what was written, retained, acknowledged and taken by
// the peer agree after each step of random schedules.
func TestOutputModel(t *testing.T) {
	for seed := range uint64(30) {
		for _, retain := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed=%d,retain=%v", seed, retain), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 7))
				l := still(t)
				drained := -1 // what Buffered was at the call
				var c *Conn
				h := &handler{drained: func() { drained = c.Buffered() }}
				c, peer := add(t, l, h)
				if retain {
					c.Retain()
				}
				var all []byte // every byte ever written
				acked, read := 0, 0
				notify := -1
				check := func(step string) {
					t.Helper()
					if drained >= 0 {
						if notify < 0 || drained > notify {
							t.Fatalf("%s: Drained with %d bytes waiting, asked for %d", step, drained, notify)
						}
						drained, notify = -1, -1
					}
					if retain {
						if held := len(all) - acked; c.Held() != held {
							t.Fatalf("%s: %d bytes held, want %d", step, c.Held(), held)
						}
						if w := c.Written(); w < read-acked || w > c.Held() || w+c.Buffered() != c.Held() {
							t.Fatalf("%s: %d bytes written and %d waiting of %d, peer has read %d", step, w, c.Buffered(), c.Held(), read-acked)
						}
						if c.Held() > 0 {
							skip := rng.IntN(c.Held())
							n := rng.IntN(c.Held() - skip + 1)
							if !bytes.Equal(c.Retained(skip, n), all[acked+skip:acked+skip+n]) {
								t.Fatalf("%s: Retained(%d, %d) is not what was written", step, skip, n)
							}
						}
					} else if c.Held() != c.Buffered() || c.Buffered() > len(all)-read {
						t.Fatalf("%s: %d bytes wait, %d are held; the peer has %d of %d", step, c.Buffered(), c.Held(), read, len(all))
					}
				}
				receive := func(most int) {
					buf := make([]byte, most)
					n, err := unix.Read(peer, buf)
					if n <= 0 {
						if err != unix.EAGAIN {
							t.Fatalf("peer read %d, %v", n, err)
						}
						return
					}
					if read+n > len(all) || !bytes.Equal(buf[:n], all[read:read+n]) {
						t.Fatalf("the peer got other bytes than were written, %d from %d", n, read)
					}
					read += n
				}
				for step := range 400 {
					var what string
					switch rng.IntN(7) {
					case 0, 1:
						what = "Write"
						b := stream(rng, size(rng))
						all = append(all, b...)
						c.Write(b)
					case 2:
						what = "Out, SetOut"
						b := stream(rng, size(rng))
						all = append(all, b...)
						c.SetOut(append(c.Out(), b...))
					case 3:
						what = "turn"
						turn(t, l)
					case 4:
						what = "read"
						receive(size(rng))
					case 5:
						what = "Ack"
						if n := c.Written(); retain && n > 0 {
							n = rng.IntN(n + 1)
							c.Ack(n)
							acked += n
						}
					case 6:
						what = "NotifyBelow"
						notify = size(rng)
						c.NotifyBelow(notify)
					}
					check(fmt.Sprintf("step %d, %s", step, what))
				}
				turnUntil(t, l, "all output", func() bool { receive(1 << 20); return read == len(all) })
				turn(t, l)
				if retain {
					c.Ack(c.Written())
					acked = len(all)
				}
				check("end")
				if c.Held() != 0 || l.buffers.used != 0 {
					t.Fatalf("%d bytes held and %d bytes of buffers in use at the end", c.Held(), l.buffers.used)
				}
				checkPool(t, &l.buffers)
			})
		}
	}
}

// The input of a connection against the stream that the peer sent: under random pieces, uses and pauses the handler is always
// shown the stream from where it left off, and nothing gets lost or comes twice.
func TestInputModel(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 11))
			l := still(t)
			all := stream(rng, 1<<20)
			sent, used := 0, 0
			lazy := true
			var c *Conn
			h := &handler{}
			h.data = func(b []byte) int {
				if c.Paused() {
					t.Fatal("shown input while paused")
				}
				if used+len(b) > sent || !bytes.Equal(b, all[used:used+len(b)]) {
					t.Fatalf("shown %d other bytes than those from %d", len(b), used)
				}
				n := len(b)
				if lazy {
					n = rng.IntN(len(b) + 1)
					if rng.IntN(4) == 0 {
						c.Pause()
					}
				}
				used += n
				return n
			}
			c, peer := add(t, l, h)
			transmit := func(n int) {
				n, err := unix.Write(peer, all[sent:min(len(all), sent+n)])
				if err == nil {
					sent += n
				} else if err != unix.EAGAIN {
					t.Fatal(err)
				}
			}
			for range 500 {
				switch rng.IntN(5) {
				case 0, 1:
					transmit(size(rng))
				case 2, 3:
					turn(t, l)
				case 4:
					c.Resume()
				}
				if unread := c.Unread(); unread > sent-used {
					t.Fatalf("%d bytes unread of %d", unread, sent-used)
				}
			}
			lazy = false
			turnUntil(t, l, "all input", func() bool {
				transmit(1 << 20)
				c.Pause() // what was left unused is shown again by Resume, or with more
				c.Resume()
				return used == len(all)
			})
			if c.Unread() != 0 || l.buffers.used != 0 {
				t.Fatalf("%d bytes unread and %d bytes of buffers in use at the end", c.Unread(), l.buffers.used)
			}
			checkPool(t, &l.buffers)
		})
	}
}

// checkPool compares what a pool says that it keeps with what it keeps.
func checkPool(t *testing.T, p *buffers) {
	t.Helper()
	kept := 0
	for class, list := range p.free {
		for _, b := range list {
			if len(b) != 0 || cap(b) != minBuffer<<class {
				t.Errorf("class %d keeps a buffer of length %d and capacity %d", class, len(b), cap(b))
			}
			kept += cap(b)
		}
	}
	if kept != p.kept || kept > maxKept {
		t.Errorf("the pool keeps %d bytes, says %d, and may keep %d", kept, p.kept, maxKept)
	}
}

func TestBuffersModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	var p buffers
	var out [][]byte
	used := 0
	for range 20_000 {
		switch {
		case len(out) == 0 || rng.IntN(2) == 0:
			n := size(rng) * (1 + rng.IntN(8)) // up to beyond maxBuffer
			b := p.get(n)
			if len(b) != 0 || cap(b) < n {
				t.Fatalf("get(%d): length %d, capacity %d", n, len(b), cap(b))
			}
			if n <= maxBuffer && n > minBuffer && cap(b) >= 2*n {
				t.Fatalf("get(%d): capacity %d is twice what is needed", n, cap(b))
			}
			used += cap(b)
			out = append(out, b)
		case rng.IntN(8) == 0: // outgrown, as by SetOut
			i := rng.IntN(len(out))
			full := out[i][:cap(out[i])]
			grown := append(full, 0) //nolint:gocritic // as a handler does that appends to what Out has lent
			used += cap(grown) - cap(out[i])
			p.adopt(out[i], grown)
			out[i] = grown
		default:
			i := rng.IntN(len(out))
			used -= cap(out[i])
			p.put(out[i])
			out[i] = out[len(out)-1]
			out = out[:len(out)-1]
		}
		if p.used != used {
			t.Fatalf("the pool says that %d bytes are in use, they are %d", p.used, used)
		}
	}
	for _, b := range out {
		p.put(b)
	}
	if p.used != 0 {
		t.Fatalf("%d bytes in use at the end", p.used)
	}
	checkPool(t, &p)
	p.put(nil)
}

package loop

import (
	"io"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Handler is what a connection belongs to. Its methods are called on the loop, and not after Close.
type Handler interface {
	// Data handles the connection's unread input and returns how many bytes of it are done with; the rest is shown again, with
	// what has come since. b is valid during the call only.
	Data(b []byte) (used int)
	// EOF says that the peer has closed its direction: no more input comes. Output can still be written.
	EOF()
	// Drained is the answer to NotifyBelow.
	Drained()
	// Hangup says, while the connection is paused, that the peer has closed its direction. What it sent before is still unread.
	Hangup()
	// Closed says that the connection broke and is closed. It is not called for a Close or Finish of one's own.
	Closed(err error)
}

// Conn is a stream socket on a loop. Its methods must be called on that loop.
type Conn struct {
	loop  *Loop
	h     Handler
	fd    int
	index uint32
	gen   uint32

	in  []byte // unread input kept between turns: in[off:]; nil most of the time
	off int

	// Output. out[acked:written] was written and is kept, on a retaining connection only; out[written:] waits.
	out     []byte
	acked   int
	written int
	retain  bool

	notify    int // call Drained when Buffered falls to this; -1: do not
	paused    bool
	eof       bool
	hungUp    bool // Hangup was called
	finishing bool
	limit     time.Duration // of finishing
	linger    *Timer        // ends finishing
	shut      bool          // finishing: all is written, and what comes is thrown away
	look      *Timer        // whether the peer has all
	finished  func()
	closed    bool
	polled    interest // as the poller knows it
	inDirty   bool
	inResumed bool
}

// Add takes over a non-blocking stream socket. The descriptor is the loop's from now on, also when it is an error.
func (l *Loop) Add(fd int, h Handler) (*Conn, error) {
	c := &Conn{loop: l, h: h, fd: fd, notify: -1, polled: interest{read: true}}
	if n := len(l.free); n > 0 {
		c.index = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		c.index = uint32(len(l.conns))
		l.conns = append(l.conns, nil)
	}
	l.poll.generation++
	c.gen = l.poll.generation
	if err := l.poll.add(c); err != nil {
		l.free = append(l.free, c.index)
		closeFD(fd)
		return nil, err
	}
	l.conns[c.index] = c
	l.live++
	return c, nil
}

// Retain makes the connection keep what it has written until Ack, so that it can be sent again elsewhere. Call it before the
// first Write.
func (c *Conn) Retain() { c.retain = true }

// Write appends b to the output, which is written when the turn ends. It copies b.
func (c *Conn) Write(b []byte) {
	if len(b) > cap(c.out)-len(c.out) {
		c.grow(len(b))
	}
	c.out = append(c.out, b...)
	c.mark()
}

// Out lends the output buffer to append to, for SetOut: c.SetOut(append(c.Out(), …)).
func (c *Conn) Out() []byte {
	if cap(c.out)-len(c.out) < 512 {
		c.grow(512)
	}
	return c.out
}

// SetOut takes back the buffer that Out has lent.
func (c *Conn) SetOut(b []byte) {
	if cap(b) != cap(c.out) { // append has moved it
		c.loop.buffers.adopt(c.out, b)
	}
	c.out = b
	c.mark()
}

// Buffered is the number of bytes of output that wait to be written.
func (c *Conn) Buffered() int { return len(c.out) - c.written }

// Held is the number of bytes of output kept: those that wait and those that are not acknowledged.
func (c *Conn) Held() int { return len(c.out) - c.acked }

// Retained returns n bytes of kept output, from skip bytes behind the oldest one. They are valid until the next Write or Ack.
func (c *Conn) Retained(skip, n int) []byte { return c.out[c.acked+skip : c.acked+skip+n] }

// Written is the number of kept bytes that were written.
func (c *Conn) Written() int { return c.written - c.acked }

// Ack gives up the oldest n bytes of kept output, which were written.
func (c *Conn) Ack(n int) {
	c.acked += n
	if c.acked == len(c.out) {
		c.emptied()
	}
}

// NotifyBelow has Drained called once, not before it returns, when no more than n bytes of output wait.
func (c *Conn) NotifyBelow(n int) {
	c.notify = n
	c.mark()
}

// Pause stops reading. Input that is unread stays, and the peer is pushed back by TCP.
func (c *Conn) Pause() {
	if !c.paused {
		c.paused = true
		c.update()
	}
}

// Resume reads again, and shows the handler the input that was kept, later in this turn.
func (c *Conn) Resume() {
	if !c.paused || c.closed {
		return
	}
	c.paused = false
	c.update()
	if len(c.in) > c.off && !c.inResumed {
		c.inResumed = true
		c.loop.resumed = append(c.loop.resumed, c)
	}
}

// Paused tells whether reading is stopped.
func (c *Conn) Paused() bool { return c.paused }

// Unread is the number of bytes of input kept for the handler.
func (c *Conn) Unread() int { return len(c.in) - c.off }

// Closed tells whether the connection is closed.
func (c *Conn) Closed() bool { return c.closed }

// Close closes the connection; output that waits is lost. The handler is not called again.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.linger.Stop()
	c.look.Stop()
	c.loop.poll.remove(c)
	c.loop.closing = append(c.loop.closing, c)
	if c.finished != nil {
		c.finished()
	}
}

// Finish closes the connection when the peer has its output, or when it has not taken it within limit, and then calls done. Nothing is
// read any more, and the handler is called only if the connection breaks before.
func (c *Conn) Finish(limit time.Duration, done func()) {
	if c.closed || c.finishing {
		done()
		return
	}
	c.finishing = true
	c.limit = limit
	c.finished = done
	c.Pause()
	c.mark()
}

// lookInterval is how soon it is looked again whether a peer has all.
const lookInterval = 10 * time.Millisecond

// part closes the connection when the peer has got what was written. A peer that goes on sending is read, for its unread bytes would
// have the kernel throw away what it has not taken.
func (c *Conn) part() {
	switch {
	case c.closed:
	case c.eof || !underway(c.fd):
		c.Close()
	default:
		if !c.shut {
			c.shut = true
			shutFD(c.fd)
			c.paused = false
			c.update()
		}
		c.look = c.loop.After(lookInterval, c.part)
	}
}

// discard throws away what the peer sends.
func (c *Conn) discard() {
	n, err := readFD(c.fd, c.loop.read)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if err != nil || n == 0 {
		c.Close()
	}
}

func (c *Conn) fail(err error) {
	if c.closed {
		return
	}
	c.Close()
	c.h.Closed(err)
}

// release gives back what a closed connection holds, at the end of the turn: until then a handler may look at its buffers.
func (c *Conn) release() {
	l := c.loop
	l.pumps.release(c.fd)
	closeFD(c.fd)
	l.buffers.put(c.in)
	l.buffers.put(c.out)
	c.in, c.out, c.off, c.acked, c.written = nil, nil, 0, 0, 0
	l.conns[c.index] = nil
	l.free = append(l.free, c.index)
	l.live--
}

func (c *Conn) mark() {
	if !c.inDirty && !c.closed {
		c.inDirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

func (c *Conn) update() {
	want := interest{read: !c.paused && !c.eof, write: c.polled.write, hangup: c.paused && !c.eof && !c.hungUp}
	if want != c.polled && !c.closed {
		c.setInterest(want)
	}
}

func (c *Conn) setInterest(want interest) {
	was := c.polled
	c.polled = want
	if err := c.loop.poll.modify(c, was); err != nil {
		c.polled = was
		// The poller forgot the descriptor: nothing can be done with it but to close it, in the next turn, since the caller is in
		// the middle of using it.
		c.loop.Post(func() { c.fail(err) })
	}
}

func (c *Conn) ready(ev event) {
	if ev.write {
		c.flush()
	}
	if c.closed {
		return
	}
	if ev.broken && !c.polled.read {
		c.fail(syscall.ECONNRESET)
		return
	}
	if ev.hangup && !c.polled.read && !c.eof && !c.hungUp {
		c.hungUp = true
		c.update()
		c.h.Hangup()
		return
	}
	if (ev.read || ev.broken) && c.polled.read {
		c.receive()
	}
}

func (c *Conn) receive() {
	if c.shut {
		c.discard()
		return
	}
	into := c.loop.read
	kept := len(c.in) > c.off
	if kept {
		c.makeRoom()
		into = c.in[len(c.in):min(cap(c.in), len(c.in)+maxSyscall)]
	}
	n, err := readFD(c.fd, into)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return
	case err != nil:
		c.fail(err)
		return
	case n == 0:
		c.eof = true
		c.update()
		c.h.EOF()
		return
	}
	if kept {
		c.in = c.in[:len(c.in)+n]
		c.deliver()
		return
	}
	b := into[:n]
	if used := c.h.Data(b); used < n && !c.closed {
		c.in = append(c.loop.buffers.get(n-used), b[used:]...)
		c.off = 0
	}
}

// deliver shows the kept input to the handler.
func (c *Conn) deliver() {
	if c.closed || c.paused || c.shut || len(c.in) == c.off {
		return
	}
	used := c.h.Data(c.in[c.off:])
	if c.closed {
		return
	}
	c.off += used
	if c.off == len(c.in) {
		c.loop.buffers.put(c.in)
		c.in, c.off = nil, 0
	}
}

// makeRoom has the kept input leave room to read into: by moving it to the front of its buffer, or into one of double the size.
func (c *Conn) makeRoom() {
	unread := len(c.in) - c.off
	if room := cap(c.in) - len(c.in); room >= unread && room >= minRoom {
		return
	}
	if c.off >= unread && cap(c.in)-unread >= minRoom {
		c.in = c.in[:copy(c.in, c.in[c.off:])]
		c.off = 0
		return
	}
	bigger := append(c.loop.buffers.get(max(2*unread, unread+minRoom)), c.in[c.off:]...)
	c.loop.buffers.put(c.in)
	c.in, c.off = bigger, 0
}

const (
	minRoom    = 4 << 10
	maxSyscall = 256 << 10
)

func (c *Conn) grow(n int) {
	held := len(c.out) - c.acked
	if c.acked > 0 && c.acked >= held && cap(c.out)-held >= n {
		copy(c.out, c.out[c.acked:])
		c.out = c.out[:held]
		c.written -= c.acked
		c.acked = 0
		return
	}
	bigger := append(c.loop.buffers.get(max(held+n, 2*held)), c.out[c.acked:]...)
	c.loop.buffers.put(c.out)
	c.out = bigger
	c.written -= c.acked
	c.acked = 0
}

func (c *Conn) emptied() {
	c.loop.buffers.put(c.out)
	c.out, c.acked, c.written = nil, 0, 0
}

// flush writes what waits, as far as the socket takes it.
func (c *Conn) flush() {
	if c.closed {
		return
	}
	for c.written < len(c.out) {
		n, err := writeFD(c.fd, c.out[c.written:min(len(c.out), c.written+maxSyscall)])
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			break
		}
		if err != nil {
			c.fail(err)
			return
		}
		if n == 0 {
			c.fail(io.ErrShortWrite)
			return
		}
		c.written += n
	}
	if !c.retain {
		c.acked = c.written
		if c.written == len(c.out) && c.out != nil {
			c.emptied()
		}
	}
	waits := c.written < len(c.out)
	if waits != c.polled.write {
		want := c.polled
		want.write = waits
		c.setInterest(want)
	}
	if c.finishing {
		if c.linger == nil {
			c.linger = c.loop.After(c.limit, c.Close)
		}
		if !waits && !c.shut {
			c.part()
		}
		return
	}
	if c.notify >= 0 && c.Buffered() <= c.notify {
		c.notify = -1
		c.h.Drained()
	}
}

// FD is the connection's descriptor, for people to read.
func (c *Conn) FD() int { return c.fd }

// LocalAddr and RemoteAddr are the connection's addresses as host:port, empty for what has none, such as a pump.
func (c *Conn) LocalAddr() string { return address(unix.Getsockname(c.fd)) }

// RemoteAddr is the peer's, see LocalAddr.
func (c *Conn) RemoteAddr() string { return address(unix.Getpeername(c.fd)) }

func address(sa unix.Sockaddr, err error) string {
	if err != nil {
		return ""
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)).String()
	}
	return ""
}

//go:build darwin || freebsd

package loop

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits on sockets with kqueue, level-triggered, so that the program can be built and tried on a Mac. A connection's
// index and generation do not fit into an event: they are looked up by descriptor.
type poller struct {
	fd         int
	wakeR      int
	wakeW      int
	generation uint32
	byFD       map[uint64]*Conn
	events     [256]unix.Kevent_t
	ready      [256]event
}

// interest in hangup is not served: kqueue tells of it through reading alone. A client that leaves while it is paused is noticed
// when it is read again.
type interest struct{ read, write, hangup bool }

// event is readiness of the connection with an index, if its generation is still that.
type event struct {
	index, gen  uint32
	read, write bool
	hangup      bool // never
	broken      bool // closed in both directions, or failed
}

func (p *poller) open() (err error) {
	if p.fd, err = unix.Kqueue(); err != nil {
		return fmt.Errorf("kqueue: %w", err)
	}
	unix.CloseOnExec(p.fd)
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		unix.Close(p.fd)
		return fmt.Errorf("pipe: %w", err)
	}
	p.wakeR, p.wakeW = pipe[0], pipe[1]
	for _, fd := range pipe {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			p.close()
			return fmt.Errorf("pipe: %w", err)
		}
	}
	p.byFD = map[uint64]*Conn{}
	if err := p.change(p.wakeR, unix.EVFILT_READ, unix.EV_ADD); err != nil {
		p.close()
		return fmt.Errorf("kevent: %w", err)
	}
	return nil
}

func (p *poller) close() {
	unix.Close(p.wakeR)
	unix.Close(p.wakeW)
	unix.Close(p.fd)
}

// wake ends a wait. It may be called from any goroutine until close.
func (p *poller) wake() { _, _ = unix.Write(p.wakeW, []byte{0}) }

// wait returns the number of events that came within the timeout, which is endless when negative.
func (p *poller) wait(timeout time.Duration) (int, error) {
	var limit *unix.Timespec
	if timeout >= 0 {
		ts := unix.NsecToTimespec(int64(timeout))
		limit = &ts
	}
	n, err := unix.Kevent(p.fd, nil, p.events[:], limit)
	if err == unix.EINTR {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	kept := 0
	for _, e := range p.events[:n] {
		if e.Ident == uint64(p.wakeR) {
			var b [64]byte
			_, _ = unix.Read(p.wakeR, b[:])
			continue
		}
		c := p.byFD[e.Ident]
		if c == nil {
			continue
		}
		p.ready[kept] = event{
			index: c.index, gen: c.gen,
			read:   e.Filter == unix.EVFILT_READ,
			write:  e.Filter == unix.EVFILT_WRITE,
			broken: e.Flags&unix.EV_ERROR != 0,
		}
		kept++
	}
	return kept, nil
}

func (p *poller) event(i int) event { return p.ready[i] }

func (p *poller) add(c *Conn) error {
	p.byFD[uint64(c.fd)] = c
	return p.modify(c, interest{})
}

func (p *poller) modify(c *Conn, was interest) error {
	if c.polled.read != was.read {
		if err := p.change(c.fd, unix.EVFILT_READ, flagsOf(c.polled.read)); err != nil {
			return err
		}
	}
	if c.polled.write != was.write {
		return p.change(c.fd, unix.EVFILT_WRITE, flagsOf(c.polled.write))
	}
	return nil
}

func (p *poller) remove(c *Conn) {
	_ = p.modify(&Conn{fd: c.fd}, c.polled)
	delete(p.byFD, uint64(c.fd))
}

func flagsOf(on bool) int {
	if on {
		return unix.EV_ADD
	}
	return unix.EV_DELETE
}

func (p *poller) change(fd, filter, flags int) error {
	var ev [1]unix.Kevent_t
	unix.SetKevent(&ev[0], fd, filter, flags)
	_, err := unix.Kevent(p.fd, ev[:], nil, nil)
	return err
}

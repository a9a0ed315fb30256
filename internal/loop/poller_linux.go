package loop

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits on sockets with epoll, level-triggered.
type poller struct {
	fd         int
	wakeFD     int
	generation uint32
	events     [256]unix.EpollEvent
	ready      [256]event
}

type interest struct{ read, write, hangup bool }

// event is readiness of the connection with an index, if its generation is still that.
type event struct {
	index, gen  uint32
	read, write bool
	hangup      bool // the peer has closed its direction
	broken      bool // closed in both directions, or failed
}

// wakeIndex marks the events of wakeFD.
const wakeIndex = ^uint32(0)

func (p *poller) open() (err error) {
	if p.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if p.wakeFD, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		unix.Close(p.fd)
		return fmt.Errorf("eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(-1)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, p.wakeFD, &ev); err != nil {
		p.close()
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

func (p *poller) close() {
	unix.Close(p.wakeFD)
	unix.Close(p.fd)
}

// wake ends a wait. It may be called from any goroutine until close.
func (p *poller) wake() {
	one := [8]byte{7: 1} // a counter in native order; any value but zero and all ones will do
	_, _ = unix.Write(p.wakeFD, one[:])
}

// wait returns the number of events that came within the timeout, which is endless when negative.
func (p *poller) wait(timeout time.Duration) (int, error) {
	ms := -1
	if timeout >= 0 {
		ms = int(min((timeout+time.Millisecond-1)/time.Millisecond, 1<<30))
	}
	// This call may wait, so it must be an ordinary one: the scheduler takes the processor meanwhile.
	n, err := unix.EpollWait(p.fd, p.events[:], ms)
	if err == unix.EINTR {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	kept := 0
	for _, e := range p.events[:n] {
		if uint32(e.Fd) == wakeIndex {
			var b [8]byte
			_, _ = unix.Read(p.wakeFD, b[:])
			continue
		}
		p.ready[kept] = event{
			index: uint32(e.Fd), gen: uint32(e.Pad),
			read:   e.Events&unix.EPOLLIN != 0,
			write:  e.Events&unix.EPOLLOUT != 0,
			hangup: e.Events&unix.EPOLLRDHUP != 0,
			broken: e.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0,
		}
		kept++
	}
	return kept, nil
}

func (p *poller) event(i int) event { return p.ready[i] }

func (p *poller) add(c *Conn) error { return p.control(unix.EPOLL_CTL_ADD, c) }

func (p *poller) modify(c *Conn, _ interest) error { return p.control(unix.EPOLL_CTL_MOD, c) }

func (p *poller) remove(c *Conn) { _ = p.control(unix.EPOLL_CTL_DEL, c) }

func (p *poller) control(op int, c *Conn) error {
	ev := unix.EpollEvent{Fd: int32(c.index), Pad: int32(c.gen)}
	if c.polled.read {
		ev.Events |= unix.EPOLLIN
	}
	if c.polled.write {
		ev.Events |= unix.EPOLLOUT
	}
	if c.polled.hangup {
		ev.Events |= unix.EPOLLRDHUP
	}
	return unix.EpollCtl(p.fd, op, c.fd, &ev)
}

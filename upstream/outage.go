package upstream

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// outage is the state of a node to which a lane's last attempt to connect has failed: it cannot be reached, or refuses the
// identity. However many commands wait for the node, the lane tries it now and then only: a Redis that comes back is not run at.
type outage struct {
	since    time.Time
	cause    error
	attempts int
	retry    time.Time // of the next attempt
}

// nextDial is until when a request has to wait because its node was tried just now; zero where it has not.
func (l *lane) nextDial(addr string) time.Time {
	if o := l.down[addr]; o != nil && l.byAddr[addr] == nil {
		return o.retry
	}
	return time.Time{}
}

// givenUp is why a node has been out of reach for longer than a command's patience, and nil for one that has not. Its commands fail at
// once then, but for those of the next attempt.
func (l *lane) givenUp(addr string, patience time.Duration) error {
	o := l.down[addr]
	if o == nil {
		return nil
	}
	now := l.side.loop.Now()
	if now.Sub(o.since) <= patience || !now.Before(o.retry) {
		return nil
	}
	return o.cause
}

// dial connects to a node on a goroutine and then calls done on the loop. A descriptor is done's to close.
func (l *lane) dial(addr string, done func(fd int, err error)) {
	s := l.side
	s.stats.Dials++
	s.up.run(func(ctx context.Context) {
		fd := -1
		err := s.up.dials.Acquire(ctx, 1)
		if err == nil {
			defer s.up.dials.Release(1)
			fd, err = s.connect(ctx, addr, l.identity)
		}
		posted := s.loop.Post(func() {
			l.note(addr, err)
			done(fd, err)
		})
		if !posted && fd >= 0 {
			_ = unix.Close(fd)
		}
	})
}

// note keeps account of which nodes can be reached.
func (l *lane) note(addr string, err error) {
	if err == nil {
		delete(l.down, addr)
		return
	}
	l.side.stats.DialsFailed++
	now := l.side.loop.Now()
	o := l.down[addr]
	if o == nil {
		o = &outage{since: now}
		l.down[addr] = o
	}
	o.attempts++
	o.cause, o.retry = err, now.Add(backoff(o.attempts))
	l.side.refresh()
}

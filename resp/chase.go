package resp

import "time"

// settling is how long a command is said again while its slot moves, or nobody serves it.
const settling = 3 * time.Second

// chase paces a command that nodes redirect, or put off. Nodes may disagree about a slot for a moment.
type chase struct {
	attempts int
	latest   time.Time // attempt
	deadline time.Time // for attempts that follow each other
}

// next is how long to wait before the command is said again, and whether it may be. named says that a node was named which takes it: the
// first times that is believed at once.
func (c *chase) next(now time.Time, named bool) (wait time.Duration, ok bool) {
	if now.Sub(c.latest) > settling {
		c.attempts, c.deadline = 0, now.Add(settling)
	}
	c.latest = now
	c.attempts++
	if named && c.attempts <= 2 {
		return 0, true
	}
	return backoff(c.attempts), !now.After(c.deadline)
}

// backoff is the time before a command is said again to a node that asks for it.
func backoff(attempts int) time.Duration {
	return min(2*time.Millisecond<<min(attempts, 7), 250*time.Millisecond)
}

// later has f called after a while, or at once.
func (s *session) later(wait time.Duration, f func()) {
	if wait == 0 {
		f()
		return
	}
	s.front.loop.After(wait, f)
}

// Package loop is the event loop that moves the bytes: one goroutine, locked to its thread, owns any number of connections.
//
// A turn waits for readiness, reads what is ready and hands it to the connections' handlers, runs what was posted and what is
// due, and then writes each connection that has output once. Everything that handlers own lives on their loop and needs no
// lock; work that blocks runs on other goroutines and comes back through Post, the one method that is safe to call from
// anywhere.
package loop

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// ErrStopped is what connections that are open when the loop stops are closed with.
var ErrStopped = errors.New("event loop stopped")

// readSize is the size in bytes of the buffer through which a loop reads, and so the most that one connection gets per turn.
// It bounds a raw system call too.
const readSize = 64 << 10

// Loop is an event loop. All methods but New, Run, Post, Stop and Detach must be called on the loop: by a handler, a timer or a
// posted function.
type Loop struct {
	poll    poller
	now     time.Time
	started time.Time
	busy    time.Duration
	turns   uint64

	conns []*Conn  // by index; the poller's events carry index and generation
	free  []uint32 // unused indexes
	live  int

	dirty   []*Conn // have output to write this turn
	resumed []*Conn // have kept input to handle this turn
	closing []*Conn // their descriptors are closed when the turn ends

	timers   timers
	eachTurn []func()
	buffers  buffers
	read     []byte

	mu      sync.Mutex
	posted  []func()
	spare   []func()
	stopped bool // no more posts are taken

	pumps pumps
}

// New makes a loop, which does nothing until Run.
func New() (*Loop, error) {
	l := &Loop{read: make([]byte, readSize), now: time.Now()}
	if err := l.poll.open(); err != nil {
		return nil, fmt.Errorf("event loop: %w", err)
	}
	return l, nil
}

// Run serves until Stop. It then closes every connection, with ErrStopped, and waits for the pumps of TLS connections.
func (l *Loop) Run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l.started = time.Now()
	l.now = l.started
	var failed error
	for !l.isStopped() {
		if failed = l.turn(); failed != nil {
			break
		}
	}
	l.shut()
	return failed
}

// Stop ends Run after the current turn. What is posted before is run. It may be called from any goroutine.
func (l *Loop) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stopped {
		l.stopped = true
		l.poll.wake()
	}
}

// Post has f called on the loop, in the order of posting. It is false, and f is never called, once the loop is stopped. It may
// be called from any goroutine.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.posted = append(l.posted, f)
	if len(l.posted) == 1 {
		l.poll.wake()
	}
	return true
}

// EachTurn has f called in every turn, when what was ready has been handled. Call it before Run.
func (l *Loop) EachTurn(f func()) { l.eachTurn = append(l.eachTurn, f) }

// Now is the time at which the current turn began.
func (l *Loop) Now() time.Time { return l.now }

// Stats are figures of a loop since it began to run.
type Stats struct {
	Turns     uint64
	Busy      time.Duration // spent in turns, the waiting left out
	Conns     int           // open now
	Buffered  int           // bytes of buffers in use by connections now, and of what Hold was told
	FreeBytes int           // bytes of buffers kept for use
}

// Stats returns the figures up to the current turn.
func (l *Loop) Stats() Stats {
	return Stats{Turns: l.turns, Busy: l.busy, Conns: l.live, Buffered: l.buffers.used, FreeBytes: l.buffers.kept}
}

// Hold counts n bytes more, or less, that are kept for connections outside of their buffers: for one that is not made yet.
func (l *Loop) Hold(n int) { l.buffers.used += n }

func (l *Loop) isStopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped && len(l.posted) == 0
}

func (l *Loop) turn() error {
	n, err := l.poll.wait(l.timeout())
	if err != nil {
		return fmt.Errorf("event loop: wait: %w", err)
	}
	l.now = time.Now()
	l.turns++
	for i := range n {
		ev := l.poll.event(i)
		if int(ev.index) >= len(l.conns) {
			continue
		}
		c := l.conns[ev.index]
		if c == nil || c.gen != ev.gen { // closed earlier in this batch
			continue
		}
		c.ready(ev)
	}
	l.runPosted()
	l.timers.run(l.now)
	for _, f := range l.eachTurn {
		f()
	}
	l.settle()
	l.busy += time.Since(l.now)
	return nil
}

// settle handles kept input and writes output until there is none of either, and then closes what is to be closed. A handler
// may cause more of both while it runs.
func (l *Loop) settle() {
	for len(l.resumed) > 0 || len(l.dirty) > 0 {
		for i := 0; i < len(l.resumed); i++ {
			c := l.resumed[i]
			c.inResumed = false
			c.deliver()
		}
		l.resumed = l.resumed[:0]
		for i := 0; i < len(l.dirty); i++ {
			c := l.dirty[i]
			c.inDirty = false
			c.flush()
		}
		l.dirty = l.dirty[:0]
	}
	for i, c := range l.closing {
		c.release()
		l.closing[i] = nil
	}
	l.closing = l.closing[:0]
}

func (l *Loop) runPosted() {
	l.mu.Lock()
	run := l.posted
	l.posted = l.spare[:0]
	l.mu.Unlock()
	for i, f := range run {
		run[i] = nil
		f()
	}
	l.spare = run
}

// timeout is how long the poller may wait: not at all with work at hand.
func (l *Loop) timeout() time.Duration {
	l.mu.Lock()
	pending := len(l.posted) > 0 || l.stopped
	l.mu.Unlock()
	if pending {
		return 0
	}
	return l.timers.until(time.Now())
}

func (l *Loop) shut() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.runPosted() // what has been posted may hold descriptors
	for _, c := range l.conns {
		if c != nil && !c.closed {
			c.fail(ErrStopped)
		}
	}
	l.settle()
	l.pumps.running.Wait()
	l.poll.close()
}

package checker

import (
	"context"
	"sync"
	"time"

	"readthrough/test/harness"
)

// sidecar is one of the sidecars, and what was done to it.
type sidecar struct {
	name    string
	process *harness.Sidecar
	totals  figures // of its processes that have ended

	mu     sync.Mutex
	pauses []span
}

// span is a stretch of time; it has not ended yet where to is zero.
type span struct{ from, to time.Time }

func (s *sidecar) String() string {
	if s == nil {
		return "nobody"
	}
	return s.name
}

// restart kills the process and starts another.
func (s *sidecar) restart(ctx context.Context) error {
	if now, err := scrape(ctx, s.process); err == nil {
		s.totals.add(now)
	}
	return s.process.Restart(ctx)
}

// figures are what all its processes have counted.
func (s *sidecar) figures(ctx context.Context) (figures, error) {
	now, err := scrape(ctx, s.process)
	if err == nil {
		now.add(s.totals)
	}
	return now, err
}

// pause stops the process for a while, or until ctx ends.
func (s *sidecar) pause(ctx context.Context, d time.Duration) error {
	s.mu.Lock()
	s.pauses = append(s.pauses, span{from: time.Now()})
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.pauses[len(s.pauses)-1].to = time.Now()
		s.mu.Unlock()
	}()
	if err := s.process.Pause(); err != nil {
		return err
	}
	rest(ctx, d)
	return s.process.Resume()
}

// awake is how much of a stretch of time the process was not paused.
func (s *sidecar) awake(from time.Time, took time.Duration) time.Duration {
	if s == nil {
		return took
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	to := from.Add(took)
	for _, p := range s.pauses {
		begin, end := p.from, p.to
		if end.IsZero() || end.After(to) {
			end = to
		}
		if begin.Before(from) {
			begin = from
		}
		if end.After(begin) {
			took -= end.Sub(begin)
		}
	}
	return took
}

// rest waits for a while, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

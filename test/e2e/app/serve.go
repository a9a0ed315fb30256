package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

// Lines of "app serve" are JSON, one a second, with everything since the start. FirstHit is when a value came for the first time.
type line struct {
	Reads     int       `json:"reads"`
	Nulls     int       `json:"nulls"`
	Errors    int       `json:"errors"`
	LastError string    `json:"lastError,omitempty"`
	Value     string    `json:"value"` // the last one
	SlowestMS int64     `json:"slowestMs"`
	Started   time.Time `json:"started"`
	FirstHit  time.Time `json:"firstHit,omitzero"`
	Ended     bool      `json:"ended,omitempty"` // by SIGTERM: the last line
}

// serve reads a key fifty times a second until the context ends, and for the time of LINGER after that, as an application does
// that finishes what it has begun. A failure is told at once.
func serve(ctx context.Context, out io.Writer, client *redis.Client, key string) error {
	const pause, every = 20 * time.Millisecond, time.Second
	linger, err := time.ParseDuration(cmp.Or(os.Getenv("LINGER"), "0s"))
	if err != nil {
		return fmt.Errorf("LINGER: %w", err)
	}
	ctx, cancel := lingering(ctx, linger)
	defer cancel()
	told := json.NewEncoder(out)
	l := line{Started: time.Now()}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for last := time.Now(); ctx.Err() == nil; {
		first, failed := l.FirstHit.IsZero(), l.Errors
		l.read(ctx, client, key)
		if time.Since(last) >= every || l.Errors != failed || first && !l.FirstHit.IsZero() {
			last = time.Now()
			if err := told.Encode(l); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	l.Ended = true
	return told.Encode(l)
}

// lingering ends some time after ctx does.
func lingering(ctx context.Context, linger time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(linger, cancel) })
	return later, cancel
}

func (l *line) read(ctx context.Context, client *redis.Client, key string) {
	began := time.Now()
	value, err := client.Get(ctx, key).Result()
	switch {
	case errors.Is(err, redis.Nil):
		l.Nulls++
	case err != nil && ctx.Err() == nil:
		l.Errors++
		l.LastError = err.Error()
	case err == nil:
		l.Value = value
		if l.FirstHit.IsZero() {
			l.FirstHit = time.Now()
		}
	}
	l.Reads++
	l.SlowestMS = max(l.SlowestMS, time.Since(began).Milliseconds())
}

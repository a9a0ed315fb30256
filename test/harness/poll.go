package harness

import (
	"context"
	"fmt"
	"time"
)

// startTimeout bounds the start of one server where the caller's context has no deadline of its own.
const startTimeout = 60 * time.Second

// Poll calls ready every few milliseconds until it returns nil. When the context ends first, or after a minute if it has no
// deadline, the error holds what ready said last.
func Poll(ctx context.Context, ready func() error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// awaitReady polls until a server answers, and gives up at once if its process ends.
func awaitReady(ctx context.Context, p *Process, ready func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := Poll(ctx, func() error {
		err := ready()
		if err != nil && !p.Running() {
			cancel(fmt.Errorf("%s ended while it started", p.path))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, p.Output())
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// patience is how long a probe waits, by flags.
type patience struct {
	timeout time.Duration // of one answer
	wait    time.Duration // for a good one; 0 to ask once
}

func (p *patience) register(c *cobra.Command) {
	c.Flags().DurationVar(&p.timeout, "timeout", time.Second, "how much `time` one answer may take")
	c.Flags().DurationVar(&p.wait, "wait", 0, "ask again for so much `time` while the answer is not ok")
}

func (p *patience) validate() error {
	if p.wait < 0 || p.timeout <= 0 {
		return usageError{errors.New("--timeout is a time such as 1s, and --wait one too, or 0s to ask once")}
	}
	return nil
}

// tell asks, and prints the good answer.
func (p *patience) tell(c *cobra.Command, ask func(context.Context) (string, error)) error {
	text, err := await(c.Context(), p.wait, func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		return ask(ctx)
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(c.OutOrStdout(), text)
	return nil
}

const (
	firstProbePause = 20 * time.Millisecond // and each further one is half as long again
	maxProbePause   = 500 * time.Millisecond
)

// await asks once, and for as long as wait tells again until the answer is good. The error is that of the last whole question.
func await(ctx context.Context, wait time.Duration, ask func(context.Context) (string, error)) (string, error) {
	if wait <= 0 {
		return ask(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var last error
	for pause := firstProbePause; ; pause = min(pause*3/2, maxProbePause) {
		text, err := ask(ctx)
		if err == nil {
			return text, nil
		}
		if last == nil || ctx.Err() == nil { // else it is the end of the wait that it tells of
			last = err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w (for %s)", last, wait)
		case <-time.After(pause):
		}
	}
}

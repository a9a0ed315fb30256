package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAwaitAsksUntilItIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		asked := 0
		text, err := await(t.Context(), time.Minute, func(context.Context) (string, error) {
			if asked++; time.Since(began) < 3*time.Second {
				return "", errors.New("starting")
			}
			return "ok", nil
		})
		if text != "ok" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		if took := time.Since(began); took > 3*time.Second+maxProbePause {
			t.Errorf("it took %s", took)
		}
		if asked < 8 || asked > 20 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// TestAwaitTellsTheLastError has the time end within a question, of which nothing is known then.
func TestAwaitTellsTheLastError(t *testing.T) {
	for name, test := range map[string]struct {
		ask  func(ctx context.Context, n int) error
		want string
	}{
		"answers": {func(context.Context, int) error { return errors.New("draining") }, "draining (for 10s)"},
		"no answer to the last": {func(ctx context.Context, n int) error {
			if n < 3 {
				return errors.New("starting")
			}
			<-ctx.Done()
			return ctx.Err()
		}, "starting (for 10s)"},
		"no answer at all": {func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return errors.New("no answer")
		}, "no answer (for 10s)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, n := time.Now(), 0
				_, err := await(t.Context(), 10*time.Second, func(ctx context.Context) (string, error) {
					n++
					return "", test.ask(ctx, n)
				})
				if err == nil || err.Error() != test.want {
					t.Errorf("%v, want %s", err, test.want)
				}
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// TestAwaitOnce is a probe without --wait.
func TestAwaitOnce(t *testing.T) {
	asked := 0
	_, err := await(t.Context(), 0, func(context.Context) (string, error) {
		asked++
		return "", errors.New("starting")
	})
	if asked != 1 || err == nil || err.Error() != "starting" {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

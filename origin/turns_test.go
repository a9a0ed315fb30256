package origin

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// queueFor has a load wait for its turn, and note in got that it has it.
func queueFor(t *testing.T, turns *turns, l *line, name string, got *[]string) {
	t.Helper()
	go func() {
		if turns.enter(t.Context(), l) {
			turns.mu.Lock()
			defer turns.mu.Unlock()
			*got = append(*got, name)
		}
	}()
	synctest.Wait()
}

func TestTurnsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{max: 2}
		a, b, c := line{pace: quick}, line{pace: quick}, line{pace: quick}
		var got []string
		for _, w := range []struct {
			l    *line
			name string
		}{{&a, "a1"}, {&a, "a2"}, {&a, "a3"}, {&a, "a4"}, {&a, "a5"}, {&b, "b1"}, {&b, "b2"}, {&c, "c1"}} {
			queueFor(t, turns, w.l, w.name, &got)
		}
		for _, l := range []*line{&a, &a, &a, &b, &c, &a} {
			turns.leave(l, nil)
			synctest.Wait()
		}
		if want := strings.Fields("a1 a2 a3 b1 c1 a4 b2 a5"); !slices.Equal(got, want) {
			t.Errorf("turns %q, want %q", got, want)
		}
		turns.leave(&b, nil)
		turns.leave(&a, nil)
		if turns.running != 0 || a.running != 0 || len(turns.lines) != 0 {
			t.Errorf("left over: %+v", turns)
		}
	})
}

// Maps whose queries have no answer in time leave half of the connections to the others, until one is answered.
func TestSlowMapsLeaveTurnsToOthers(t *testing.T) {
	for _, most := range []int{1, 2, 4, 5} {
		synctest.Test(t, func(t *testing.T) {
			turns := &turns{max: most}
			late, later, prompt := line{pace: quick}, line{pace: slow}, line{pace: quick}
			var got []string
			for range 2 {
				queueFor(t, turns, &late, "slow", &got)
				turns.leave(&late, context.DeadlineExceeded)
			}
			got = nil
			for range 5 {
				queueFor(t, turns, &late, "slow", &got)
				queueFor(t, turns, &later, "slow", &got)
			}
			if want := max(1, most/2); len(got) != want {
				t.Errorf("%d of %d turns are those of slow maps, want %d", len(got), most, want)
			}
			queueFor(t, turns, &prompt, "quick", &got)
			if has := slices.Contains(got, "quick"); has != (most > 1) {
				t.Errorf("of %d turns the quick map has one: %t", most, has)
			}
			turns.leave(&late, errNeither) // which says nothing
			synctest.Wait()
			if turns.running > most || late.pace != slow {
				t.Errorf("%+v, %+v", turns, &late)
			}
			turns.leave(&later, nil)
			synctest.Wait()
			if turns.running != most || later.pace != quick {
				t.Errorf("%d turns, want %d; %+v", turns.running, most, &later)
			}
			if turns.slow != late.running {
				t.Errorf("%d turns of slow maps are counted, %d there are", turns.slow, late.running)
			}
		})
	}
}

// A map of which nothing is known yet leaves room for another one.
func TestNewMapsLeaveTurnsToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{max: 4}
		var a, b line
		var got []string
		for range 4 {
			queueFor(t, turns, &a, "a", &got)
		}
		if len(got) != 2 {
			t.Errorf("%d of 4 turns are those of the new map, want 2", len(got))
		}
		queueFor(t, turns, &b, "b", &got)
		if !slices.Contains(got, "b") {
			t.Error("another new map has none")
		}
		turns.leave(&a, nil)
		synctest.Wait()
		if want := strings.Fields("a a b a a"); !slices.Equal(got, want) {
			t.Errorf("when it is known to be quick: %q, want %q", got, want)
		}
	})
}

func TestTurnsThatDoNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{max: 1}
		var a, b line
		if !turns.enter(t.Context(), &a) {
			t.Fatal("the first has no turn")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if turns.enter(ctx, &b) {
			t.Error("the second has a turn")
		}
		var got []string
		queueFor(t, turns, &a, "a", &got)
		turns.leave(&a, nil)
		synctest.Wait()
		if turns.running != 1 || len(got) != 1 || len(turns.lines) != 0 {
			t.Errorf("%+v, %q", turns, got)
		}
	})
}

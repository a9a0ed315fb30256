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
		a, b, c := line{quick: true}, line{quick: true}, line{quick: true}
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

// Maps whose queries have no answer in time, or that have had none, leave half of the connections to the others, until one is answered.
func TestSlowMapsLeaveTurnsToOthers(t *testing.T) {
	for _, most := range []int{1, 2, 4, 5} {
		synctest.Test(t, func(t *testing.T) {
			turns := &turns{max: most}
			slow, slower, quick := line{quick: true}, line{}, line{quick: true}
			var got []string
			for range 2 {
				queueFor(t, turns, &slow, "slow", &got)
				turns.leave(&slow, context.DeadlineExceeded)
			}
			got = nil
			for range 5 {
				queueFor(t, turns, &slow, "slow", &got)
				queueFor(t, turns, &slower, "slow", &got)
			}
			if want := max(1, most/2); len(got) != want {
				t.Errorf("%d of %d turns are those of slow maps, want %d", len(got), most, want)
			}
			queueFor(t, turns, &quick, "quick", &got)
			if has := slices.Contains(got, "quick"); has != (most > 1) {
				t.Errorf("of %d turns the quick map has one: %t", most, has)
			}
			turns.leave(&slow, errNeither) // which says nothing
			synctest.Wait()
			if turns.running > most || slow.quick {
				t.Errorf("%+v, %+v", turns, slow)
			}
			turns.leave(&slower, nil)
			synctest.Wait()
			if turns.running != most || !slower.quick {
				t.Errorf("%d turns, want %d; %+v", turns.running, most, slower)
			}
			if turns.slow != slow.running {
				t.Errorf("%d turns of slow maps are counted, %d there are", turns.slow, slow.running)
			}
		})
	}
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

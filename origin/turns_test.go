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
			first, second, other := line{}, line{}, line{pace: quick}
			var got []string
			for _, l := range []*line{&first, &second} {
				queueFor(t, turns, l, "slow", &got)
				turns.leave(l, context.DeadlineExceeded)
			}
			got = nil
			for range 5 {
				queueFor(t, turns, &first, "slow", &got)
				queueFor(t, turns, &second, "slow", &got)
			}
			if want := max(1, most/2); len(got) != want {
				t.Errorf("%d of %d turns are those of slow maps, want %d", len(got), most, want)
			}
			queueFor(t, turns, &other, "quick", &got)
			if has := slices.Contains(got, "quick"); has != (most > 1) {
				t.Errorf("of %d turns the quick map has one: %t", most, has)
			}
			turns.leave(&first, errNeither) // which says nothing
			synctest.Wait()
			if turns.running > most || first.pace != slow {
				t.Errorf("%+v, %+v", turns, first)
			}
			for turns.running > 0 { // whoever has a turn is answered
				for _, l := range []*line{&first, &second, &other} {
					if l.running > 0 {
						turns.leave(l, nil)
						synctest.Wait()
					}
				}
				if want := min(most, len(first.waiting)+len(second.waiting)+len(other.waiting)+turns.running); turns.running != want {
					t.Errorf("%d turns, want %d", turns.running, want)
				}
			}
			if turns.slow != 0 || len(turns.lines) != 0 {
				t.Errorf("left over: %+v", turns)
			}
		})
	}
}

// A map of which nothing is known yet has no more than half of the connections, and does not wait for slow ones.
func TestTurnsOfAMapThatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{max: 4}
		first, fresh := line{pace: slow}, line{}
		var got []string
		for range 4 {
			queueFor(t, turns, &first, "slow", &got)
		}
		for range 4 {
			queueFor(t, turns, &fresh, "new", &got)
		}
		if want := strings.Fields("slow slow new new"); !slices.Equal(got, want) {
			t.Fatalf("turns %q, want %q", got, want)
		}
		turns.leave(&first, errNeither)
		turns.leave(&first, errNeither)
		for range 2 {
			turns.leave(&fresh, nil)
		}
		synctest.Wait()
		if fresh.running != 2 || first.running != 2 {
			t.Errorf("%d turns of the new map, %d of the slow one", fresh.running, first.running)
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

package loop

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestTimersRunWhenTheyAreDueInTheOrderOfTheirTimes(t *testing.T) {
	l := still(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var due, ran []time.Duration
	began := time.Now()
	var stopped []*Timer
	for range 200 {
		d := time.Duration(rng.IntN(30_000)) * time.Microsecond
		timer := l.After(d, func() {
			if since := time.Since(began); since < d {
				t.Errorf("a timer of %v ran after %v", d, since)
			}
			ran = append(ran, d)
		})
		if rng.IntN(3) == 0 {
			stopped = append(stopped, timer)
		} else {
			due = append(due, d)
		}
	}
	for _, timer := range stopped {
		timer.Stop()
		timer.Stop() // twice is harmless
	}
	turnUntil(t, l, "all timers", func() bool { return len(ran) >= len(due) })
	slices.Sort(due)
	for i := range due {
		// Two that are due within the same moment of setting them may differ by the time it took to set them.
		if diff := (ran[i] - due[i]).Abs(); diff > 5*time.Millisecond {
			t.Fatalf("timer %d was that of %v, want %v", i, ran[i], due[i])
		}
	}
	if len(l.timers) > 1 {
		t.Errorf("%d timers are left", len(l.timers))
	}
}

func TestATimerStoppedByAnotherThatIsDueWithItDoesNotRun(t *testing.T) {
	l := still(t)
	ran := 0
	var timers [2]*Timer
	for i := range timers {
		timers[i] = l.After(0, func() {
			ran++
			timers[1-i].Stop()
		})
	}
	turnUntil(t, l, "a timer", func() bool { return ran > 0 })
	turn(t, l)
	if ran != 1 {
		t.Fatalf("%d timers ran, want 1", ran)
	}
	(*Timer)(nil).Stop() // harmless
}

func TestATimerSetByATimerDoesNotStarveTheLoop(t *testing.T) {
	l := still(t)
	ran := 0
	var again func()
	again = func() {
		ran++
		l.After(0, again)
	}
	l.After(0, again)
	turn(t, l)
	turn(t, l)
	if ran > 2 {
		t.Fatalf("a timer of no duration ran %d times in two turns", ran)
	}
	turnUntil(t, l, "more turns", func() bool { return ran > 10 })
}

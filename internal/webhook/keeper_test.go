package webhook

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// inWorld runs a test in which time costs nothing.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		w := newWorld(t)
		w.watch(ctx)
		test(t, w)
		w.endAll()
		cancel()
		synctest.Wait()
	})
}

// serial tells what a replica serves.
func (r *replica) serial() string {
	if p := r.serving(); p != nil {
		return p.leaf.SerialNumber.Text(16)
	}
	return ""
}

func TestFirstStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.start("a", "injector"), w.start("b", "injector")
		if _, err := a.GetCertificate(nil); err == nil {
			t.Error("a certificate before there is one")
		}
		time.Sleep(2 * time.Second)
		for _, r := range []*replica{a, b} {
			if err := r.Ready(); err != nil {
				t.Errorf("replica %s: %v", r.name, err)
			}
		}
		if a.serial() == "" || a.serial() != b.serial() {
			t.Errorf("serials %q and %q", a.serial(), b.serial())
		}
		if a.elector.leads() == b.elector.leads() {
			t.Error("there is not one leader")
		}
		leaf := a.served.Load().leaf
		for _, name := range []string{"readthrough", "readthrough.rt", "readthrough.rt.svc", "readthrough.rt.svc.cluster.local"} {
			if err := leaf.VerifyHostname(name); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(testSettle + 2*pollInterval)
		if data := w.secret(); len(data[currentCert]) == 0 || len(data[nextCert]) > 0 {
			t.Error("what was offered is not the current certificate")
		}
	})
}

// TestRotations runs for four certificates' lives.
func TestRotations(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.start("a", "injector"), w.start("b", "injector")
		seen := map[string]bool{}
		most := 0
		for range 4 * int(testLifetime/time.Minute) {
			time.Sleep(time.Minute)
			if a.serial() != b.serial() {
				time.Sleep(2 * pollInterval)
				if a.serial() != b.serial() {
					t.Errorf("replicas differ for longer than a poll: %s, %s", a.serial(), b.serial())
				}
			}
			seen[a.serial()] = true
			most = max(most, len(trusted(w.bundles()[:1]))/2) // of two webhooks
		}
		if len(seen) < 5 || len(seen) > 7 {
			t.Errorf("%d certificates in four lives of which two thirds are used", len(seen))
		}
		if most != 2 {
			t.Errorf("up to %d authorities are trusted, want 2", most)
		}
	})
}

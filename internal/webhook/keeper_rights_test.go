package webhook

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"readthrough/test/kubeapi"
)

func TestNotReady(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(w *world)
		want   string
	}{
		"no API":            {func(w *world) { w.Before(func(*http.Request) http.Handler { return kubeapi.Status(503, "starting") }) }, "503: starting"},
		"no configuration":  {func(w *world) { w.Delete(mutatingPath) }, "there is no MutatingWebhookConfiguration readthrough"},
		"no Secret":         {func(w *world) { w.Delete(secretPath) }, "there is no Secret certificate in namespace rt"},
		"no leader":         {func(w *world) { w.Delete(leasePath) }, "there is no certificate yet"},
		"no right to write": {func(w *world) { w.Before(forbidWrites) }, "may not update secrets in namespace rt"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				c.damage(w)
				r := w.start("a", "injector")
				time.Sleep(5 * time.Second)
				if err := r.Ready(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("ready: %v, want %q", err, c.want)
				}
				w.endAll()
			})
		})
	}
}

func forbidWrites(r *http.Request) http.Handler {
	if r.Method != http.MethodGet && r.URL.Path != leasePath {
		return kubeapi.Status(http.StatusForbidden, "RBAC")
	}
	return nil
}

// TestWithoutValidating has no ValidatingWebhookConfiguration: it is not there yet or, with validation turned off, there is no
// right to look for it either.
func TestWithoutValidating(t *testing.T) {
	for name, unvalidated := range map[string]bool{"absent": false, "turned off": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.unvalidated = unvalidated
				w.Delete(validatingPath)
				if unvalidated {
					w.Before(forbidValidating)
				}
				r := w.start("a", "injector")
				time.Sleep(time.Second)
				if err := r.Ready(); err != nil {
					t.Error(err)
				}
				for _, request := range w.Requests() {
					if unvalidated && strings.HasSuffix(request, validatingPath) {
						t.Errorf("asked: %s", request)
					}
				}
				w.endAll()
			})
		})
	}
}

// TestLostRight is noticed, by replicas that start and by those that serve already.
func TestLostRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.start("a", "injector")
		time.Sleep(time.Second)
		failures := func() float64 {
			return testutil.ToFloat64(a.o.Metrics.apiErrors.WithLabelValues(string(forCertificate)))
		}
		if err := a.Ready(); err != nil || failures() > 0 {
			t.Fatalf("%v, %v failures", err, failures())
		}
		w.Before(forbidValidating)
		b := w.start("b", "injector")
		time.Sleep(2 * pollInterval)
		if a.Ready() != nil || failures() == 0 {
			t.Errorf("a: %v, %v failures", a.Ready(), failures())
		}
		if err := b.Ready(); err == nil || !strings.Contains(err.Error(), "may not get validatingwebhookconfigurations") {
			t.Errorf("b: %v", err)
		}
		w.endAll()
	})
}

func forbidValidating(r *http.Request) http.Handler {
	if r.URL.Path == validatingPath {
		return kubeapi.Status(http.StatusForbidden, "RBAC")
	}
	return nil
}

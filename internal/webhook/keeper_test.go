package webhook

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"readthrough/test/harness"
	"readthrough/test/kubeapi"
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

// TestRotationsWithFaults has replicas crash between any two requests, requests fail before or after they are carried out, and
// the API be slow, in many orders: what is served is trusted at every moment, and rotation goes on.
func TestRotationsWithFaults(t *testing.T) {
	seeds := []uint64{62} // with one leader, crashes delay the next certificate past the end of the current one
	if harness.Long() {
		for seed := range uint64(50) {
			seeds = append(seeds, 1000+seed)
		}
	}
	for _, seed := range seeds {
		for name, leases := range map[string][]string{"one leader": {"injector", "injector"}, "two leaders": {"injector", "other"}} {
			t.Run(fmt.Sprintf("%s, seed %d", name, seed), func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					w.Put(t, strings.Replace(leasePath, "injector", "other", 1), coordinationv1.Lease{})
					w.seed = seed
					w.Before(w.fault)
					ctx, cancel := context.WithCancel(context.Background())
					var lives sync.WaitGroup
					for i, replicaName := range []string{"a", "b"} {
						lives.Go(func() { w.live(ctx, replicaName, leases[i]) })
					}
					time.Sleep(3 * testLifetime)
					cancel()
					lives.Wait()

					w.Before(nil)
					before := parseCertificates(w.secret()[currentCert])
					a := w.start("a", "injector")
					time.Sleep(2*testSettle + leaseDuration + testLifetime)
					if after := parseCertificates(w.secret()[currentCert]); len(after) == 0 || len(before) > 0 && before[0].Equal(after[0]) {
						t.Error("no rotation after the faults")
					}
					if a.Ready() != nil || distrust(a.serving(), w.bundles(), a.rotation.names, time.Now()) != nil {
						t.Errorf("a: %v", a.Ready())
					}
				})
			})
		}
	}
}

// TestNobodyStaysToPromote has replicas restarted all the time while a next certificate is offered, so that none of them lives
// to see it settled: it is served when the current one ends, all the same.
func TestNobodyStaysToPromote(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.start("a", "injector")
		time.Sleep(2 * testSettle)
		first := a.served.Load()
		time.Sleep(time.Until(first.due(testLifetime).Add(10 * time.Second)))
		for time.Now().Before(first.leaf.NotAfter.Add(testSettle)) {
			w.end(a)
			a = w.start("a", "injector")
			time.Sleep(testSettle * 3 / 4)
		}
		if a.Ready() != nil || a.serial() == "" || a.served.Load().sameAs(first) {
			t.Errorf("%q is served: %v", a.serial(), a.Ready())
		}
		time.Sleep(2 * testSettle)
		if data := w.secret(); len(data[currentCert]) == 0 || len(data[nextCert]) > 0 {
			t.Error("what was offered is not the current certificate")
		}
	})
}

// TestSlowLeader has one of two leaders act on what it read long ago, in every way in which its reads and writes fall between
// those of the other; its clock is behind, too.
func TestSlowLeader(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.settle, w.skew = pollInterval, map[string]time.Duration{"a": -time.Minute}
		w.Put(t, strings.Replace(leasePath, "injector", "other", 1), coordinationv1.Lease{})
		w.Before(func(r *http.Request) http.Handler {
			if r.UserAgent() == "a" && !strings.Contains(r.URL.Path, "/leases/") {
				time.Sleep(w.within("a", 8*time.Second))
			}
			return nil
		})
		a, b := w.start("a", "injector"), w.start("b", "other")
		for range 6 * int(testLifetime/time.Minute) {
			time.Sleep(time.Minute)
		}
		if !a.elector.leads() || !b.elector.leads() {
			t.Error("there are not two leaders")
		}
		if a.Ready() != nil || b.Ready() != nil {
			t.Errorf("a: %v, b: %v", a.Ready(), b.Ready())
		}
	})
}

// TestLateWrites has what one leader decided arrive when another has gone on: it is refused, whether it is the Secret or a bundle.
func TestLateWrites(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.Put(t, strings.Replace(leasePath, "injector", "other", 1), coordinationv1.Lease{})
		late := func(method, path string, by time.Duration) {
			w.Before(func(r *http.Request) http.Handler {
				if r.UserAgent() == "a" && r.Method == method && r.URL.Path == path {
					time.Sleep(by)
				}
				return nil
			})
		}
		late(http.MethodPut, secretPath, 3*time.Second)
		a := w.start("a", "injector")
		time.Sleep(time.Second)
		b := w.start("b", "other")
		time.Sleep(time.Second)
		first := b.serial()
		time.Sleep(8 * time.Second)
		if first == "" || a.serial() != first || b.serial() != first {
			t.Fatalf("first %q, a serves %q, b %q", first, a.serial(), b.serial())
		}

		// a finds the bundle gone just before the next rotation, which b begins; then a's older bundle arrives.
		time.Sleep(time.Until(b.served.Load().due(testLifetime)) - 7*time.Second)
		late(http.MethodPatch, mutatingPath, 9*time.Second)
		w.pauseWatch(true)
		var m admissionregistrationv1.MutatingWebhookConfiguration
		w.Get(t, mutatingPath, &m)
		for i := range m.Webhooks {
			m.Webhooks[i].ClientConfig.CABundle = nil
		}
		w.Put(t, mutatingPath, m)
		time.Sleep(pollInterval * 3 / 2)
		w.pauseWatch(false)
		for range 40 {
			time.Sleep(time.Second)
			if n := len(parseCertificates(w.bundles()[0].bundles[0])); n < 1 || time.Now().After(b.served.Load().due(testLifetime).Add(8*time.Second)) && n != 2 {
				t.Fatalf("%d authorities are trusted", n)
			}
		}
	})
}

// unanswered marks a request that is carried out, and whose answer is lost.
type unanswered struct{}

// fault has some of the requests fail, and all of them take their time.
func (w *world) fault(r *http.Request) http.Handler {
	if r.Context().Value(unanswered{}) != nil {
		return nil
	}
	time.Sleep(w.within(asker(r), 300*time.Millisecond))
	switch w.roll(asker(r), 40) {
	case 0:
		return kubeapi.Status(http.StatusInternalServerError, "etcd is gone")
	case 1:
		return kubeapi.Silence()
	case 2:
		return http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
			w.ServeHTTP(discard{}, r.WithContext(context.WithValue(r.Context(), unanswered{}, true)))
			kubeapi.Status(http.StatusGatewayTimeout, "no answer").ServeHTTP(answer, r)
		})
	}
	return nil
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// live has the replica run, crash or stop, and start again as another process.
func (w *world) live(ctx context.Context, name, lease string) {
	fate := name + "'s fate"
	for ctx.Err() == nil {
		r := w.start(name, lease)
		timer := time.NewTimer(w.within(fate, 4*time.Minute))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if w.roll(fate, 2) == 0 {
			r.crash()
		}
		w.end(r)
	}
}

// TestEmptiedBundleIsPutBack has somebody apply the configuration as it is in the chart.
func TestEmptiedBundleIsPutBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.start("a", "injector"), w.start("b", "injector")
		time.Sleep(time.Minute)
		serial := a.serial()
		w.pauseWatch(true) // nobody is trusted for a moment, whatever we do
		w.Put(t, mutatingPath, admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: make([]admissionregistrationv1.MutatingWebhook, 3)})
		time.Sleep(pollInterval * 5 / 4)
		w.pauseWatch(false)
		for _, r := range []*replica{a, b} {
			if err := distrust(r.served.Load(), w.bundles(), r.rotation.names, time.Now()); err != nil {
				t.Errorf("replica %s: %v", r.name, err)
			}
			if r.Ready() != nil || r.serial() != serial {
				t.Errorf("replica %s: %v, serial %s, was %s", r.name, r.Ready(), r.serial(), serial)
			}
		}
		if n := len(w.bundles()[0].bundles); n != 3 {
			t.Errorf("%d webhooks", n)
		}
	})
}

// TestForeignSecretIsReplaced, while what is served stays until API servers trust something else.
func TestForeignSecretIsReplaced(t *testing.T) {
	for name, spoil := range map[string]func(data map[string][]byte){
		"empty":        func(data map[string][]byte) { clear(data) },
		"no key":       func(data map[string][]byte) { delete(data, currentKey) },
		"not PEM":      func(data map[string][]byte) { data[currentCert], data[bundleKey] = []byte("x"), []byte("y") },
		"no authority": func(data map[string][]byte) { delete(data, bundleKey) },
		"foreign":      func(data map[string][]byte) { foreignPair(data, []string{"elsewhere"}) },
		"foreign chain": func(data map[string][]byte) {
			foreignPair(data, []string{"readthrough.rt.svc"})
			delete(data, bundleKey)
		},
		"spoilt next": func(data map[string][]byte) { data[nextCert] = []byte("x") },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				a, b := w.start("a", "injector"), w.start("b", "injector")
				time.Sleep(2 * testSettle)
				old := a.serial()
				data := w.secret()
				spoil(data)
				w.Put(t, secretPath, corev1.Secret{Data: data})
				time.Sleep(testSettle / 2)
				if a.serial() != old || b.serial() != old {
					t.Error("another certificate is served before it can be trusted everywhere")
				}
				c := w.start("c", "injector")
				c.exempt.Store(true) // it has nothing but what is offered, which API servers may not know yet
				time.Sleep(2 * testSettle)
				if current := parseCertificates(w.secret()[currentCert]); len(current) != 1 || len(w.secret()[nextCert]) > 0 {
					t.Errorf("the Secret holds %q", slices.Sorted(maps.Keys(w.secret())))
				}
				for _, r := range []*replica{a, b, c} {
					if r.serial() != a.serial() || r.Ready() != nil || name != "spoilt next" && r.serial() == old {
						t.Errorf("replica %s: serial %s, %v", r.name, r.serial(), r.Ready())
					}
				}
			})
		})
	}
}

// foreignPair puts a certificate of another authority in.
func foreignPair(data map[string][]byte, names []string) {
	p, authority, err := issue(names, time.Now(), testLifetime)
	if err != nil {
		panic(err)
	}
	data[currentCert], data[currentKey], data[bundleKey] = p.certPEM, p.keyPEM, encodeCertificates(authority)
}

// TestReplicaWithoutAPI goes on with what it has, past a whole rotation of the others.
func TestReplicaWithoutAPI(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.start("a", "injector"), w.start("b", "injector")
		time.Sleep(2 * testSettle)
		old := b.serial()
		w.Before(func(r *http.Request) http.Handler {
			if r.UserAgent() == "b" {
				return kubeapi.Status(http.StatusServiceUnavailable, "no API for b")
			}
			return nil
		})
		time.Sleep(testLifetime*2/3 + testSettle)
		if a.serial() == old || b.serial() != old || b.Ready() != nil {
			t.Errorf("a serves %s, b %s, before %s; b: %v", a.serial(), b.serial(), old, b.Ready())
		}
		w.Before(nil)
		time.Sleep(3 * pollInterval)
		if b.serial() != a.serial() {
			t.Error("b has the API back, and serves another certificate than a")
		}
	})
}

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

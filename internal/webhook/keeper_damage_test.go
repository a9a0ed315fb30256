package webhook

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"readthrough/test/kubeapi"
)

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

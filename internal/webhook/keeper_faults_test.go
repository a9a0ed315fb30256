package webhook

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"

	"readthrough/test/harness"
	"readthrough/test/kubeapi"
)

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

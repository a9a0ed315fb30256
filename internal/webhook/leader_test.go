package webhook

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"readthrough/internal/kube"
	"readthrough/test/kubeapi"
)

// candidate takes part in an election until it is stopped.
type candidate struct {
	*elector
	crash, stop context.CancelFunc
	running     sync.WaitGroup
}

func (w *world) candidate(name string) *candidate {
	crashed, crash := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(context.Background())
	client, err := kube.New(kube.Config{URL: "http://api", UserAgent: name, Transport: crashing{crashed, w.RoundTripper()}})
	if err != nil {
		w.t.Fatal(err)
	}
	c := &candidate{crash: crash, stop: stop, elector: &elector{
		client: client, namespace: "rt", name: "injector", identity: name, log: zap.NewNop(),
		metrics: NewMetrics(prometheus.NewRegistry()), elected: func() {}, jitter: w.jitter(name + "'s elector"),
	}}
	c.running.Go(func() { c.run(ctx) })
	return c
}

func (c *candidate) end() {
	c.stop()
	c.running.Wait()
	c.crash()
}

func (w *world) lease() coordinationv1.LeaseSpec {
	var l coordinationv1.Lease
	if !w.Get(w.t, leasePath, &l) {
		w.t.Fatal("no Lease")
	}
	return l.Spec
}

func TestHandover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.candidate("a")
		synctest.Wait()
		if l := w.lease(); !a.leads() || value(l.HolderIdentity) != "a" || value(l.LeaseDurationSeconds) != 15 || l.RenewTime == nil || l.AcquireTime == nil {
			t.Fatalf("an empty Lease is not taken at once: %+v", l)
		}
		b := w.candidate("b")
		time.Sleep(10 * leaseDuration)
		if !a.leads() || b.leads() {
			t.Fatalf("a leads: %t, b leads: %t", a.leads(), b.leads())
		}

		// Given back, it is taken at the next look.
		a.stop()
		a.running.Wait()
		if err := a.release(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * renewInterval)
		if l := w.lease(); !b.leads() || value(l.HolderIdentity) != "b" || value(l.LeaseTransitions) != 2 {
			t.Errorf("after the release: b leads %t, %+v", b.leads(), l)
		}

		// Not given back, it is taken after its time.
		c := w.candidate("c")
		time.Sleep(time.Minute)
		b.crash()
		time.Sleep(leaseDuration - 2*renewInterval)
		if c.leads() {
			t.Error("the lease is taken before its time")
		}
		time.Sleep(4 * renewInterval)
		if !c.leads() || b.leads() {
			t.Errorf("after the crash: b leads %t, c leads %t", b.leads(), c.leads())
		}
		b.end()
		c.end()
	})
}

// TestLeaseOfAnotherClock is judged by how long it does not change, whatever it says.
func TestLeaseOfAnotherClock(t *testing.T) {
	for name, skew := range map[string]time.Duration{"behind": -24 * time.Hour, "ahead": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				renew := func() {
					now := metav1.NewMicroTime(time.Now().Add(skew))
					w.Put(t, leasePath, coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
						HolderIdentity: ptr("other"), LeaseDurationSeconds: ptr(int32(15)), RenewTime: &now,
					}})
				}
				renew()
				a := w.candidate("a")
				for range 20 {
					time.Sleep(leaseDuration / 2)
					if a.leads() {
						t.Fatal("the lease is taken from one who renews it")
					}
					renew()
				}
				time.Sleep(leaseDuration + 2*renewInterval)
				if !a.leads() {
					t.Error("the lease is not taken from one who has gone")
				}
				a.end()
			})
		})
	}
}

// TestLeaderWithoutAPI stops leading before another may begin.
func TestLeaderWithoutAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.candidate("a")
		time.Sleep(time.Second)
		b := w.candidate("b")
		time.Sleep(time.Minute)
		w.Before(func(r *http.Request) http.Handler {
			if r.UserAgent() == "a" {
				return kubeapi.Silence()
			}
			return nil
		})
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			if a.leads() && b.leads() {
				t.Fatal("two lead")
			}
		}
		if a.leads() || !b.leads() {
			t.Errorf("a leads %t, b leads %t", a.leads(), b.leads())
		}
		a.end()
		b.end()
	})
}

// TestOneLeads has replicas crash, and requests fail and take their time: two never lead.
func TestOneLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.seed = 7
		w.Before(w.fault)
		all := []*candidate{w.candidate("a"), w.candidate("b"), w.candidate("c")}
		led := 0
		for i := range 20_000 {
			time.Sleep(100 * time.Millisecond)
			leading := 0
			for _, c := range all {
				if c.leads() {
					leading++
				}
			}
			if leading > 1 {
				t.Fatal("two lead")
			}
			led += leading
			if i%600 == 599 {
				j := w.roll("fate", int64(len(all)))
				name := all[j].identity
				all[j].crash()
				all[j].end()
				all[j] = w.candidate(name + "+")
			}
		}
		if led < 12_000 {
			t.Errorf("somebody leads in %d of 20000 looks", led)
		}
		for _, c := range all {
			c.end()
		}
	})
}

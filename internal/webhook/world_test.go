package webhook

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"readthrough/internal/kube"
	"readthrough/test/kubeapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secretPath     = "/api/v1/namespaces/rt/secrets/certificate"
	leasePath      = "/apis/coordination.k8s.io/v1/namespaces/rt/leases/injector"
	mutatingPath   = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/readthrough"
	validatingPath = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/readthrough"
)

// world is an API server with what the chart makes, and replicas. It is used within testing/synctest.
type world struct {
	*kubeapi.Server
	t testing.TB

	seed        uint64                   // of all that is random
	settle      time.Duration            // of each replica
	skew        map[string]time.Duration // of a replica's clock
	unvalidated bool                     // replicas know of no validation

	mu        sync.Mutex
	dice      map[string]*rand.Rand
	replicas  map[string]*replica
	unwatched bool
}

func (w *world) pauseWatch(paused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unwatched = paused
}

// replica is one that runs.
type replica struct {
	*Keeper
	name    string
	crash   context.CancelFunc // from one moment to the next, without giving anything back
	stop    context.CancelFunc
	crashed context.Context
	done    chan struct{}
	exempt  atomic.Bool // from being watched
}

func newWorld(t testing.TB) *world {
	w := &world{Server: kubeapi.New(), t: t, dice: map[string]*rand.Rand{}, replicas: map[string]*replica{}, settle: testSettle}
	w.Put(t, secretPath, corev1.Secret{Type: corev1.SecretTypeOpaque})
	w.Put(t, leasePath, coordinationv1.Lease{})
	w.Put(t, mutatingPath, admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: make([]admissionregistrationv1.MutatingWebhook, 2)})
	w.Put(t, validatingPath, admissionregistrationv1.ValidatingWebhookConfiguration{Webhooks: make([]admissionregistrationv1.ValidatingWebhook, 1)})
	return w
}

// roll throws a die of n sides. Each goroutine that is subject to chance has dice of its own, so that a seed stands for one
// course of events, however goroutines are scheduled.
func (w *world) roll(whose string, n int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	dice := w.dice[whose]
	if dice == nil {
		h := fnv.New64a()
		_, _ = h.Write([]byte(whose)) // cannot fail
		dice = rand.New(rand.NewPCG(w.seed, h.Sum64()))
		w.dice[whose] = dice
	}
	return dice.Int64N(n)
}

// within is some time between none and d.
func (w *world) within(whose string, d time.Duration) time.Duration {
	return time.Duration(w.roll(whose, int64(d)))
}

// jitter is in place of [jittered].
func (w *world) jitter(whose string) func(time.Duration) time.Duration {
	return func(d time.Duration) time.Duration { return d*4/5 + w.within(whose, d*2/5) }
}

// asker tells by whose dice a request fares: of a replica's two goroutines, that which sees to the Lease has its own.
func asker(r *http.Request) string {
	if strings.Contains(r.URL.Path, "/leases/") {
		return r.UserAgent() + "'s elector"
	}
	return r.UserAgent()
}

const (
	testLifetime = 12 * time.Minute // replaced after eight
	testSettle   = time.Minute
)

// start runs a replica, which takes part in the election by the named Lease.
func (w *world) start(name, lease string) *replica {
	r := &replica{name: name, done: make(chan struct{})}
	r.crashed, r.crash = context.WithCancel(context.Background())
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	client, err := kube.New(kube.Config{URL: "http://api", UserAgent: name, Transport: crashing{r.crashed, w.RoundTripper()}})
	if err != nil {
		w.t.Fatal(err)
	}
	r.Keeper = NewKeeper(KeeperOptions{
		Client: client, Namespace: "rt", Secret: "certificate", Lease: lease, Service: "readthrough", Configuration: "readthrough", Validation: !w.unvalidated,
		Identity: name, Lifetime: testLifetime, Settle: w.settle, Log: zap.NewNop(), Metrics: NewMetrics(prometheus.NewRegistry()),
	})
	skew := w.skew[name]
	r.now = func() time.Time { return time.Now().Add(skew) }
	r.jitter, r.elector.jitter = w.jitter(name), w.jitter(name+"'s elector")
	w.mu.Lock()
	w.replicas[name] = r
	w.mu.Unlock()
	go func() {
		defer close(r.done)
		r.Run(ctx)
	}()
	return r
}

// end has the replica gone: stopped as Kubernetes stops it or, after crash, without a word to the API.
func (w *world) end(r *replica) {
	r.stop()
	<-r.done
	r.crash()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.replicas[r.name] == r {
		delete(w.replicas, r.name)
	}
}

func (w *world) endAll() {
	w.mu.Lock()
	var all []*replica
	for _, r := range w.replicas {
		all = append(all, r)
	}
	w.mu.Unlock()
	for _, r := range all {
		w.end(r)
	}
}

// running lists the replicas that serve, and are watched.
func (w *world) running() []*replica {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*replica
	if w.unwatched {
		return nil
	}
	for _, r := range w.replicas {
		if r.crashed.Err() == nil && !r.exempt.Load() {
			all = append(all, r)
		}
	}
	return all
}

// crashing carries requests until its process is gone.
type crashing struct {
	crashed context.Context
	next    http.RoundTripper
}

func (c crashing) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.crashed.Err() != nil {
		return nil, c.crashed.Err()
	}
	response, err := c.next.RoundTrip(r)
	if c.crashed.Err() != nil { // what was asked may have been done
		return nil, c.crashed.Err()
	}
	return response, err
}

// bundles are the caBundles of all webhooks, as the API has them.
func (w *world) bundles() []*configuration {
	var m admissionregistrationv1.MutatingWebhookConfiguration
	var v admissionregistrationv1.ValidatingWebhookConfiguration
	mutating, validating := &configuration{kind: "mutating"}, &configuration{kind: "validating"}
	if !w.Get(w.t, mutatingPath, &m) || !w.Get(w.t, validatingPath, &v) {
		w.t.Fatal("no configurations")
	}
	for _, c := range m.Webhooks {
		mutating.bundles = append(mutating.bundles, c.ClientConfig.CABundle)
	}
	for _, c := range v.Webhooks {
		validating.bundles = append(validating.bundles, c.ClientConfig.CABundle)
	}
	return []*configuration{mutating, validating}
}

// secret is what the Secret holds.
func (w *world) secret() map[string][]byte {
	var s corev1.Secret
	if !w.Get(w.t, secretPath, &s) {
		w.t.Fatal("no Secret")
	}
	return s.Data
}

// watch fails the test at the first moment at which an API server would not trust what a replica serves: one that has the
// latest bundles, or one that has those of any moment within the time that changes have to settle. It looks after every write
// and, as replicas change what they serve, every now and then. Nor may an earlier bundle ever come back.
func (w *world) watch(ctx context.Context) {
	type state struct {
		all      []*configuration
		replaced time.Time // zero for the latest
	}
	var mu sync.Mutex
	states := []state{{all: w.bundles()}}
	history := map[int][][]byte{} // of each webhook's bundle
	looked := map[string]string{} // what was seen of each replica, so that nothing is verified twice in a row
	look := func(changed bool) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if bundles := w.bundles; changed && !same(bundles(), states[len(states)-1].all) {
			states[len(states)-1].replaced = now
			states = append(states, state{all: bundles()})
			for i, b := range bundlesOf(bundles()) {
				if last := history[i]; len(last) > 0 && bytes.Equal(last[len(last)-1], b) {
					continue
				}
				if slices.ContainsFunc(history[i], func(earlier []byte) bool { return bytes.Equal(earlier, b) }) && !w.t.Failed() {
					w.t.Errorf("at %s: an earlier bundle is back", now.Format(time.TimeOnly))
				}
				history[i] = append(history[i], b)
			}
		}
		states = slices.DeleteFunc(states, func(s state) bool { return !s.replaced.IsZero() && now.Sub(s.replaced) >= w.settle })
		for _, r := range w.running() {
			p := r.serving()
			if p == nil {
				continue
			}
			sight := fmt.Sprintf("%p %p %d %t", p, states[len(states)-1].all[0], now.Unix()/30, now.After(p.leaf.NotAfter))
			if looked[r.name] == sight {
				continue
			}
			looked[r.name] = sight
			for _, s := range states {
				if blank(s.all) {
					continue // at the very beginning
				}
				if err := distrust(p, s.all, r.rotation.names, now); err != nil && !w.t.Failed() {
					w.t.Errorf("at %s, replica %s, of %d states: %v", now.Format(time.TimeOnly), r.name, len(states), err)
				}
			}
		}
	}
	w.After(func(_, path string) { look(path == mutatingPath || path == validatingPath) })
	go func() {
		ticker := time.NewTicker(300 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				look(false)
			}
		}
	}()
}

func same(a, b []*configuration) bool {
	return fmt.Sprintf("%q", bundlesOf(a)) == fmt.Sprintf("%q", bundlesOf(b))
}

func bundlesOf(all []*configuration) (list [][]byte) {
	for _, c := range all {
		list = append(list, c.bundles...)
	}
	return list
}

// blank reports whether some webhook has no bundle yet.
func blank(all []*configuration) bool {
	for _, b := range bundlesOf(all) {
		if len(b) == 0 {
			return true
		}
	}
	return len(all) == 0
}

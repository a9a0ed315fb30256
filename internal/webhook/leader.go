package webhook

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"readthrough/internal/kube"
)

const (
	leaseDuration = 15 * time.Second // after which another may take the lease of one who has stopped renewing it
	renewInterval = 2 * time.Second
	// leadTime is how long a renewal is good for. It ends before the lease may be taken, so that there are not two leaders
	// unless a process stands still; and then compare-and-swap keeps them from doing harm.
	leadTime = 10 * time.Second
)

// elector takes part in the election of a leader by a Lease.
type elector struct {
	client          *kube.Client
	namespace, name string
	identity        string
	log             *zap.Logger
	metrics         *Metrics
	elected         func() // called when this replica begins to lead
	jitter          func(time.Duration) time.Duration

	mu      sync.Mutex
	renewed time.Time // when the request that renewed the lease last began

	// What the holder wrote last, and when that was first seen. The clocks of replicas differ: whether a lease has run out is
	// judged by the time in which it has not changed, never by what it says. Both belong to run.
	record string
	seen   time.Time
}

// leads reports whether this replica may act as leader.
func (e *elector) leads() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.renewed.IsZero() && time.Since(e.renewed) < leadTime
}

// run takes part until ctx ends.
func (e *elector) run(ctx context.Context) {
	seldom := seldom(e.log)
	for {
		led := e.leads()
		err := e.try(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.metrics.failed(forLease)
			seldom.Warn("the lease cannot be had or renewed", zap.String("lease", e.name), zap.Error(err))
		}
		leads := e.leads()
		set(e.metrics.leader, leads)
		switch {
		case leads && !led:
			e.log.Info("leads: sees to the certificates", zap.String("identity", e.identity))
			e.elected()
		case led && !leads:
			e.log.Warn("leads no longer", zap.String("identity", e.identity))
		}
		if !pause(ctx, e.jitter(renewInterval), nil) {
			return
		}
	}
}

// try takes or renews the lease if it may.
func (e *elector) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leadTime/2)
	defer cancel()
	began := time.Now()
	lease, err := e.client.Lease(ctx, e.namespace, e.name)
	if err != nil {
		return err
	}
	e.observe(lease)
	holder := value(lease.Spec.HolderIdentity)
	if holder != e.identity && holder != "" && time.Since(e.seen) < duration(lease) {
		e.stopLeading()
		return nil
	}
	now := metav1.NowMicro()
	if holder != e.identity {
		lease.Spec.AcquireTime = &now
		lease.Spec.LeaseTransitions = ptr(value(lease.Spec.LeaseTransitions) + 1)
	}
	lease.Spec.HolderIdentity = &e.identity
	lease.Spec.LeaseDurationSeconds = ptr(int32(leaseDuration / time.Second))
	lease.Spec.RenewTime = &now
	lease, err = e.client.UpdateLease(ctx, lease)
	if kube.IsConflict(err) {
		return nil // somebody was faster; who it was shows at the next look
	}
	if err != nil {
		return err
	}
	e.observe(lease)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.renewed = began
	return nil
}

func (e *elector) observe(lease *coordinationv1.Lease) {
	record := fmt.Sprint(value(lease.Spec.HolderIdentity), value(lease.Spec.LeaseTransitions), lease.Spec.RenewTime)
	if record != e.record {
		e.record, e.seen = record, time.Now()
	}
}

// release gives the lease back, so that another replica need not wait for its end. run has returned before.
func (e *elector) release(ctx context.Context) error {
	led := e.leads()
	e.stopLeading()
	set(e.metrics.leader, false)
	if !led {
		return nil
	}
	lease, err := e.client.Lease(ctx, e.namespace, e.name)
	if err != nil || value(lease.Spec.HolderIdentity) != e.identity {
		return err
	}
	lease.Spec.HolderIdentity = nil
	_, err = e.client.UpdateLease(ctx, lease)
	return err
}

func (e *elector) stopLeading() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.renewed = time.Time{}
}

// duration is how long the holder of the lease may be silent.
func duration(lease *coordinationv1.Lease) time.Duration {
	if s := value(lease.Spec.LeaseDurationSeconds); s > 0 {
		return time.Duration(s) * time.Second
	}
	return leaseDuration
}

// jittered is about d, so that replicas do not ask all at once.
func jittered(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-.5)*.4*float64(d))
}

// pause waits for d, or for less where wake has something; false where ctx has ended.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// value is what p points to, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func ptr[T any](v T) *T { return &v }

package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"readthrough/internal/kube"
)

const (
	pollInterval  = 5 * time.Second
	startInterval = 500 * time.Millisecond // until there is a certificate that is trusted
	releaseTime   = 2 * time.Second

	// margin is how long before its end a certificate gives way to the one on offer: clocks differ.
	margin = 10 * time.Second
)

// KeeperOptions say where the certificates are kept, and who trusts them.
type KeeperOptions struct {
	Client        *kube.Client
	Namespace     string // of the Secret, the Lease and the Service
	Secret        string
	Lease         string
	Service       string // whose DNS names the certificate is for
	Configuration string // the name of the webhook configurations
	Validation    bool   // there is a ValidatingWebhookConfiguration too, or will be

	Identity string        // of this replica, unlike that of any other
	Lifetime time.Duration // of a certificate; it is replaced after two thirds
	Settle   time.Duration // how long API servers may take to see a changed caBundle

	Log     *zap.Logger
	Metrics *Metrics
}

// Keeper makes, rotates and serves certificates without anybody's help. The replicas share them in a Secret; one of them, the
// leader, makes them and tells API servers whom to trust. All look at the Secret every few seconds; one that has lost the API
// goes on with what it has.
type Keeper struct {
	o        KeeperOptions
	rotation rotation
	elector  *elector
	kick     chan struct{} // there is something to do
	now      func() time.Time
	jitter   func(time.Duration) time.Duration

	served  atomic.Pointer[pair]
	standby atomic.Pointer[pair]   // the next one, once it is trusted
	pending atomic.Pointer[string] // why no certificate has been trusted so far; nil once one was

	// These belong to the goroutine that synchronizes.
	inPlace []byte    // the bundle that all configurations have had
	since   time.Time // when that was first seen
	problem string    // the last one logged
}

// NewKeeper does nothing until Run.
func NewKeeper(o KeeperOptions) *Keeper {
	k := &Keeper{
		o: o,
		rotation: rotation{
			names: []string{
				o.Service + "." + o.Namespace + ".svc", // first: the name by which API servers ask
				o.Service, o.Service + "." + o.Namespace, o.Service + "." + o.Namespace + ".svc.cluster.local",
			},
			lifetime: o.Lifetime,
		},
		kick: make(chan struct{}, 1), now: time.Now, jitter: jittered,
	}
	k.elector = &elector{
		client: o.Client, namespace: o.Namespace, name: o.Lease, identity: o.Identity, log: o.Log, metrics: o.Metrics,
		elected: k.hurry, jitter: jittered,
	}
	k.pending.Store(ptr("the Kubernetes API has not been asked yet"))
	return k
}

func (k *Keeper) hurry() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// Run keeps the certificates until ctx ends, and gives back the lease.
func (k *Keeper) Run(ctx context.Context) {
	var electing sync.WaitGroup
	electing.Go(func() { k.elector.run(ctx) })
	for ctx.Err() == nil {
		err := k.synchronize(ctx)
		k.note(ctx, err)
		interval := pollInterval
		if k.Ready() != nil || kube.IsConflict(err) { // another replica was faster: look again
			interval = startInterval
		}
		pause(ctx, k.jitter(interval), k.kick)
	}
	electing.Wait()
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	if err := k.elector.release(release); err != nil {
		k.o.Log.Warn("the lease is not given back, another replica waits for its end", zap.Error(err))
	}
}

// note logs what has gone wrong, once.
func (k *Keeper) note(ctx context.Context, err error) {
	if ctx.Err() != nil || kube.IsConflict(err) {
		return
	}
	if err == nil {
		k.problem = ""
		return
	}
	k.o.Metrics.failed(forCertificate)
	if k.pending.Load() != nil {
		k.pending.Store(ptr(err.Error()))
	}
	if k.problem != err.Error() {
		k.problem = err.Error()
		k.o.Log.Error("certificates cannot be seen to; what is served stays", zap.Error(err))
	}
}

// synchronize looks at everything once, does as leader what there is to do, and chooses the certificate to serve.
//
// The configurations are read before the Secret, and written on condition that they are as they were read. So no bundle is
// ever replaced by an earlier one: whoever holds an old Secret also holds an old version of the configurations, if a later
// bundle has been put there.
func (k *Keeper) synchronize(ctx context.Context) error {
	configurations, err := readConfigurations(ctx, k.o.Client, k.o.Configuration, k.o.Validation)
	if err != nil {
		return err
	}
	secret, err := k.o.Client.Secret(ctx, k.o.Namespace, k.o.Secret)
	if kube.IsNotFound(err) {
		return fmt.Errorf("there is no Secret %s in namespace %s, which the chart makes without content: --certificate-secret names it", k.o.Secret, k.o.Namespace)
	}
	if err != nil {
		return err
	}
	now := k.now()
	held := k.rotation.read(secret.Data, now)
	k.observe(held, configurations, now)
	if k.elector.leads() {
		if held, err = k.advance(ctx, secret, held, configurations, now); err == nil {
			err = k.spread(ctx, held, configurations)
		}
	}
	k.choose(held, configurations, now)
	return err
}

// observe notes since when the bundle has been in place everywhere.
func (k *Keeper) observe(held certificates, configurations []*configuration, now time.Time) {
	bundle := encodeCertificates(held.bundle...)
	for _, c := range configurations {
		if !c.has(bundle) {
			k.inPlace = nil
			return
		}
	}
	if k.inPlace == nil || !bytes.Equal(k.inPlace, bundle) {
		k.inPlace, k.since = bundle, now
	}
}

// advance does the step that is due, and writes the Secret, unless somebody else has since it was read.
func (k *Keeper) advance(ctx context.Context, secret *corev1.Secret, held certificates, configurations []*configuration, now time.Time) (certificates, error) {
	settled := k.inPlace != nil && now.Sub(k.since) >= k.o.Settle
	s := k.rotation.step(held, settled, now)
	if s == stay {
		return held, nil
	}
	changed, err := k.rotation.take(s, held, trusted(configurations), now)
	if err != nil {
		return held, err
	}
	if len(held.foreign) > 0 {
		k.o.Log.Warn("the Secret holds what cannot be used, and is replaced", zap.String("secret", k.o.Secret), zap.Strings("reasons", held.foreign))
	}
	secret.Data = changed.write()
	if _, err := k.o.Client.UpdateSecret(ctx, secret); err != nil {
		return held, err
	}
	k.o.Metrics.stepped(string(s))
	k.o.Log.Info("certificate rotation", zap.String("step", string(s)), zap.Int("authorities", len(changed.bundle)))
	return changed, nil
}

// spread puts the bundle where it is not.
func (k *Keeper) spread(ctx context.Context, held certificates, configurations []*configuration) error {
	bundle := encodeCertificates(held.bundle...)
	var errs []error
	for _, c := range configurations {
		if c.has(bundle) {
			continue
		}
		if err := c.put(ctx, bundle); err != nil {
			errs = append(errs, err)
			continue
		}
		k.o.Metrics.stepped("bundle")
		k.o.Log.Info("caBundle written", zap.String("kind", c.kind), zap.String("name", c.name), zap.Int("webhooks", len(c.bundles)))
	}
	return errors.Join(errs...)
}

// choose takes into use the current certificate, if API servers trust it by now; else what is served stays, as long as they
// trust that.
func (k *Keeper) choose(held certificates, configurations []*configuration, now time.Time) {
	served := k.served.Load()
	chosen, why := served, distrust(served, configurations, k.rotation.names, now)
	for _, p := range []*pair{held.current, served, held.next} {
		if p != nil && distrust(p, configurations, k.rotation.names, now) == nil {
			chosen, why = p, nil
			break
		}
	}
	standby := held.next
	if distrust(standby, configurations, k.rotation.names, now) != nil {
		standby = nil
	}
	k.standby.Store(standby)
	set(k.o.Metrics.trusted, why == nil)
	if why == nil {
		k.pending.Store(nil)
	} else if k.pending.Load() != nil {
		k.pending.Store(ptr(why.Error()))
	}
	if chosen == nil || chosen.sameAs(served) {
		return
	}
	k.served.Store(chosen)
	k.o.Metrics.expiry.Set(float64(chosen.leaf.NotAfter.Unix()))
	k.o.Log.Info("certificate in use", zap.Time("expires", chosen.leaf.NotAfter), zap.String("serial", chosen.leaf.SerialNumber.Text(16)))
}

// GetCertificate gives the certificate to serve, for a tls.Config.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p := k.serving()
	if p == nil {
		return nil, errors.New("no certificate has been made yet")
	}
	return p.tls, nil
}

// serving is what is served at this moment. Where a certificate ends before the next could be promoted, the next is served: API
// servers that have not seen the latest bundle may refuse it, but all of them refuse what has expired.
func (k *Keeper) serving() *pair {
	p := k.served.Load()
	if next := k.standby.Load(); p != nil && next != nil && k.now().After(p.leaf.NotAfter.Add(-margin)) {
		return next
	}
	return p
}

// Ready returns nil once a certificate was served that API servers trust. It says nothing of what was lost since: to take every
// replica out of the Service would help nobody.
func (k *Keeper) Ready() error {
	if why := k.pending.Load(); why != nil {
		return errors.New("certificate: " + *why)
	}
	return nil
}

package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"readthrough/internal/kube"
)

// configuration is one of the objects that tell API servers about the webhook, as far as its caBundles go.
type configuration struct {
	kind            string
	name            string
	resourceVersion string
	bundles         [][]byte // one for each of its webhooks
	patch           func(ctx context.Context, name, resourceVersion string, bundle []byte, webhooks int) error
}

// readConfigurations reads the mutating configuration and, unless there is no validation, the validating one. That may be missing:
// it is what is made last when all of this is installed.
func readConfigurations(ctx context.Context, client *kube.Client, name string, validation bool) ([]*configuration, error) {
	mutating, err := client.MutatingConfiguration(ctx, name)
	if kube.IsNotFound(err) {
		return nil, fmt.Errorf("there is no MutatingWebhookConfiguration %s: nobody would ask for an injection; --configuration names it", name)
	}
	if err != nil {
		return nil, err
	}
	m := &configuration{
		kind: "MutatingWebhookConfiguration", name: name, resourceVersion: mutating.ResourceVersion, patch: client.PatchMutatingBundles,
	}
	for _, w := range mutating.Webhooks {
		m.bundles = append(m.bundles, w.ClientConfig.CABundle)
	}
	if !validation {
		return []*configuration{m}, nil
	}
	validating, err := client.ValidatingConfiguration(ctx, name)
	if kube.IsNotFound(err) {
		return []*configuration{m}, nil
	}
	if err != nil {
		return nil, err
	}
	v := &configuration{
		kind: "ValidatingWebhookConfiguration", name: name, resourceVersion: validating.ResourceVersion, patch: client.PatchValidatingBundles,
	}
	for _, w := range validating.Webhooks {
		v.bundles = append(v.bundles, w.ClientConfig.CABundle)
	}
	return []*configuration{m, v}, nil
}

// has reports whether every webhook of the configuration has this bundle.
func (c *configuration) has(bundle []byte) bool {
	return !slices.ContainsFunc(c.bundles, func(b []byte) bool { return !bytes.Equal(b, bundle) })
}

// put writes the bundle, unless the configuration has changed since it was read.
func (c *configuration) put(ctx context.Context, bundle []byte) error {
	if err := c.patch(ctx, c.name, c.resourceVersion, bundle, len(c.bundles)); err != nil {
		return err
	}
	for i := range c.bundles {
		c.bundles[i] = bundle
	}
	return nil
}

// distrust says why an API server would not trust the pair: each webhook's bundle must.
func distrust(p *pair, configurations []*configuration, names []string, now time.Time) error {
	if p == nil {
		return errors.New("there is no certificate yet")
	}
	for _, c := range configurations {
		for i, bundle := range c.bundles {
			if err := p.verify(parseCertificates(bundle), names, now); err != nil {
				return fmt.Errorf("the caBundle of %s %s, webhook %d, does not trust the certificate: %w", c.kind, c.name, i+1, err)
			}
		}
	}
	return nil
}

// trusted lists what any of the configurations trusts.
func trusted(configurations []*configuration) []*x509.Certificate {
	var all []*x509.Certificate
	for _, c := range configurations {
		for _, bundle := range c.bundles {
			all = append(all, parseCertificates(bundle)...)
		}
	}
	return all
}

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"
)

func configMaps(namespace, name string) resource {
	return resource{version: "v1", plural: "configmaps", namespace: namespace, name: name}
}

func secrets(namespace, name string) resource {
	return resource{version: "v1", plural: "secrets", namespace: namespace, name: name}
}

func leases(namespace, name string) resource {
	return resource{group: "coordination.k8s.io", version: "v1", plural: "leases", namespace: namespace, name: name}
}

func configurations(plural, name string) resource {
	return resource{group: "admissionregistration.k8s.io", version: "v1", plural: plural, name: name}
}

const (
	mutating   = "mutatingwebhookconfigurations"
	validating = "validatingwebhookconfigurations"
)

// ConfigMap reads a ConfigMap.
func (c *Client) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return get[corev1.ConfigMap](ctx, c, configMaps(namespace, name))
}

// Secret reads a Secret.
func (c *Client) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return get[corev1.Secret](ctx, c, secrets(namespace, name))
}

// UpdateSecret writes a Secret that was read before; see [IsConflict].
func (c *Client) UpdateSecret(ctx context.Context, s *corev1.Secret) (*corev1.Secret, error) {
	return update(ctx, c, secrets(s.Namespace, s.Name), s)
}

// Lease reads a Lease.
func (c *Client) Lease(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	return get[coordinationv1.Lease](ctx, c, leases(namespace, name))
}

// UpdateLease writes a Lease that was read before; see [IsConflict].
func (c *Client) UpdateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return update(ctx, c, leases(l.Namespace, l.Name), l)
}

// MutatingConfiguration reads a MutatingWebhookConfiguration.
func (c *Client) MutatingConfiguration(ctx context.Context, name string) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	return get[admissionregistrationv1.MutatingWebhookConfiguration](ctx, c, configurations(mutating, name))
}

// ValidatingConfiguration reads a ValidatingWebhookConfiguration.
func (c *Client) ValidatingConfiguration(ctx context.Context, name string) (*admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	return get[admissionregistrationv1.ValidatingWebhookConfiguration](ctx, c, configurations(validating, name))
}

// PatchMutatingBundles sets the caBundle of the configuration's first webhooks, as many as given, unless the configuration has
// changed since resourceVersion; see [IsConflict].
func (c *Client) PatchMutatingBundles(ctx context.Context, name, resourceVersion string, bundle []byte, webhooks int) error {
	return c.patchBundles(ctx, configurations(mutating, name), resourceVersion, bundle, webhooks)
}

// PatchValidatingBundles is [Client.PatchMutatingBundles] for a ValidatingWebhookConfiguration.
func (c *Client) PatchValidatingBundles(ctx context.Context, name, resourceVersion string, bundle []byte, webhooks int) error {
	return c.patchBundles(ctx, configurations(validating, name), resourceVersion, bundle, webhooks)
}

// operation is one of RFC 6902.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

func (c *Client) patchBundles(ctx context.Context, r resource, resourceVersion string, bundle []byte, webhooks int) error {
	// The version in the object's place has the server compare it, and answer a conflict where it is another.
	patch := []operation{{"replace", "/metadata/resourceVersion", resourceVersion}}
	for i := range webhooks {
		patch = append(patch, operation{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), bundle})
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	return c.onResource(ctx, http.MethodPatch, r, "application/json-patch+json", body, &struct{}{})
}

// Version is that of the API server.
func (c *Client) Version(ctx context.Context) (*version.Info, error) {
	info := &version.Info{}
	if err := c.do(ctx, http.MethodGet, "/version", "", nil, info); err != nil {
		return nil, err
	}
	return info, nil
}

package chart

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// object is one that Kubernetes, or an operator, would be given.
type object interface {
	metav1.Object
	runtime.Object
}

// kinds are the types that the manifests may have, by apiVersion and kind. An operator's are as much of them as is used.
var kinds = map[string]func() object{
	"v1/ConfigMap":                             func() object { return new(corev1.ConfigMap) },
	"v1/Namespace":                             func() object { return new(corev1.Namespace) },
	"v1/Pod":                                   func() object { return new(corev1.Pod) },
	"v1/Secret":                                func() object { return new(corev1.Secret) },
	"v1/Service":                               func() object { return new(corev1.Service) },
	"v1/ServiceAccount":                        func() object { return new(corev1.ServiceAccount) },
	"apps/v1/Deployment":                       func() object { return new(appsv1.Deployment) },
	"apps/v1/StatefulSet":                      func() object { return new(appsv1.StatefulSet) },
	"policy/v1/PodDisruptionBudget":            func() object { return new(policyv1.PodDisruptionBudget) },
	"networking.k8s.io/v1/NetworkPolicy":       func() object { return new(networkingv1.NetworkPolicy) },
	"coordination.k8s.io/v1/Lease":             func() object { return new(coordinationv1.Lease) },
	"rbac.authorization.k8s.io/v1/ClusterRole": func() object { return new(rbacv1.ClusterRole) },
	"rbac.authorization.k8s.io/v1/ClusterRoleBinding":                func() object { return new(rbacv1.ClusterRoleBinding) },
	"rbac.authorization.k8s.io/v1/Role":                              func() object { return new(rbacv1.Role) },
	"rbac.authorization.k8s.io/v1/RoleBinding":                       func() object { return new(rbacv1.RoleBinding) },
	"admissionregistration.k8s.io/v1/MutatingWebhookConfiguration":   func() object { return new(admissionv1.MutatingWebhookConfiguration) },
	"admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration": func() object { return new(admissionv1.ValidatingWebhookConfiguration) },
	"cert-manager.io/v1/Issuer":                                      func() object { return new(issuer) },
	"cert-manager.io/v1/Certificate":                                 func() object { return new(certificate) },
	"monitoring.coreos.com/v1/PodMonitor":                            func() object { return new(podMonitor) },
	"monitoring.coreos.com/v1/ServiceMonitor":                        func() object { return new(serviceMonitor) },
}

// decode reads rendered YAML by the API's types. A field that they do not have, or that is there twice, is an error.
func decode(t testing.TB, rendered string) []object {
	t.Helper()
	var objects []object
	seen := map[string]bool{}
	for _, raw := range strings.Split("\n"+rendered, "\n---\n") {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal([]byte(raw), &head); err != nil {
			t.Fatalf("%v in\n%s", err, raw)
		}
		if head == (metav1.TypeMeta{}) {
			if content := withoutComments(raw); content != "" {
				t.Fatalf("no object:\n%s", content)
			}
			continue
		}
		kind := head.APIVersion + "/" + head.Kind
		make, known := kinds[kind]
		if !known {
			t.Fatalf("%s is none of the kinds that are expected", kind)
		}
		o := make()
		if err := yaml.UnmarshalStrict([]byte(raw), o); err != nil {
			t.Fatalf("%s: %v\n%s", kind, err, raw)
		}
		at := fmt.Sprintf("%s %s/%s", kind, o.GetNamespace(), o.GetName())
		if seen[at] {
			t.Errorf("%s is there twice", at)
		}
		seen[at] = true
		valid := validation.IsDNS1123Subdomain
		if _, is := o.(*corev1.Service); is {
			valid = validation.IsDNS1035Label
		}
		for _, wrong := range valid(o.GetName()) {
			t.Errorf("%s: %s", at, wrong)
		}
		for name, value := range o.GetLabels() {
			for _, wrong := range slices.Concat(validation.IsQualifiedName(name), validation.IsValidLabelValue(value)) {
				t.Errorf("%s: label %s: %q: %s", at, name, value, wrong)
			}
		}
		objects = append(objects, o)
	}
	return objects
}

func withoutComments(raw string) string {
	var kept []string
	for line := range strings.SplitSeq(raw, "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// of picks the objects of one type.
func of[T object](objects []object) []T {
	var found []T
	for _, o := range objects {
		if t, is := o.(T); is {
			found = append(found, t)
		}
	}
	return found
}

// only is the one object of its type.
func only[T object](t testing.TB, objects []object) T {
	t.Helper()
	found := of[T](objects)
	if len(found) != 1 {
		t.Fatalf("%d objects of %T, want one", len(found), *new(T))
	}
	return found[0]
}

// named is the object of its type with this name.
func named[T object](t testing.TB, objects []object, name string) T {
	t.Helper()
	all := of[T](objects)
	i := slices.IndexFunc(all, func(o T) bool { return o.GetName() == name })
	if i < 0 {
		t.Fatalf("no %T %s", *new(T), name)
	}
	return all[i]
}

// forEachCase checks something about the objects of every case, and of the manifests.
func forEachCase(t *testing.T, check func(t *testing.T, objects []object)) {
	t.Helper()
	for _, c := range chartCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			check(t, decode(t, c.mustRender(t)))
		})
	}
	for _, base := range bases {
		t.Run("manifests/"+base, func(t *testing.T) {
			t.Parallel()
			check(t, decode(t, kustomize(t, manifests(base))))
		})
	}
}

// TestLabels looks for the label that says of each object of the chart to which release it belongs.
func TestLabels(t *testing.T) {
	for _, c := range chartCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, o := range decode(t, c.mustRender(t)) {
				for _, label := range []string{"name", "instance", "component", "version", "managed-by"} {
					if o.GetLabels()["app.kubernetes.io/"+label] == "" {
						t.Errorf("%s has no app.kubernetes.io/%s", o.GetName(), label)
					}
				}
			}
		})
	}
}

// TestNamespaces sees that what has a namespace says which: `helm template | kubectl apply` would put it anywhere else.
func TestNamespaces(t *testing.T) {
	forEachCase(t, func(t *testing.T, objects []object) {
		for _, o := range objects {
			switch o.(type) {
			case *corev1.Namespace, *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding,
				*admissionv1.MutatingWebhookConfiguration, *admissionv1.ValidatingWebhookConfiguration:
				if o.GetNamespace() != "" {
					t.Errorf("%s is of the whole cluster and has a namespace", o.GetName())
				}
			default:
				if o.GetNamespace() == "" {
					t.Errorf("%T %s has no namespace", o, o.GetName())
				}
			}
		}
	})
}

// TestLongNames renders with a release whose name is as long as helm allows.
func TestLongNames(t *testing.T) {
	name := string(bytes.Repeat([]byte("r"), 53))
	for _, c := range chartCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.release.name = name
			for _, o := range decode(t, c.mustRender(t)) {
				if len(o.GetName()) > validation.DNS1123LabelMaxLength {
					t.Errorf("%T %s is longer than %d", o, o.GetName(), validation.DNS1123LabelMaxLength)
				}
			}
		})
	}
}

// TestReleaseNames renders with names that helm allows: each gives names of objects that Kubernetes allows too, or is refused.
func TestReleaseNames(t *testing.T) {
	for name, fit := range map[string]bool{
		"cache": true, "readthrough-2": true, strings.Repeat("r", 39) + "--x": true,
		"1a": false, "cache.shop": false, "2-readthrough": false,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := release{name: name, values: []string{"testdata/cases/gateway/values.yaml"}}
			out, err := r.render(t)
			switch {
			case fit && err != nil:
				t.Error(err)
			case fit:
				decode(t, out)
			case err == nil || !strings.Contains(err.Error(), "set fullnameOverride, or give the release another name"):
				t.Errorf("error: %v", err)
			}
			r.args = []string{"--set", "fullnameOverride=cache"}
			decode(t, r.mustRender(t))
		})
	}
}

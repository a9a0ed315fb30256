package chart

import (
	"reflect"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func rule(group, resource string, names []string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: names, Verbs: verbs}
}

// TestRights says exactly what the injector may do: one right more is an error as well as one less.
func TestRights(t *testing.T) {
	readConfigMaps := rule("", "configmaps", nil, "get")
	trust := func(resource string) rbacv1.PolicyRule {
		return rule("admissionregistration.k8s.io", resource, []string{"readthrough"}, "get", "patch")
	}
	own := []rbacv1.PolicyRule{
		rule("", "secrets", []string{"readthrough-certificate"}, "get", "update"),
		rule("coordination.k8s.io", "leases", []string{"readthrough-injector"}, "get", "update"),
	}
	for name, want := range map[string]struct{ cluster, namespace []rbacv1.PolicyRule }{
		"defaults": {
			cluster:   []rbacv1.PolicyRule{readConfigMaps, trust("mutatingwebhookconfigurations"), trust("validatingwebhookconfigurations")},
			namespace: own,
		},
		"ignore":       {cluster: []rbacv1.PolicyRule{readConfigMaps, trust("mutatingwebhookconfigurations")}, namespace: own},
		"cert-manager": {cluster: []rbacv1.PolicyRule{readConfigMaps}},
		"gateway-only": {},
	} {
		t.Run(name, func(t *testing.T) {
			objects := decode(t, release{values: []string{"testdata/cases/" + name + "/values.yaml"}}.mustRender(t))
			var cluster, namespace []rbacv1.PolicyRule
			for _, role := range of[*rbacv1.ClusterRole](objects) {
				cluster = append(cluster, role.Rules...)
			}
			for _, role := range of[*rbacv1.Role](objects) {
				if role.Namespace != "system" {
					t.Errorf("role %s is in %s", role.Name, role.Namespace)
				}
				namespace = append(namespace, role.Rules...)
			}
			if !reflect.DeepEqual(cluster, want.cluster) {
				t.Errorf("in the cluster:\n%v\nwant\n%v", cluster, want.cluster)
			}
			if !reflect.DeepEqual(namespace, want.namespace) {
				t.Errorf("in the namespace:\n%v\nwant\n%v", namespace, want.namespace)
			}
			for _, b := range of[*rbacv1.ClusterRoleBinding](objects) {
				checkBinding(t, objects, b.RoleRef, b.Subjects)
			}
			for _, b := range of[*rbacv1.RoleBinding](objects) {
				checkBinding(t, objects, b.RoleRef, b.Subjects)
			}
		})
	}
}

// checkBinding sees that a binding joins a role that is there with the injector's account, and nobody else.
func checkBinding(t *testing.T, objects []object, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
	t.Helper()
	switch ref.Kind {
	case "ClusterRole":
		named[*rbacv1.ClusterRole](t, objects, ref.Name)
	case "Role":
		named[*rbacv1.Role](t, objects, ref.Name)
	default:
		t.Errorf("a binding of a %s", ref.Kind)
	}
	want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "readthrough-injector", Namespace: "system"}}
	if !reflect.DeepEqual(subjects, want) {
		t.Errorf("subjects %v, want %v", subjects, want)
	}
	named[*corev1.ServiceAccount](t, objects, want[0].Name)
}

// TestRightsAreEnough sees that what the injector is told to use is there, and is what it has rights on.
func TestRightsAreEnough(t *testing.T) {
	objects := decode(t, release{values: []string{"testdata/cases/defaults/values.yaml"}}.mustRender(t))
	flags := injectorFlags(t, objects)
	role := only[*rbacv1.Role](t, objects)
	if got := role.Rules[0].ResourceNames[0]; got != flags["certificate-secret"] {
		t.Errorf("rights on the Secret %s, and it uses %s", got, flags["certificate-secret"])
	}
	if got := role.Rules[1].ResourceNames[0]; got != flags["lease"] {
		t.Errorf("rights on the Lease %s, and it uses %s", got, flags["lease"])
	}
	secret := named[*corev1.Secret](t, objects, flags["certificate-secret"])
	if len(secret.Data)+len(secret.StringData) > 0 || secret.Type != corev1.SecretTypeOpaque {
		t.Errorf("the Secret is not rendered empty, so an upgrade would overwrite it: %v", secret)
	}
	lease := named[*coordinationv1.Lease](t, objects, flags["lease"])
	if !reflect.DeepEqual(lease.Spec, coordinationv1.LeaseSpec{}) {
		t.Errorf("the Lease is not rendered empty, so an upgrade would overwrite it: %v", lease.Spec)
	}
	for _, rule := range only[*rbacv1.ClusterRole](t, objects).Rules[1:] {
		if got := rule.ResourceNames[0]; got != flags["configuration"] {
			t.Errorf("rights on the %s %s, and it uses %s", rule.Resources[0], got, flags["configuration"])
		}
	}
	named[*admissionv1.MutatingWebhookConfiguration](t, objects, flags["configuration"])
	named[*admissionv1.ValidatingWebhookConfiguration](t, objects, flags["configuration"])
}

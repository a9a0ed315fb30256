package chart

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// TestReleaseTestReachesGateway follows the ways on which the pod of `helm test` asks the gateway: through a Service that is there, to a port
// that is listened on, past the NetworkPolicy. It asks by both ways, for what each is good for.
func TestReleaseTestReachesGateway(t *testing.T) {
	forEachCase(t, func(t *testing.T, objects []object) {
		for _, p := range of[*corev1.Pod](objects) {
			if !strings.HasSuffix(p.Name, "-test-gateway") {
				continue
			}
			var asked []string
			for _, c := range p.Spec.Containers {
				for _, arg := range c.Args {
					if service, port, found := strings.Cut(arg, ":"); found {
						asked = append(asked, c.Args[1]+" "+reachedPort(t, objects, p, service, port))
					}
				}
			}
			if want := []string{"ready metrics", "login redis"}; !slices.Equal(asked, want) {
				t.Errorf("it asks %v, want %v", asked, want)
			}
		}
	})
}

// reachedPort is the name of the gateway's port that a pod gets to by a Service.
func reachedPort(t *testing.T, objects []object, from *corev1.Pod, service, port string) string {
	t.Helper()
	s := named[*corev1.Service](t, objects, service)
	i := slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return strconv.Itoa(int(p.Port)) == port })
	if i < 0 {
		t.Fatalf("Service %s has no port %s", service, port)
	}
	name := s.Spec.Ports[i].TargetPort.StrVal
	if s.Spec.ClusterIP == corev1.ClusterIPNone && port != "6381" {
		t.Errorf("Service %s has no address of its own, and its pods do not listen on %s", service, port)
	}
	for _, policy := range of[*networkingv1.NetworkPolicy](objects) {
		if !strings.HasSuffix(policy.Name, "-gateway") {
			continue
		}
		if !slices.ContainsFunc(policy.Spec.Ingress, func(rule networkingv1.NetworkPolicyIngressRule) bool {
			return rule.Ports[0].Port.StrVal == name && admits(t, rule, from)
		}) {
			t.Errorf("NetworkPolicy %s keeps %s from port %s", policy.Name, from.Name, name)
		}
	}
	return name
}

// admits tells whether a rule of a policy in a pod's own namespace names that pod.
func admits(t *testing.T, rule networkingv1.NetworkPolicyIngressRule, p *corev1.Pod) bool {
	t.Helper()
	return len(rule.From) == 0 || slices.ContainsFunc(rule.From, func(peer networkingv1.NetworkPolicyPeer) bool {
		return peer.IPBlock == nil && peer.NamespaceSelector == nil && matches(t, peer.PodSelector, p.Labels)
	})
}

// TestPoliciesKeepOut sees that the pods that a policy names beside the test's are all that it lets in.
func TestPoliciesKeepOut(t *testing.T) {
	objects := decode(t, release{values: []string{"testdata/cases/everything/values.yaml"}}.mustRender(t))
	for _, policy := range of[*networkingv1.NetworkPolicy](objects) {
		for _, rule := range policy.Spec.Ingress {
			for _, peer := range rule.From {
				if peer.PodSelector == nil {
					continue // the values' own
				}
				if s := labels.SelectorFromSet(peer.PodSelector.MatchLabels).String(); !strings.Contains(s, "app.kubernetes.io/component=test") || !strings.Contains(s, "app.kubernetes.io/instance=readthrough") {
					t.Errorf("NetworkPolicy %s lets in %s", policy.Name, s)
				}
			}
		}
	}
}

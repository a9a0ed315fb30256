package chart

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// pod is a pod that objects ask for, with who asks.
type pod struct {
	owner  string
	labels map[string]string
	spec   corev1.PodSpec
}

func pods(objects []object) []pod {
	var found []pod
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Pod:
			found = append(found, pod{"Pod " + o.Name, o.Labels, o.Spec})
		case *appsv1.Deployment:
			found = append(found, pod{"Deployment " + o.Name, o.Spec.Template.Labels, o.Spec.Template.Spec})
		case *appsv1.StatefulSet:
			found = append(found, pod{"StatefulSet " + o.Name, o.Spec.Template.Labels, o.Spec.Template.Spec})
		}
	}
	return found
}

// TestPodSecurity checks the pods by the rules of Pod Security "restricted", but for what a value gives up by its nature.
func TestPodSecurity(t *testing.T) {
	forEachCase(t, func(t *testing.T, objects []object) {
		for _, p := range pods(objects) {
			security := p.spec.SecurityContext
			if security == nil || security.RunAsNonRoot == nil || !*security.RunAsNonRoot {
				t.Errorf("%s may run as root", p.owner)
				continue
			}
			if security.RunAsUser != nil && *security.RunAsUser == 0 {
				t.Errorf("%s runs as root", p.owner)
			}
			if security.SeccompProfile == nil || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s has no seccomp profile", p.owner)
			}
			if p.spec.HostNetwork && !strings.HasSuffix(t.Name(), "/host-network") && !strings.HasSuffix(t.Name(), "/everything") {
				t.Errorf("%s is in the node's network", p.owner)
			}
			for _, v := range p.spec.Volumes {
				if v.ConfigMap == nil && v.Secret == nil && v.EmptyDir == nil && v.Projected == nil {
					t.Errorf("%s: volume %s is of a kind that is not allowed", p.owner, v.Name)
				}
			}
			for _, c := range slices.Concat(p.spec.InitContainers, p.spec.Containers) {
				s := c.SecurityContext
				switch {
				case s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation:
					t.Errorf("%s: %s may gain privileges", p.owner, c.Name)
				case s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0:
					t.Errorf("%s: %s keeps capabilities", p.owner, c.Name)
				case s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem:
					t.Errorf("%s: %s may write to its root file system", p.owner, c.Name)
				}
				if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: %s has no requests, or no limit of memory", p.owner, c.Name)
				}
			}
		}
	})
}

// TestTokens sees that the injector alone gets a token of the API.
func TestTokens(t *testing.T) {
	forEachCase(t, func(t *testing.T, objects []object) {
		for _, p := range pods(objects) {
			mount := p.spec.AutomountServiceAccountToken
			if mount == nil {
				t.Errorf("%s does not say whether it has a token", p.owner)
			} else if injector := p.labels["app.kubernetes.io/component"] == "injector"; *mount != injector {
				t.Errorf("%s: token mounted: %v", p.owner, *mount)
			}
		}
		for _, account := range of[*corev1.ServiceAccount](objects) {
			if account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken {
				t.Errorf("ServiceAccount %s has a token mounted in whatever names it", account.Name)
			}
		}
	})
}

// TestVolumes sees that what is mounted is there, and is used.
func TestVolumes(t *testing.T) {
	forEachCase(t, func(t *testing.T, objects []object) {
		for _, p := range pods(objects) {
			used := map[string]bool{}
			for _, c := range slices.Concat(p.spec.InitContainers, p.spec.Containers) {
				for _, m := range c.VolumeMounts {
					used[m.Name] = true
					if !slices.ContainsFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
						t.Errorf("%s: %s mounts %s, which is not there", p.owner, c.Name, m.Name)
					}
				}
			}
			for _, v := range p.spec.Volumes {
				if !used[v.Name] {
					t.Errorf("%s: nothing mounts %s", p.owner, v.Name)
				}
			}
		}
	})
}

// TestSelectors sees that everything that selects pods selects exactly those of one component, and by ports that they have.
func TestSelectors(t *testing.T) {
	forEachCase(t, func(t *testing.T, objects []object) {
		all := pods(objects)
		selected := func(by string, selector labels.Selector) []pod {
			var found []pod
			for _, p := range all {
				if selector.Matches(labels.Set(p.labels)) {
					found = append(found, p)
				}
			}
			if len(found) != 1 {
				t.Errorf("%s selects %d kinds of pods, want 1: %s", by, len(found), selector)
			}
			return found
		}
		selectedBy := func(by string, selector *metav1.LabelSelector) []pod {
			s, err := metav1.LabelSelectorAsSelector(selector)
			if err != nil {
				t.Fatalf("%s: %v", by, err)
			}
			return selected(by, s)
		}
		hasPort := func(p pod, name string) bool {
			for _, c := range p.spec.Containers {
				for _, port := range c.Ports {
					if port.Name == name {
						return true
					}
				}
			}
			return false
		}
		for _, o := range objects {
			switch o := o.(type) {
			case *appsv1.Deployment:
				for _, p := range selectedBy("Deployment "+o.Name, o.Spec.Selector) {
					if p.owner != "Deployment "+o.Name {
						t.Errorf("Deployment %s selects %s", o.Name, p.owner)
					}
				}
			case *policyv1.PodDisruptionBudget:
				selectedBy("PodDisruptionBudget "+o.Name, o.Spec.Selector)
			case *corev1.Service:
				for _, p := range selected("Service "+o.Name, labels.SelectorFromSet(o.Spec.Selector)) {
					for _, port := range o.Spec.Ports {
						if port.TargetPort.StrVal != "" && !hasPort(p, port.TargetPort.StrVal) {
							t.Errorf("Service %s: %s has no port %s", o.Name, p.owner, port.TargetPort.StrVal)
						}
					}
				}
			case *networkingv1.NetworkPolicy:
				for _, p := range selectedBy("NetworkPolicy "+o.Name, &o.Spec.PodSelector) {
					for _, rule := range o.Spec.Ingress {
						for _, port := range rule.Ports {
							if !hasPort(p, port.Port.StrVal) {
								t.Errorf("NetworkPolicy %s: %s has no port %s", o.Name, p.owner, port.Port.StrVal)
							}
						}
					}
				}
			case *serviceMonitor:
				selector, err := metav1.LabelSelectorAsSelector(&o.Spec.Selector)
				if err != nil {
					t.Fatal(err)
				}
				var scraped []string
				for _, s := range of[*corev1.Service](objects) {
					for _, port := range s.Spec.Ports {
						if selector.Matches(labels.Set(s.Labels)) && port.Name == o.Spec.Endpoints[0].Port {
							scraped = append(scraped, s.Labels["app.kubernetes.io/component"])
						}
					}
				}
				if slices.Sort(scraped); !slices.Equal(scraped, []string{"gateway", "injector"}) {
					t.Errorf("the ServiceMonitor scrapes %v", scraped)
				}
			}
		}
	})
}

// TestSelectorsAreStable pins what selects pods: a Deployment's selector cannot be changed, so another one would break every upgrade.
func TestSelectorsAreStable(t *testing.T) {
	objects := decode(t, release{values: []string{"testdata/cases/gateway/values.yaml"}, name: "cache"}.mustRender(t))
	for _, component := range []string{"injector", "gateway"} {
		got := named[*appsv1.Deployment](t, objects, "cache-readthrough-"+component).Spec.Selector
		want := map[string]string{
			"app.kubernetes.io/name": "readthrough", "app.kubernetes.io/instance": "cache", "app.kubernetes.io/component": component,
		}
		if metav1.FormatLabelSelector(got) != metav1.FormatLabelSelector(metav1.SetAsLabelSelector(want)) {
			t.Errorf("%s: %v", component, got)
		}
	}
}

// TestNeverInjected sees that no pod of the chart gets a sidecar, but that of the test of injection.
func TestNeverInjected(t *testing.T) {
	for _, c := range chartCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range pods(decode(t, c.mustRender(t))) {
				want := "disabled"
				if strings.HasSuffix(p.owner, "-test-injection") {
					want = "enabled"
				}
				if got := p.labels["readthrough/inject"]; got != want {
					t.Errorf("%s: readthrough/inject is %q, want %q", p.owner, got, want)
				}
			}
		})
	}
}

// TestUpdates sees that an update takes no pod away before there is another, where two fit beside each other.
func TestUpdates(t *testing.T) {
	forEachCase(t, func(t *testing.T, objects []object) {
		for _, d := range of[*appsv1.Deployment](objects) {
			if d.Labels["app.kubernetes.io/name"] == "" {
				continue // the example's
			}
			rolling := d.Spec.Strategy.RollingUpdate
			unavailable, surge := rolling.MaxUnavailable.IntValue(), rolling.MaxSurge.IntValue()
			if network := d.Spec.Template.Spec.HostNetwork; network && (unavailable != 1 || surge != 0) || !network && (unavailable != 0 || surge != 1) {
				t.Errorf("%s: %d unavailable and %d more", d.Name, unavailable, surge)
			}
		}
	})
}

// TestGraces sees that the kubelet waits for the end of a drain.
func TestGraces(t *testing.T) {
	forEachCase(t, func(t *testing.T, objects []object) {
		for _, d := range of[*appsv1.Deployment](objects) {
			var drain, grace time.Duration
			switch d.Labels["app.kubernetes.io/component"] {
			case "injector":
				drain, grace = duration(t, injectorFlags(t, objects)["drain"]), 25*time.Second
			case "gateway":
				env := map[string]string{}
				for _, e := range d.Spec.Template.Spec.Containers[0].Env {
					env[e.Name] = e.Value
				}
				drain, grace = duration(t, env["READTHROUGH_SHUTDOWN_GRACE"]), 10*time.Second
				if delay := duration(t, env["READTHROUGH_SHUTDOWN_DELAY"]); delay != 5*time.Second || delay > drain {
					t.Errorf("%s goes on for %s, of %s", d.Name, delay, drain)
				}
			default:
				continue
			}
			waits := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
			if waits < drain+grace || waits >= drain+grace+time.Second {
				t.Errorf("%s is killed after %s, want %s after its drain of %s", d.Name, waits, grace, drain)
			}
		}
	})
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

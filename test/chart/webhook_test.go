package chart

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"readthrough/test/harness"
)

// injectorContainer is the injector's.
func injectorContainer(t testing.TB, objects []object) corev1.Container {
	t.Helper()
	all := of[*appsv1.Deployment](objects)
	i := slices.IndexFunc(all, func(d *appsv1.Deployment) bool { return d.Labels["app.kubernetes.io/component"] == "injector" })
	if i < 0 {
		t.Fatal("no injector")
	}
	return all[i].Spec.Template.Spec.Containers[0]
}

// injectorFlags are its flags.
func injectorFlags(t testing.TB, objects []object) map[string]string {
	t.Helper()
	flags := map[string]string{}
	for _, arg := range injectorContainer(t, objects).Args[1:] {
		name, value, found := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !found {
			t.Errorf("%s has no value", arg)
		}
		flags[name] = value
	}
	return flags
}

// TestFlags sees that the program has every flag that the injector is started with.
func TestFlags(t *testing.T) {
	sidecar, err := harness.BuildSidecar(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	help, err := run(t, sidecar, "webhook", "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"defaults", "cert-manager", "everything"} {
		objects := decode(t, release{values: []string{"testdata/cases/" + name + "/values.yaml"}}.mustRender(t))
		for _, flag := range slices.Sorted(maps.Keys(injectorFlags(t, objects))) {
			if !regexp.MustCompile(`(?m)^ +--` + flag + ` `).MatchString(help) {
				t.Errorf("%s: sidecar webhook has no flag --%s", name, flag)
			}
		}
	}
}

// TestWhoIsAsked sees which pods and ConfigMaps reach the injector: those that ask, and no others.
func TestWhoIsAsked(t *testing.T) {
	objects := decode(t, release{values: []string{"testdata/cases/defaults/values.yaml"}}.mustRender(t))
	webhooks := only[*admissionv1.MutatingWebhookConfiguration](t, objects).Webhooks
	asked := func(namespace, pod map[string]string) []string {
		var names []string
		for _, w := range webhooks {
			if matches(t, w.NamespaceSelector, namespace) && matches(t, w.ObjectSelector, pod) {
				names = append(names, w.Name)
			}
		}
		return names
	}
	label := func(value string) map[string]string { return map[string]string{"readthrough/inject": value} }
	for _, c := range []struct {
		namespace, pod map[string]string
		want           []string
	}{
		{nil, nil, nil},
		{nil, label("enabled"), []string{"pod.inject.readthrough"}},
		{nil, label("true"), []string{"pod.inject.readthrough"}}, // to be told
		{nil, label("disabled"), nil},
		{label("enabled"), nil, []string{"namespace.inject.readthrough"}},
		{label("enabled"), label("enabled"), []string{"pod.inject.readthrough"}},
		{label("enabled"), label("disabled"), nil},
		{label("disabled"), label("enabled"), []string{"pod.inject.readthrough"}},
		{label("disabled"), nil, nil},
		{label("true"), nil, nil},
	} {
		if got := asked(c.namespace, c.pod); !slices.Equal(got, c.want) {
			t.Errorf("a pod with %v in a namespace with %v: %v, want %v", c.pod, c.namespace, got, c.want)
		}
	}
	validating := only[*admissionv1.ValidatingWebhookConfiguration](t, objects).Webhooks[0]
	for value, want := range map[string]bool{"": false, "true": true, "false": false} {
		if got := matches(t, validating.ObjectSelector, map[string]string{"readthrough/config": value}); got != want {
			t.Errorf("a ConfigMap with readthrough/config: %q is checked: %v", value, got)
		}
	}
}

func matches(t *testing.T, selector *metav1.LabelSelector, of map[string]string) bool {
	t.Helper()
	if selector == nil {
		return true
	}
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(of))
}

// TestWebhookIsReached follows the way of a request: from the configurations through the Service to the container's port.
func TestWebhookIsReached(t *testing.T) {
	forEachCase(t, func(t *testing.T, objects []object) {
		var clients []admissionv1.WebhookClientConfig
		for _, c := range of[*admissionv1.MutatingWebhookConfiguration](objects) {
			for _, w := range c.Webhooks {
				clients = append(clients, w.ClientConfig)
			}
		}
		for _, c := range of[*admissionv1.ValidatingWebhookConfiguration](objects) {
			for _, w := range c.Webhooks {
				clients = append(clients, w.ClientConfig)
			}
		}
		for _, c := range clients {
			service := named[*corev1.Service](t, objects, c.Service.Name)
			flags := injectorFlags(t, objects)
			if service.Namespace != c.Service.Namespace || flags["service"] != service.Name {
				t.Errorf("asked is %v; the Service is %s/%s, and the certificate for %s", c.Service, service.Namespace, service.Name, flags["service"])
			}
			if len(c.CABundle) > 0 {
				t.Error("a caBundle is rendered, so an upgrade would overwrite the one in use")
			}
			i := slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == *c.Service.Port })
			if i < 0 {
				t.Fatalf("the Service has no port %d", *c.Service.Port)
			}
			for _, port := range injectorContainer(t, objects).Ports {
				if port.Name == service.Spec.Ports[i].TargetPort.StrVal && ":"+strconv.Itoa(int(port.ContainerPort)) != flags["listen"] {
					t.Errorf("the Service leads to port %d, and it listens on %s", port.ContainerPort, flags["listen"])
				}
			}
		}
	})
}

// TestCertManager sees that cert-manager makes the certificate that is mounted, for the name that is asked for, and that the trust in
// it is put where it is needed.
func TestCertManager(t *testing.T) {
	for _, name := range []string{"cert-manager", "cert-manager-issuer"} {
		objects := decode(t, release{values: []string{"testdata/cases/" + name + "/values.yaml"}}.mustRender(t))
		c := named[*certificate](t, objects, "readthrough-injector")
		client := only[*admissionv1.MutatingWebhookConfiguration](t, objects).Webhooks[0].ClientConfig.Service
		if want := client.Name + "." + client.Namespace + ".svc"; !slices.Contains(c.Spec.DNSNames, want) {
			t.Errorf("%s: the certificate is for %v, and API servers ask for %s", name, c.Spec.DNSNames, want)
		}
		for _, p := range pods(objects) {
			if p.labels["app.kubernetes.io/component"] != "injector" {
				continue
			}
			if !slices.ContainsFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Secret != nil && v.Secret.SecretName == c.Spec.SecretName }) {
				t.Errorf("%s: the certificate's Secret is not mounted", name)
			}
		}
		want := c.Namespace + "/" + c.Name
		for _, o := range []object{only[*admissionv1.MutatingWebhookConfiguration](t, objects), only[*admissionv1.ValidatingWebhookConfiguration](t, objects)} {
			if got := o.GetAnnotations()["cert-manager.io/inject-ca-from"]; got != want {
				t.Errorf("%s: trust is taken from %q, want %q", name, got, want)
			}
		}
		if issuers := of[*issuer](objects); name == "cert-manager" {
			if named[*issuer](t, objects, c.Spec.IssuerRef.Name).Spec.CA.SecretName != named[*certificate](t, objects, "readthrough-ca").Spec.SecretName {
				t.Error("the issuer does not use the CA's Secret")
			}
			named[*issuer](t, objects, named[*certificate](t, objects, "readthrough-ca").Spec.IssuerRef.Name)
		} else if len(issuers) > 0 || c.Spec.IssuerRef.Name != "internal" || c.Spec.IssuerRef.Kind != "ClusterIssuer" || c.Spec.IssuerRef.Group != "cert-manager.io" {
			t.Errorf("%d issuers, and the certificate is of %v", len(issuers), c.Spec.IssuerRef)
		}
		if n := len(of[*corev1.Secret](objects)); n != 0 {
			t.Errorf("%s: %d Secrets are rendered", name, n)
		}
	}
}

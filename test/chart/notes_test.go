package chart

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"readthrough/internal/inject"
	"readthrough/test/kubeapi"
)

// chartWithNotes is a copy of the chart that renders its notes too. helm prints those of a real installation only; as part of an object
// they are rendered like everything else.
func chartWithNotes(t *testing.T) string {
	t.Helper()
	chart := filepath.Join(t.TempDir(), "readthrough")
	if err := os.CopyFS(chart, os.DirFS(filepath.Join(root, "charts/readthrough"))); err != nil {
		t.Fatal(err)
	}
	probe := `data:
  notes: |
    {{- include (print .Template.BasePath "/NOTES.txt") . | nindent 4 }}
`
	if err := os.WriteFile(filepath.Join(chart, "templates/notes.yaml"), []byte(probe), 0o644); err != nil {
		t.Fatal(err)
	}
	return chart
}

// notes are those of a release of that chart.
func notes(t *testing.T, r release) string {
	t.Helper()
	r.args = append([]string{"--show-only", "templates/notes.yaml"}, r.args...)
	_, text, found := strings.Cut(r.mustRender(t), "notes: |\n")
	if !found {
		t.Fatal("no notes")
	}
	return strings.TrimSpace(strings.ReplaceAll("\n"+text, "\n    ", "\n")) + "\n"
}

// TestNotes compares what is said after an installation.
func TestNotes(t *testing.T) {
	chart := chartWithNotes(t)
	for _, c := range chartCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.chart = chart
			golden(t, filepath.Join(c.folder, "notes.txt"), notes(t, c.release))
		})
	}
}

// TestNotesWarnOfAnotherInjector has helm ask an API server, on which others have webhooks too.
func TestNotesWarnOfAnotherInjector(t *testing.T) {
	chart := chartWithNotes(t)
	webhooks := func(name, namespace, webhook string) admissionv1.MutatingWebhookConfiguration {
		var c admissionv1.MutatingWebhookConfiguration
		c.APIVersion, c.Kind, c.Name = "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", name
		c.Webhooks = []admissionv1.MutatingWebhook{
			{Name: "first." + webhook, ClientConfig: admissionv1.WebhookClientConfig{URL: new("https://localhost")}},
			{Name: webhook, ClientConfig: admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: namespace}}},
		}
		return c
	}
	own := webhooks("readthrough", "system", "pod.inject.readthrough")
	mesh := webhooks("mesh", "mesh", "pod.inject.mesh")
	for name, test := range map[string]struct {
		there []admissionv1.MutatingWebhookConfiguration
		set   string
		want  string
	}{
		"none":               {nil, "", "One injector serves the whole cluster"},
		"this one, upgraded": {[]admissionv1.MutatingWebhookConfiguration{own, mesh}, "", "One injector serves the whole cluster"},
		"another": {
			[]admissionv1.MutatingWebhookConfiguration{own, webhooks("cache", "shop", "pod.inject.readthrough"), mesh},
			"",
			"WARNING: there is another injector in this cluster, and both are asked about every pod. Keep one, and uninstall the other release or\n" +
				"set injector.enabled=false in it:\n     MutatingWebhookConfiguration cache, whose injector is in namespace shop\n\n",
		},
		"another beside a gateway": {
			[]admissionv1.MutatingWebhookConfiguration{webhooks("cache", "shop", "pod.inject.readthrough")}, "injector.enabled=false", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := kubeapi.New()
			server := httptest.NewServer(api)
			t.Cleanup(server.Close)
			const group = "admissionregistration.k8s.io"
			version := metav1.GroupVersionForDiscovery{GroupVersion: group + "/v1", Version: "v1"}
			api.Put(t, "/api", metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
			api.Put(t, "/api/v1", metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "v1"})
			api.Put(t, "/apis", metav1.APIGroupList{
				TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"},
				Groups:   []metav1.APIGroup{{Name: group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version}},
			})
			api.Put(t, "/apis/"+group+"/v1", metav1.APIResourceList{
				TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: group + "/v1",
				APIResources: []metav1.APIResource{{Name: "mutatingwebhookconfigurations", Kind: "MutatingWebhookConfiguration", Verbs: []string{"get", "list"}}},
			})
			api.Put(t, "/apis/"+group+"/v1/mutatingwebhookconfigurations", admissionv1.MutatingWebhookConfigurationList{
				TypeMeta: metav1.TypeMeta{Kind: "MutatingWebhookConfigurationList", APIVersion: group + "/v1"}, Items: test.there,
			})
			r := release{
				chart: chart, values: []string{"testdata/cases/gateway/values.yaml"},
				args: []string{"--dry-run=server", "--kube-apiserver", server.URL},
			}
			if test.set != "" {
				r.args = append(r.args, "--set", test.set)
			}
			got := notes(t, r)
			if !strings.Contains(got, test.want) {
				t.Errorf("%s\nwant\n%s", got, test.want)
			}
			if wants := strings.HasPrefix(test.want, "WARNING"); strings.Contains(got, "WARNING") != wants {
				t.Errorf("it warns: %v\n%s", !wants, got)
			}
		})
	}
}

// TestNotesLeadToASidecar does with a Deployment what the notes say, on both ways, and has the injector decide about its pod: what it then
// mounts for the database is the Secret that the notes create.
func TestNotesLeadToASidecar(t *testing.T) {
	chart := chartWithNotes(t)
	create := regexp.MustCompile(`create secret generic (\S+) \\\n\s+--from-literal=([^=]+)=`)
	patches := regexp.MustCompile(`patch deployment application --patch \\\n\s+'(.*)'`)
	for _, c := range chartCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			objects := decode(t, c.mustRender(t))
			if !slices.ContainsFunc(of[*corev1.ConfigMap](objects), func(m *corev1.ConfigMap) bool { return m.Data["settings.yaml"] != "" }) {
				return // no injector
			}
			c.chart = chart
			said := strings.NewReplacer("APPLICATION", "application", "NAMESPACE", "shop").Replace(notes(t, c.release))
			secret := create.FindStringSubmatch(said)
			found := patches.FindAllStringSubmatch(said, -1)
			if secret == nil || len(found) == 0 {
				t.Fatalf("the notes create no Secret, or patch nothing:\n%s", said)
			}
			ways := map[string]appsv1.Deployment{}
			for _, patch := range found {
				var d appsv1.Deployment
				if err := yaml.UnmarshalStrict([]byte(patch[1]), &d); err != nil {
					t.Fatalf("%v in %s", err, patch[1])
				}
				way := "namespace"
				if d.Spec.Template.Labels[inject.InjectLabel] == inject.Enabled {
					way = "pods"
				}
				ways[way] = d
			}
			if _, has := ways["pods"]; !has {
				t.Error("no patch labels the pods")
			}
			// Without a patch of its own the namespace's label is all that there is.
			if _, has := ways["namespace"]; !has {
				ways["namespace"] = appsv1.Deployment{}
			}
			for way, d := range ways {
				p := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta}
				p.Namespace, p.Name = "shop", "application"
				p.Spec.Containers = []corev1.Container{{Name: "application", Image: "application"}}
				patch, err := yaml.Marshal(decide(t, objects, p).Patch)
				if err != nil {
					t.Fatal(err)
				}
				if want := "/etc/readthrough/secrets/" + secret[1] + "/" + secret[2]; !strings.Contains(string(patch), want) {
					t.Errorf("%s: the sidecar has no %s:\n%s", way, want, patch)
				}
			}
		})
	}
}

// TestNotesKnowTheOriginByVariable has the database's URL among `sidecar.secrets`: an annotation that gives it again would deny the pod.
func TestNotesKnowTheOriginByVariable(t *testing.T) {
	r := withValues(t, "sidecar: {secrets: {ORIGIN_URL: shop/url}}")
	r.chart = chartWithNotes(t)
	said := notes(t, r)
	if strings.Contains(said, "origin-secret") || !strings.Contains(said, "shop with the key url (sidecar.secrets.ORIGIN_URL)") {
		t.Error(said)
	}
}

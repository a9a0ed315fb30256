package chart

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"readthrough/internal/inject"
)

// TestSettings reads the settings that the injector is given by the code that it reads them by.
func TestSettings(t *testing.T) {
	for _, c := range chartCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, m := range of[*corev1.ConfigMap](decode(t, c.mustRender(t))) {
				raw, is := m.Data["settings.yaml"]
				if !is {
					continue
				}
				settings, err := inject.ParseSettings([]byte(raw))
				if err != nil {
					t.Errorf("%v\n%s", err, raw)
				}
				if wants := c.name == "openshift"; (settings.RunAsUser == nil) != wants {
					t.Errorf("user %v", settings.RunAsUser)
				}
			}
		})
	}
}

// TestSettingsAreAllThere compares the chart's values with the settings that the injector knows, and their defaults.
func TestSettingsAreAllThere(t *testing.T) {
	sidecar := defaults(t)["sidecar"].(values)
	var known []string
	for _, s := range inject.Describe() {
		known = append(known, s.Key)
	}
	slices.Sort(known)
	if have := slices.Sorted(maps.Keys(sidecar)); !slices.Equal(have, known) {
		t.Errorf("the chart has %v, and the injector knows %v", have, known)
	}
	raw, err := yaml.Marshal(sidecar)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := inject.ParseSettings(raw)
	if err != nil {
		t.Fatal(err)
	}
	if want := inject.DefaultSettings(); !reflect.DeepEqual(settings, want) {
		t.Errorf("the chart's defaults are\n%+v\nand the program's\n%+v", settings, want)
	}
}

// decide is the injector's own decision about a pod, by the settings that are among the objects.
func decide(t *testing.T, objects []object, p *corev1.Pod) inject.Decision {
	t.Helper()
	i := slices.IndexFunc(of[*corev1.ConfigMap](objects), func(m *corev1.ConfigMap) bool { return m.Data["settings.yaml"] != "" })
	if i < 0 {
		t.Fatal("the injector has no settings")
	}
	settings, err := inject.ParseSettings([]byte(of[*corev1.ConfigMap](objects)[i].Data["settings.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	settings.Image = "registry.example.com/readthrough:v1"
	decision, err := inject.Decide(p, p.Namespace, inject.Options{Settings: settings, Native: true, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	if len(decision.Patch) == 0 || decision.Skipped != "" {
		t.Fatalf("not injected: %s", decision.Skipped)
	}
	return decision
}

// checkConfig sees that the configuration that a decision asks for is there, in the pod's namespace.
func checkConfig(t *testing.T, objects []object, namespace string, ref inject.ConfigRef) {
	t.Helper()
	for _, m := range of[*corev1.ConfigMap](objects) {
		if m.Namespace == namespace && m.Name == ref.Name {
			if _, has := m.Data[ref.Key]; !has {
				t.Errorf("ConfigMap %s/%s has no key %s, only %v", namespace, ref.Name, ref.Key, slices.Collect(maps.Keys(m.Data)))
			}
			return
		}
	}
	t.Errorf("there is no ConfigMap %s in namespace %s", ref.Name, namespace)
}

// TestInjectedByTest looks at the pod of `helm test`: it gets a sidecar, with a configuration that is there, and without Secrets that
// need not be.
func TestInjectedByTest(t *testing.T) {
	for _, name := range []string{"defaults", "everything", "openshift"} {
		t.Run(name, func(t *testing.T) {
			objects := decode(t, release{values: []string{"testdata/cases/" + name + "/values.yaml"}}.mustRender(t))
			asking := slices.DeleteFunc(of[*corev1.Pod](objects), func(p *corev1.Pod) bool { return p.Labels["readthrough/inject"] != "enabled" })
			if len(asking) != 1 {
				t.Fatalf("%d pods ask for a sidecar, want one", len(asking))
			}
			p := asking[0]
			decision := decide(t, objects, p)
			checkConfig(t, objects, p.Namespace, decision.Config)
			patch, err := yaml.Marshal(decision.Patch)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"shop-origin", "shop-redis", "redis-tls"} {
				if slices.Contains(words(string(patch)), secret) {
					t.Errorf("the pod needs the Secret %s", secret)
				}
			}
		})
	}
}

// TestConfigsAreFound looks at pods in the namespaces of `configs`: one that names nothing where an entry has no name, and else one that
// names the entry's. Each finds its configuration.
func TestConfigsAreFound(t *testing.T) {
	looked := 0
	for _, c := range chartCases(t) {
		entries, _ := readValues(t, c.values[0])["configs"].([]any)
		for _, entry := range entries {
			looked++
			entry := entry.(values)
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: entry["namespace"].(string), Name: "application"}}
			p.Spec.Containers = []corev1.Container{{Name: "application", Image: "application"}}
			if name, has := entry["name"]; has {
				p.Annotations = map[string]string{"readthrough/config": name.(string)}
			}
			t.Run(fmt.Sprintf("%s/%s/%v", c.name, p.Namespace, entry["name"]), func(t *testing.T) {
				objects := decode(t, c.mustRender(t))
				checkConfig(t, objects, p.Namespace, decide(t, objects, p).Config)
			})
		}
	}
	if looked < 4 {
		t.Errorf("%d configurations in all cases", looked)
	}
}

// words splits at everything that no name contains.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

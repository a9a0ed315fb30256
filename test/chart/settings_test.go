package chart

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	corev1 "k8s.io/api/core/v1"
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

// TestInjectedByTest has the injector's own decision about the pod of `helm test`: it gets a sidecar, with a configuration that is
// there, and without Secrets that need not be.
func TestInjectedByTest(t *testing.T) {
	for _, name := range []string{"defaults", "everything", "openshift"} {
		objects := decode(t, release{values: []string{"testdata/cases/" + name + "/values.yaml"}}.mustRender(t))
		for _, p := range of[*corev1.Pod](objects) {
			if p.Labels["readthrough/inject"] != "enabled" {
				continue
			}
			var settings inject.Settings
			for _, m := range of[*corev1.ConfigMap](objects) {
				if raw, is := m.Data["settings.yaml"]; is {
					var err error
					if settings, err = inject.ParseSettings([]byte(raw)); err != nil {
						t.Fatal(err)
					}
				}
			}
			settings.Image = "registry.example.com/readthrough:v1"
			decision, err := inject.Decide(p, p.Namespace, inject.Options{Settings: settings, Native: true, Version: "v1"})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if len(decision.Patch) == 0 || decision.Skipped != "" {
				t.Errorf("%s: not injected: %s", name, decision.Skipped)
			}
			named[*corev1.ConfigMap](t, objects, decision.Config.Name)
			patch, err := yaml.Marshal(decision.Patch)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"shop-origin", "shop-redis", "redis-tls"} {
				if slices.Contains(words(string(patch)), secret) {
					t.Errorf("%s: the pod needs the Secret %s", name, secret)
				}
			}
		}
	}
}

// words splits at everything that no name contains.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	sigsyaml "sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite what the cases in testdata want")

// caseOptions are what a case changes of the usual [Options].
type caseOptions struct {
	Native        *bool   `json:"native"`
	Version       string  `json:"version"`
	Image         *string `json:"image"`
	UnknownFields bool    `json:"unknownFields"` // the pod has fields that these API types do not know
}

const testVersion = "v1.0.0"

func testOptions(t testing.TB) Options {
	t.Helper()
	settings := DefaultSettings()
	if err := settings.Set("image", "registry.example.com/readthrough:1.0.0"); err != nil {
		t.Fatal(err)
	}
	return Options{Settings: settings, Native: true, Version: testVersion}
}

// TestCases goes through testdata/cases, and testdata/fragments, whose pods no server of today would take: a template without
// a name, and fields of a Kubernetes to come. Each has a pod.yaml, and may have settings.yaml (as the chart's) and options.yaml.
// What is wanted stands beside them: outcome.txt in words, and for pods that are changed patch.json and injected.yaml.
func TestCases(t *testing.T) {
	dirs, err := filepath.Glob("testdata/cases/*")
	fragments, err2 := filepath.Glob("testdata/fragments/*")
	if err = errors.Join(err, err2); err != nil || len(dirs) < 40 || len(fragments) == 0 {
		t.Fatalf("%d cases were found, and %d fragments, %v", len(dirs), len(fragments), err)
	}
	dirs = append(dirs, fragments...)
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) { testCase(t, dir) })
	}
}

func testCase(t *testing.T, dir string) {
	o, special := optionsOf(t, dir)
	before, err := sigsyaml.YAMLToJSONStrict(read(t, filepath.Join(dir, "pod.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := decode(before, &pod, !special.UnknownFields); err != nil {
		t.Fatal(err)
	}
	untouched := pod.DeepCopy()
	decision, err := Decide(&pod, "shop", o)
	if !reflect.DeepEqual(&pod, untouched) {
		t.Error("the pod itself was changed")
	}

	golden(t, filepath.Join(dir, "outcome.txt"), outcome(t, decision, err))
	if len(decision.Patch) == 0 {
		golden(t, filepath.Join(dir, "patch.json"), nil)
		golden(t, filepath.Join(dir, "injected.yaml"), nil)
		return
	}
	patch, err := json.MarshalIndent(decision.Patch, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join(dir, "patch.json"), append(patch, '\n'))
	after := applied(t, before, patch)
	text, err := sigsyaml.JSONToYAML(after)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join(dir, "injected.yaml"), text)
	checkNodes(t, read(t, filepath.Join(dir, "pod.yaml")), decision.Patch, after)

	var injected corev1.Pod
	if err := decode(after, &injected, !special.UnknownFields); err != nil {
		t.Fatalf("what comes out is no pod: %v", err)
	}
	checkRestricted(t, after)
	checkReferences(t, &injected)
	again, err := Decide(&injected, "shop", o)
	if err != nil || len(again.Patch) > 0 || again.Skipped == "" {
		t.Errorf("patched twice: %+v, %v", again, err)
	}
	if again.Config != decision.Config {
		t.Errorf("the ConfigMap is %v, and later %v", decision.Config, again.Config)
	}
	o.Version = "v9.0.0"
	if newer, err := Decide(&injected, "shop", o); err != nil || len(newer.Patch) > 0 {
		t.Errorf("another version changes it: %+v, %v", newer, err)
	}
}

func optionsOf(t *testing.T, dir string) (Options, caseOptions) {
	t.Helper()
	o := testOptions(t)
	var special caseOptions
	if raw, err := os.ReadFile(filepath.Join(dir, "settings.yaml")); err == nil {
		image := o.Settings.Image
		if o.Settings, err = ParseSettings(raw); err != nil {
			t.Fatal(err)
		}
		o.Settings.Image = image
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "options.yaml")); err == nil {
		if err := sigsyaml.UnmarshalStrict(raw, &special); err != nil {
			t.Fatal(err)
		}
	}
	if special.Native != nil {
		o.Native = *special.Native
	}
	if special.Image != nil {
		o.Settings.Image = Image(*special.Image)
	}
	if special.Version != "" {
		o.Version = special.Version
	}
	return o, special
}

// outcome is a decision in words.
func outcome(t *testing.T, d Decision, err error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err != nil {
		denial, ok := err.(*Denial)
		if !ok {
			t.Fatalf("%T is not a denial: %v", err, err)
		}
		fmt.Fprintf(&b, "denied: %s\n", denial.Message)
		if !reflect.DeepEqual(d, Decision{}) {
			t.Errorf("a denial comes with %+v", d)
		}
		return b.Bytes()
	}
	if d.Skipped != "" {
		fmt.Fprintf(&b, "skipped: %s\n", d.Skipped)
	}
	if d.Config.Name != "" {
		fmt.Fprintf(&b, "mounts: ConfigMap %s, key %s\n", d.Config.Name, d.Config.Key)
	}
	for _, w := range d.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.Bytes()
}

// applied carries a patch out as an API server does.
func applied(t testing.TB, before, patch []byte) []byte {
	t.Helper()
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	after, err := p.Apply(before)
	if err != nil {
		t.Fatal(err)
	}
	return after
}

// checkNodes holds that a patch does to YAML what it does to JSON.
func checkNodes(t testing.TB, text []byte, p Patch, want []byte) {
	t.Helper()
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	if err := expand(&root); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(root.Content[0]); err != nil {
		t.Fatal(err)
	}
	out, err := yaml.Marshal(&root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sigsyaml.YAMLToJSONStrict(out)
	if err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if !sameJSON(t, got, want) {
		t.Errorf("YAML nodes become\n%s\nand JSON\n%s", got, want)
	}
}

// sameJSON compares what two texts say. The patch library's own comparison does not bear null in a list.
func sameJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

// checkReferences holds that every volume of the sidecar is there once, and that nobody else mounts it.
func checkReferences(t testing.TB, pod *corev1.Pod) {
	t.Helper()
	volumes := map[string]int{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name]++
	}
	mounted := map[string]bool{}
	for _, c := range allContainers(&pod.Spec) {
		for _, m := range c.VolumeMounts {
			if volumes[m.Name] != 1 {
				t.Errorf("container %s mounts %s, of which there are %d", c.Name, m.Name, volumes[m.Name])
			}
			if strings.HasPrefix(m.Name, "readthrough-") && c.Name != "readthrough" {
				t.Errorf("container %s mounts %s", c.Name, m.Name)
			}
			mounted[m.Name] = true
		}
		if c.Name == "readthrough" {
			continue
		}
		for _, v := range c.Env {
			if strings.HasPrefix(v.Name, "READTHROUGH_") || strings.HasSuffix(v.Name, "_FILE") {
				t.Errorf("container %s got the sidecar's variable %s", c.Name, v.Name)
			}
		}
	}
	for name := range volumes {
		if strings.HasPrefix(name, "readthrough-") && !mounted[name] {
			t.Errorf("nobody mounts %s", name)
		}
	}
}

func decode(raw []byte, pod *corev1.Pod, strict bool) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if strict {
		d.DisallowUnknownFields()
	}
	return d.Decode(pod)
}

// golden compares content with a file, which must not be there if there is no content.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if got == nil {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if os.IsNotExist(err) && got == nil {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n(go test -update rewrites it)", path, got, want)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

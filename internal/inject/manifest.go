package inject

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/json"
	sigsyaml "sigs.k8s.io/yaml"
)

// Result is what became of one object of a manifest.
type Result struct {
	Kind, Name, Namespace string
	Injected              bool
	Skipped               string   // why not
	Warnings              []string // see [Decision]
	Denied                *Denial  // nil unless the object wants what it cannot have
}

// templates say where the objects with pods have what describes them, by group and kind.
var templates = map[string][]string{
	"/Pod":                   {},
	"/PodTemplate":           {"template"},
	"/ReplicationController": {"spec", "template"},
	"apps/Deployment":        {"spec", "template"},
	"apps/ReplicaSet":        {"spec", "template"},
	"apps/StatefulSet":       {"spec", "template"},
	"apps/DaemonSet":         {"spec", "template"},
	"batch/Job":              {"spec", "template"},
	"batch/CronJob":          {"spec", "jobTemplate", "spec", "template"},
}

// usualTemplates are where kinds that are not known here mostly have theirs.
var usualTemplates = [][]string{{"spec", "template"}, {"template"}}

// Manifest puts the sidecar into the pods, and templates of pods, of all objects in a YAML or JSON text: several documents,
// and lists within them. Documents in which nothing is done stay as they are, byte for byte; in the others comments and
// order stay. The error is that of a text that cannot be read; denials are in the results.
func Manifest(raw []byte, o Options) ([]byte, []Result, error) {
	var out bytes.Buffer
	var all []Result
	for _, d := range split(raw) {
		text, results, err := d.inject(o)
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %w", d.line, err)
		}
		out.Write(text)
		all = append(all, results...)
	}
	return out.Bytes(), all, nil
}

// inject gives the document's new text.
func (d document) inject(o Options) ([]byte, []Result, error) {
	if d.blank() {
		return d.text(), nil, nil
	}
	if err := d.single(); err != nil {
		return nil, nil, err
	}
	asJSON, err := sigsyaml.YAMLToJSON(d.body)
	if err != nil {
		return nil, nil, fmt.Errorf("this is not valid YAML: %w", err)
	}
	var object any
	if err := json.Unmarshal(asJSON, &object); err != nil {
		return nil, nil, fmt.Errorf("this is not valid YAML: %w", err)
	}
	w := walker{options: o}
	if err := w.object(object, nil); err != nil {
		return nil, nil, err
	}
	if len(w.changes) == 0 {
		return d.text(), w.results, nil
	}
	text, err := d.rewrite(object, w.changes)
	return text, w.results, err
}

// change is a patch for what stands at a path of a document.
type change struct {
	path  []any // keys and indexes
	patch Patch
}

// walker goes through a document's objects.
type walker struct {
	options Options
	results []Result
	changes []change
}

func (w *walker) object(object any, at []any) error {
	fields, _ := object.(map[string]any)
	kind, _ := fields["kind"].(string)
	apiVersion, _ := fields["apiVersion"].(string)
	if items, ok := fields["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		for i, item := range items {
			if err := w.object(item, append(at[:len(at):len(at)], "items", i)); err != nil {
				return err
			}
		}
		return nil
	}
	if kind == "" || apiVersion == "" {
		return nil // no object of Kubernetes: passed on without a word
	}
	r := Result{Kind: kind}
	meta, _ := fields["metadata"].(map[string]any)
	r.Namespace, _ = meta["namespace"].(string)
	if r.Name, _ = meta["name"].(string); r.Name == "" {
		r.Name, _ = meta["generateName"].(string)
	}
	steps, hasPods := templates[group(apiVersion)+"/"+kind]
	if !hasPods {
		r.pass(object, group(apiVersion))
		w.results = append(w.results, r)
		return nil
	}
	path := at[:len(at):len(at)]
	for _, step := range steps {
		path = append(path, step)
	}
	template := valueAt(object, steps...)
	pod, err := podOf(template)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, r.Name, err)
	}
	decision, err := Decide(pod, r.Namespace, w.options)
	if err != nil && !errors.As(err, &r.Denied) {
		return err
	}
	r.Skipped, r.Warnings, r.Injected = decision.Skipped, decision.Warnings, len(decision.Patch) > 0
	if r.Injected {
		w.changes = append(w.changes, change{path, decision.Patch})
	}
	w.results = append(w.results, r)
	return nil
}

// pass says why an object is left alone whose kind is not among [templates].
func (r *Result) pass(object any, group string) {
	r.Skipped = "has no pods"
	for _, steps := range usualTemplates {
		template := valueAt(object, steps...)
		if _, ok := valueAt(template, "spec", "containers").([]any); !ok {
			continue
		}
		kind := r.Kind
		if group != "" {
			kind += "." + group
		}
		r.Skipped = fmt.Sprintf("has pods, but the kind %s is not known here", kind)
		if valueAt(template, "metadata", "labels", InjectLabel) == nil {
			r.Warnings = []string{fmt.Sprintf("its pods get no sidecar here: label them %s: %s in %s.metadata.labels, and the webhook injects it",
				InjectLabel, Enabled, strings.Join(steps, "."))}
		}
		return
	}
}

// valueAt is what stands at a path of keys, or nil.
func valueAt(object any, steps ...string) any {
	for _, step := range steps {
		fields, _ := object.(map[string]any)
		object = fields[step]
	}
	return object
}

// group is that of an apiVersion; the core's is empty.
func group(apiVersion string) string {
	g, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return g
}

// podOf reads a pod, or the template of one, which has the same parts.
func podOf(template any) (*corev1.Pod, error) {
	if _, ok := template.(map[string]any); !ok {
		return nil, fmt.Errorf("it has no template of a pod: write one under spec")
	}
	raw, err := json.Marshal(template)
	if err != nil {
		return nil, err
	}
	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		return nil, fmt.Errorf("its pod cannot be read: %w", err)
	}
	return &pod, nil
}

// nodeAt follows a path through mappings and lists, and calls pass with each node on the way; nil if it leads nowhere.
func nodeAt(n *yaml.Node, path []any, pass func(*yaml.Node)) *yaml.Node {
	for _, step := range path {
		if n == nil {
			return nil
		}
		pass(n)
		switch step := step.(type) {
		case string:
			n = child(n, step)
		case int:
			if n.Kind != yaml.SequenceNode || step >= len(n.Content) {
				return nil
			}
			n = n.Content[step]
		}
	}
	return n
}

package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// TestManifests goes through testdata/manifests: in.yaml becomes out.yaml, and report.txt tells of each object.
func TestManifests(t *testing.T) {
	dirs, err := filepath.Glob("testdata/manifests/*")
	if err != nil || len(dirs) < 8 {
		t.Fatalf("%d manifests were found, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			in := read(t, filepath.Join(dir, "in.yaml"))
			out, results, err := Manifest(in, testOptions(t))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(dir, "out.yaml"), out)
			golden(t, filepath.Join(dir, "report.txt"), report(results))
			checkManifest(t, in, out)
		})
	}
}

func report(results []Result) []byte {
	var b bytes.Buffer
	for _, r := range results {
		fmt.Fprintf(&b, "%s %s/%s: injected %v, skipped %q, warnings %q", r.Kind, r.Namespace, r.Name, r.Injected, r.Skipped, r.Warnings)
		if r.Denied != nil {
			fmt.Fprintf(&b, "\n  %s", r.Denied.Message)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// checkManifest holds what is so for every manifest: document by document, what comes out is what a JSON Patch library makes of
// what went in; what is not changed is the same bytes; and a second time changes nothing.
func checkManifest(t *testing.T, in, out []byte) {
	t.Helper()
	o := testOptions(t)
	before, after := split(in), split(out)
	if len(before) != len(after) {
		t.Fatalf("%d documents became %d:\n%s", len(before), len(after), out)
	}
	for i, d := range before {
		if d.blank() {
			if !bytes.Equal(d.text(), after[i].text()) {
				t.Errorf("%q became %q", d.text(), after[i].text())
			}
			continue
		}
		asJSON, err := sigsyaml.YAMLToJSON(d.body)
		if err != nil {
			t.Fatal(err)
		}
		var object any
		if err := json.Unmarshal(asJSON, &object); err != nil {
			t.Fatal(err)
		}
		w := walker{options: o}
		if err := w.object(object, nil); err != nil {
			t.Fatal(err)
		}
		if len(w.changes) == 0 {
			if !bytes.Equal(d.text(), after[i].text()) {
				t.Errorf("%q became %q", d.text(), after[i].text())
			}
			continue
		}
		for _, c := range w.changes {
			asJSON = applied(t, asJSON, encode(within(c)))
		}
		got, err := sigsyaml.YAMLToJSONStrict(after[i].body)
		if err != nil {
			t.Fatalf("%v in\n%s", err, after[i].body)
		}
		if !sameJSON(t, got, asJSON) {
			t.Errorf("the document says\n%s\nwant\n%s", got, asJSON)
		}
	}
	if n, ok := objectsIn(in); ok {
		if m, ok := objectsIn(out); !ok || m != n {
			t.Errorf("%d objects became %d:\n%s", n, m, out)
		}
	}
	again, results, err := Manifest(out, o)
	if err != nil || !bytes.Equal(again, out) {
		t.Errorf("a second time: %v, %+v\n%s", err, results, again)
	}
}

// objectsIn counts objects as kubectl reads them; ok is false if it would not.
func objectsIn(text []byte) (n int, ok bool) {
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var object map[string]any
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return n, true
		}
		if err != nil {
			return n, false
		}
		if object != nil {
			n++
		}
	}
}

// within is a change's patch as one of the whole document.
func within(c change) Patch {
	at := ""
	for _, step := range c.path {
		at = pointer(at, fmt.Sprint(step))
	}
	var p Patch
	for _, o := range c.patch {
		o.Path = at + o.Path
		if o.From != "" {
			o.From = at + o.From
		}
		p = append(p, o)
	}
	return p
}

func TestManifestMistakes(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"a: b\n---\na: [\n", "line 3: this is not valid YAML: "},
		{"---\napiVersion: v1\nkind: Pod\nspec:\n  containers: [{name: a, image: b}]\n  hostIPC: true\n  hostIPC: false\n", "line 2: hostIPC is given twice in one mapping, the second time on line 7: keep one"},
		{"# x\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: [a]\n", "line 3: Pod web: its pod cannot be read: "},
		{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {}\n", "line 1: Deployment web: it has no template of a pod: write one under spec"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: 5, image: b}]}\n", "line 1: Pod web: its pod cannot be read: "},
		{"a: b\n---\n{a: b}\n{c: d}\n", "line 3: this document has something behind its end: write --- on a line of its own between two objects"},
		{"{\"a\": 1}\n{\"b\": [}\n", "line 1: this document has something behind its end: "},
		{"[1]\n[2]\n", "line 1: this document has something behind its end: "},
	} {
		out, _, err := Manifest([]byte(c.raw), testOptions(t))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || out != nil {
			t.Errorf("%q: %v, want %s; %q", c.raw, err, c.want, out)
		}
	}
}

// TestManifestCases does to the pods of [TestCases] what the webhook does.
func TestManifestCases(t *testing.T) {
	pods, err := filepath.Glob("testdata/*/*/pod.yaml")
	if err != nil || len(pods) < 40 {
		t.Fatalf("%d pods were found, %v", len(pods), err)
	}
	for _, path := range pods {
		raw := read(t, path)
		out, _, err := Manifest(raw, testOptions(t))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		checkManifest(t, raw, out)
	}
}

package chart

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// values is a part of values.yaml, or of a case.
type values = map[string]any

func readValues(t testing.TB, path string) values {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v values
	if err := yaml.UnmarshalStrict(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// leaves lists the paths of values that are documented each for itself: all but those that contain others.
func leaves(v values, prefix string) []string {
	var paths []string
	for name, value := range v {
		path := prefix + name
		if inner, is := value.(values); is && len(inner) > 0 && !strings.HasSuffix(path, ".resources") {
			paths = append(paths, leaves(inner, path+".")...)
			continue
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

func defaults(t testing.TB) values {
	return readValues(t, filepath.Join(root, "charts/readthrough/values.yaml"))
}

// TestSchemaHasAllValues compares the values of the schema with those of values.yaml, in both directions.
func TestSchemaHasAllValues(t *testing.T) {
	schema := readSchema(t)
	var compare func(path string, node values, v values)
	compare = func(path string, node values, v values) {
		properties, _ := node["properties"].(values)
		have, want := slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(v))
		if !slices.Equal(have, want) {
			t.Errorf("%s: the schema has %v, and values.yaml %v", path, have, want)
			return
		}
		for name, value := range v {
			inner := resolve(t, schema, properties[name].(values))
			if next, is := value.(values); is && len(next) > 0 && name != "resources" {
				compare(path+"."+name, inner, next)
			}
		}
	}
	all := defaults(t)
	all["global"] = nil // what helm gives a chart that another one includes
	compare("", schema, all)
}

func readSchema(t testing.TB) values {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, "charts/readthrough/values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema values
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

func resolve(t testing.TB, schema, node values) values {
	t.Helper()
	ref, is := node["$ref"].(string)
	if !is {
		return node
	}
	found, is := schema["$defs"].(values)[strings.TrimPrefix(ref, "#/$defs/")].(values)
	if !is {
		t.Fatalf("the schema has no %s", ref)
	}
	return found
}

// TestSchemaIsClosed sees that no object of the schema takes names that nobody has thought of, but for those that are lists by name, and
// those that are Kubernetes's own.
func TestSchemaIsClosed(t *testing.T) {
	used := map[string]bool{}
	open := regexp.MustCompile(`^\.(properties\.global|\$defs\.(config|optionalConfig|peers\..*)|.*\.(topologySpreadConstraints|affinity)\..*)$`)
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch node := node.(type) {
		case values:
			if ref, is := node["$ref"].(string); is {
				used[strings.TrimPrefix(ref, "#/$defs/")] = true
			}
			kind, _ := json.Marshal(node["type"])
			if strings.Contains(string(kind), `"object"`) {
				if _, says := node["additionalProperties"]; !says && !open.MatchString(path) {
					t.Errorf("%s takes any name", path)
				}
			}
			for name, inner := range node {
				walk(path+"."+name, inner)
			}
		case []any:
			for _, inner := range node {
				walk(path+".", inner)
			}
		}
	}
	schema := readSchema(t)
	walk("", schema)
	for name := range schema["$defs"].(values) {
		if !used[name] {
			t.Errorf("nothing uses $defs.%s", name)
		}
	}
}

// TestBadValues walks testdata/bad. The first lines of each file, `# want: …`, are parts of the message with which it is refused.
func TestBadValues(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata/bad has no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.SplitSeq(string(raw), "\n") {
				if part, is := strings.CutPrefix(line, "# want: "); is {
					want = append(want, part)
				}
			}
			if len(want) == 0 {
				t.Fatal("the file expects no message: write `# want: …` lines at its top")
			}
			r := release{values: []string{file}}
			if !strings.Contains(string(raw), "# no image") {
				r.args = []string{"--set", "image.repository=registry.example.com/readthrough"}
			}
			_, err = r.render(t)
			if err == nil {
				t.Fatal("rendered without an error")
			}
			for _, part := range want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the message lacks %q:\n%v", part, err)
				}
			}
		})
	}
}

// TestEveryValueHasAnEffect takes each value out of a case that sets all, or changes it where the default is the only thing to set
// beside the others, and sees that something else is rendered.
func TestEveryValueHasAnEffect(t *testing.T) {
	everything := readValues(t, "testdata/cases/everything/values.yaml")
	reference := release{values: []string{"testdata/cases/everything/values.yaml"}}.mustRender(t)
	// Those that the case cannot set to anything else than the default.
	changes := map[string][]string{
		"image.digest":                         {"image.digest=sha256:" + strings.Repeat("0", 64)},
		"gateway.configMap":                    {"gateway.config=null", "gateway.configMap=other"},
		"injector.certificates.provider":       {"injector.certificates.provider=cert-manager"},
		"injector.certificates.issuerRef":      {"injector.certificates.provider=cert-manager", "injector.certificates.issuerRef.name=x"},
		"nameOverride":                         {"nameOverride=other"},
		"injector.enabled":                     {"injector.enabled=false"},
		"injector.validation.enabled":          {"injector.validation.enabled=false"},
		"injector.podDisruptionBudget.enabled": {"injector.podDisruptionBudget.enabled=false"},
		"injector.serviceAccount.create":       {"injector.serviceAccount.create=false"},
		"gateway.podDisruptionBudget.enabled":  {"gateway.podDisruptionBudget.enabled=false"},
		"gateway.serviceAccount.create":        {"gateway.serviceAccount.create=false"},
		"rbac.create":                          {"rbac.create=false"},
	}
	// These change something only beside others.
	beside := map[string][]string{
		"injector.certificates.issuerRef": {"injector.certificates.provider=cert-manager"},
	}
	for _, path := range leaves(defaults(t), "") {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			if path == "gateway.config" || path == "image.repository" {
				return // without them nothing is rendered: see testdata/bad
			}
			want := reference
			r := release{values: []string{"testdata/cases/everything/values.yaml"}}
			if change, has := changes[path]; has {
				for _, set := range change {
					r.args = append(r.args, "--set", set)
				}
				if others, has := beside[path]; has {
					b := release{values: r.values}
					for _, set := range others {
						b.args = append(b.args, "--set", set)
					}
					want = b.mustRender(t)
				}
			} else {
				less, err := yaml.Marshal(without(t, everything, strings.Split(path, ".")))
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), "values.yaml")
				if err := os.WriteFile(file, less, 0o644); err != nil {
					t.Fatal(err)
				}
				r.values = []string{file}
			}
			if r.mustRender(t) == want {
				t.Error("it changes nothing that is rendered")
			}
		})
	}
}

// without is v without the value at path, which has to be there.
func without(t testing.TB, v values, path []string) values {
	t.Helper()
	next, has := v[path[0]]
	if !has {
		t.Fatalf("testdata/cases/everything does not set %s", path[0])
	}
	v = maps.Clone(v)
	if len(path) == 1 {
		delete(v, path[0])
		return v
	}
	inner, is := next.(values)
	if !is {
		t.Fatalf("%s has no %s", path[0], path[1])
	}
	v[path[0]] = without(t, inner, path[1:])
	return v
}

// TestReadme sees that the chart's README is the one that is generated, and that it has every value.
func TestReadme(t *testing.T) {
	chart := filepath.Join(t.TempDir(), "readthrough")
	if err := os.CopyFS(chart, os.DirFS(filepath.Join(root, "charts/readthrough"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(chart, "README.md")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if _, err := runTool(t, chart, "helm-docs", "--sort-values-order", "file", "--log-level", "warning"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(chart, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join(root, "charts/readthrough/README.md"), string(raw))

	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .* \\| (.*) \\|$").FindAllStringSubmatch(string(raw), -1)
	var documented []string
	for _, row := range rows {
		documented = append(documented, row[1])
		if row[2] == "" {
			t.Errorf("nothing is said about %s", row[1])
		}
	}
	slices.Sort(documented)
	if want := leaves(defaults(t), ""); !reflect.DeepEqual(documented, want) {
		t.Errorf("the README has\n%v\nand values.yaml\n%v", documented, want)
	}
}

// TestDocumentsNameValues sees that every value that a document speaks of is one.
func TestDocumentsNameValues(t *testing.T) {
	known := map[string]bool{}
	for _, path := range leaves(defaults(t), "") {
		for at := path; ; {
			known[at] = true
			i := strings.LastIndexByte(at, '.')
			if i < 0 {
				break
			}
			at = at[:i]
		}
	}
	mention := regexp.MustCompile("`((?:image|sidecar|injector|gateway|podMonitor|serviceMonitor)(?:\\.[a-zA-Z]+)+)[`:=]")
	mentions := 0
	for _, document := range []string{"README.md", "docs/kubernetes.md", "charts/readthrough/README.md.gotmpl", "charts/readthrough/values.yaml"} {
		raw, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range mention.FindAllStringSubmatch(string(raw), -1) {
			mentions++
			if !known[found[1]] {
				t.Errorf("%s speaks of %s, which is no value of the chart", document, found[1])
			}
		}
	}
	if mentions == 0 {
		t.Error("no document speaks of any value: the test looks for the wrong thing")
	}
}

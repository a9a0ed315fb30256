package inject

import (
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
)

func TestDefaultSettings(t *testing.T) {
	s := DefaultSettings()
	if s.Image != "" || s.Port != 6380 || s.Config != (ConfigRef{"readthrough", "readthrough.yaml"}) || *s.RunAsUser != 65532 {
		t.Errorf("the defaults are %+v", s)
	}
	if found := s.mistakes(func(key string) string { return key }); found != nil {
		t.Errorf("the defaults contradict each other: %v", found)
	}
	for _, raw := range []string{"", "# nothing\n", "null\n", "{}\n", "---\n"} {
		got, err := ParseSettings([]byte(raw))
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%q gives %+v, %v", raw, got, err)
		}
	}
}

// TestDescribe holds that each setting is described, has an annotation that Kubernetes takes, and a default that is the one
// in use.
func TestDescribe(t *testing.T) {
	all := Describe()
	if len(all) != reflect.TypeFor[Settings]().NumField() {
		t.Fatalf("%d settings are described", len(all))
	}
	annotations := map[string]bool{}
	for _, d := range all {
		if d.Text == "" || strings.HasSuffix(d.Text, ".") {
			t.Errorf("%s is described as %q", d.Key, d.Text)
		}
		if errs := validation.IsQualifiedName(d.Annotation); len(errs) > 0 || annotations[d.Annotation] {
			t.Errorf("%s has the annotation %s: %v", d.Key, d.Annotation, errs)
		}
		annotations[d.Annotation] = true
		s := DefaultSettings()
		if d.Default == "" {
			continue
		}
		if err := s.Set(d.Key, d.Default); err != nil || !reflect.DeepEqual(s, DefaultSettings()) {
			t.Errorf("the default of %s is not %s: %v", d.Key, d.Default, err)
		}
	}
	for _, want := range []Setting{
		{Key: "cpuRequest", Annotation: "readthrough/cpu-request", Default: "20m"},
		{Key: "tlsSecret", Annotation: "readthrough/tls-secret"},
		{Key: "imagePullPolicy", Annotation: "readthrough/image-pull-policy", Default: "IfNotPresent"},
	} {
		found := false
		for _, d := range all {
			d.Text = ""
			found = found || d == want
		}
		if !found {
			t.Errorf("there is no %+v", want)
		}
	}
}

func TestParseSettings(t *testing.T) {
	s, err := ParseSettings([]byte(`
image: registry.example.com/readthrough:1.0.0
config: &name shop
redisSecret: *name
cpuLimit: 1
memoryLimit: 268435456
runAsUser: null
env:
  REDIS_URL: redis://localhost:6380
  REDIS_NODES: 'localhost:6380,localhost:6380\'
  DEBUG: true
  EMPTY: ""
secrets: {STOCK_URL: stock/url}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultSettings()
	for key, text := range map[string]string{
		"image": "registry.example.com/readthrough:1.0.0", "config": "shop", "redisSecret": "shop/password", "cpuLimit": "1",
		"memoryLimit": "256Mi", "runAsUser": "none", "secrets": "STOCK_URL=stock/url",
	} {
		if err := want.Set(key, text); err != nil {
			t.Fatal(err)
		}
	}
	want.Env = Variables{
		{"REDIS_URL", "redis://localhost:6380"}, {"REDIS_NODES", `localhost:6380,localhost:6380\`}, {"DEBUG", "true"}, {"EMPTY", ""},
	}
	if s.MemoryLimit.Cmp(want.MemoryLimit) != 0 {
		t.Errorf("the memory limit is %s", &s.MemoryLimit)
	}
	s.MemoryLimit = want.MemoryLimit // which remembers how it was written
	if !reflect.DeepEqual(s, want) {
		t.Errorf("read %+v\nwant %+v", s, want)
	}
}

func TestParseSettingsMistakes(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"[", "is not valid YAML: yaml: line 1: did not find expected node content"},
		{"- port", "is not a mapping: write key: value, such as memoryLimit: 128Mi"},
		{"port: 1234\n---\nport: 1235\n", "holds several YAML documents: keep the first and remove the rest"},
		{"prot: 6380", "line 1: prot: unknown setting: did you mean port?"},
		{"port: 6380\nport: 6381", "line 2: port: given twice: keep one"},
		{"port:\n", "line 1: port: has no value: give it one, or remove the line"},
		{"port: ''", "line 1: port: is empty: write a value such as 6380"},
		{"port: [6380]", "line 1: port: is a list: write one value"},
		{"port: {a: b}", "line 1: port: is a mapping: write one value"},
		{"env: REDIS_URL=x", "line 1: env: is not a mapping: write NAME: VALUE below it"},
		{"env: {REDIS_URL: [a]}", "line 1: env: REDIS_URL has no text: give it one, or remove the line"},
		{"env: {REDIS_URL: }", "line 1: env: REDIS_URL has no text: give it one, or remove the line"},
		{"form: nativ\nport: many", "line 1: form: is \"nativ\": did you mean native?\nline 2: port: is \"many\", which is not a port: write 1024 to 65535"},
		{"adminPort: 6380", "port and adminPort are both 6380: write different ports"},
		{"memoryRequest: 1Gi", "memoryLimit is 128Mi, less than memoryRequest, which is 1Gi: raise the one or lower the other"},
	} {
		_, err := ParseSettings([]byte(c.raw))
		if err == nil || err.Error() != c.want {
			t.Errorf("%q:\n%v\nwant\n%s", c.raw, err, c.want)
		}
	}
}

func TestSplitList(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{" , ,", nil},
		{"a=b, c=d ", []string{"a=b", "c=d"}},
		{`a=1\,2,b=\\,c=\n`, []string{"a=1,2", `b=\`, `c=\n`}},
		{`a=\`, []string{`a=\`}},
	} {
		if got := splitList(c.text); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q gives %q", c.text, got)
		}
		for i, item := range c.want {
			if got := splitList(joinItem(item)); len(got) != 1 || got[0] != c.want[i] {
				t.Errorf("%q joined and split is %q", item, got)
			}
		}
	}
}

// TestReadVariables holds that blanks around = are no part of the value, in an annotation as in YAML.
func TestReadVariables(t *testing.T) {
	want := Variables{{"REDIS_URL", "redis://localhost:6380"}, {"GREETING", "a b"}}
	got, err := readVariables("REDIS_URL = redis://localhost:6380 , GREETING= a b")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	s, err := ParseSettings([]byte("env: {REDIS_URL: ' redis://localhost:6380', GREETING: ' a b '}"))
	if err != nil || !reflect.DeepEqual(s.Env, want) {
		t.Errorf("got %q, %v", s.Env, err)
	}
}

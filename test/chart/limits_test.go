package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"readthrough/internal/inject"
	"readthrough/test/harness"
)

// withValues is the chart with the values of a text.
func withValues(t testing.TB, text string) release {
	t.Helper()
	folder, err := os.MkdirTemp("", "values") // t.TempDir has the test's name, and helm takes a comma for the end of a path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(folder, "values.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return release{values: []string{file}, args: []string{"--set", "image.repository=registry.example.com/readthrough"}}
}

// TestSettingsAreRefusedAlike gives settings to the chart and to the injector's own code, just within a limit and just beyond: a value
// that passes the chart must not be what keeps the injector from starting.
func TestSettingsAreRefusedAlike(t *testing.T) {
	long := strings.Repeat("n", 253)
	for _, c := range []struct{ within, beyond string }{
		{"{memoryLimit: 32Mi}", "{memoryLimit: 32767Ki, memoryRequest: 1Mi}"},
		{"{memoryRequest: 128Mi}", "{memoryRequest: 134218k}"},
		{"{cpuRequest: 1500m, cpuLimit: '1.5'}", "{cpuRequest: 1501m, cpuLimit: '1.5'}"},
		{"{cpuRequest: '0.001'}", "{cpuRequest: '0.000'}"},
		{"{memoryLimit: ''}", "{memoryLimit: 0Gi}"},
		{"{imagePullSecret: a.b}", "{imagePullSecret: a..b}"},
		{"{tlsSecret: a-b.c}", "{tlsSecret: a.-b}"},
		{"{config: a/.b}", "{config: a/..}"},
		{"{config: a/b..}", "{config: a/.}"},
		{"{originSecret: a/b}", "{originSecret: a/..b}"},
		{"{secrets: {V: " + long + "/k}}", "{secrets: {V: n" + long + "/k}}"},
		{"{redisSecret: a/" + long + "}", "{redisSecret: a/n" + long + "}"},
		{"{image: 'r.example.com:5000/a@sha256:0'}", "{image: 'a b'}"},
		{"{runAsUser: 2147483647}", "{runAsUser: 2147483648}"},
		{"{adminPort: 1024}", "{adminPort: 1023}"},
	} {
		for text, fits := range map[string]bool{c.within: true, c.beyond: false} {
			t.Run(text, func(t *testing.T) {
				t.Parallel()
				if _, err := inject.ParseSettings([]byte(text)); (err == nil) != fits {
					t.Errorf("the injector: %v", err)
				}
				if _, err := withValues(t, "sidecar: "+text).render(t); (err == nil) != fits {
					t.Errorf("the chart: %v", err)
				}
			})
		}
	}
}

// TestCertificatesAreRefusedAlike does likewise with the durations that the program is given by flags.
func TestCertificatesAreRefusedAlike(t *testing.T) {
	sidecar, err := harness.BuildSidecar(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		lifetime, settle string
		refused          string // the flag that is refused, or ""
	}{
		{"225s", "1m", ""},
		{"224999ms", "1m", "lifetime"},
		{"0.01333334h", "1s", ""},
		{"47s", "1s", "lifetime"},
		{"1h", "999.9ms", "settle"},
	} {
		t.Run(c.lifetime+" "+c.settle, func(t *testing.T) {
			t.Parallel()
			// Where the flags are right it still ends at once: it is in no cluster.
			_, said := run(t, sidecar, "webhook", "--certificate-secret=s", "--lease=l", "--service=s", "--namespace=n",
				"--image=i", "--listen=localhost:0", "--admin=localhost:0", "--certificate-lifetime="+c.lifetime, "--certificate-settle="+c.settle)
			_, failed := withValues(t, "injector: {certificates: {lifetime: "+c.lifetime+", settle: "+c.settle+"}}").render(t)
			if c.refused == "" {
				if said == nil || strings.Contains(said.Error(), "--certificate-") || failed != nil {
					t.Errorf("the program: %v\nthe chart: %v", said, failed)
				}
				return
			}
			if said == nil || !strings.Contains(said.Error(), "--certificate-"+c.refused+" ") {
				t.Errorf("the program: %v", said)
			}
			if failed == nil || !strings.Contains(failed.Error(), "injector.certificates."+c.refused+" ") {
				t.Errorf("the chart: %v", failed)
			}
		})
	}
}

// TestNullIsEmpty takes values that may be empty away by null: that is the same as to write them empty.
func TestNullIsEmpty(t *testing.T) {
	empty, null := values{}, values{}
	put := func(at values, path []string, value any) {
		for _, name := range path[:len(path)-1] {
			if at[name] == nil {
				at[name] = values{}
			}
			at = at[name].(values)
		}
		at[path[len(path)-1]] = value
	}
	// Empty as well, though their defaults are not.
	optional := map[string]bool{"sidecar.cpuRequest": true, "sidecar.memoryRequest": true, "sidecar.memoryLimit": true}
	found := 0
	for _, path := range leaves(defaults(t), "") {
		var value any = ""
		if !optional[path] {
			value = lookUp(defaults(t), strings.Split(path, "."))
		}
		switch v := value.(type) {
		case string:
			if v != "" {
				continue
			}
		case values:
			if len(v) > 0 {
				continue
			}
		case []any:
			if len(v) > 0 {
				continue
			}
		default:
			continue
		}
		if path == "image.repository" {
			continue // never empty
		}
		found++
		put(empty, strings.Split(path, "."), value)
		put(null, strings.Split(path, "."), nil)
	}
	if found < 40 {
		t.Fatalf("%d values may be empty: the test looks for the wrong thing", found)
	}
	render := func(v values) string {
		put(v, []string{"gateway", "enabled"}, true)
		put(v, []string{"gateway", "config"}, values{"apiVersion": "readthrough/v1"})
		text, err := yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return withValues(t, string(text)).mustRender(t)
	}
	got, want := render(null), render(empty)
	if got != want {
		g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Fatalf("line %d is\n%s\nand with empty values\n%s", i+1, g[i], w[i])
			}
		}
		t.Fatalf("%d lines, and with empty values %d", len(g), len(w))
	}
}

func lookUp(v values, path []string) any {
	if len(path) == 1 {
		return v[path[0]]
	}
	return lookUp(v[path[0]].(values), path[1:])
}

// TestLargeUser renders a user of the kind that OpenShift gives: every pod has it as a whole number.
func TestLargeUser(t *testing.T) {
	rendered := withValues(t, "runAsUser: 1000660000\nsidecar: {runAsUser: 1000660000}").mustRender(t)
	if strings.Contains(rendered, "e+") {
		t.Error("a number has an exponent")
	}
	for _, p := range of[*corev1.Pod](decode(t, rendered)) {
		if user := p.Spec.SecurityContext.RunAsUser; user == nil || *user != 1000660000 {
			t.Errorf("pod %s runs as %v", p.Name, user)
		}
	}
}

package chart

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

var update = flag.Bool("update", false, "rewrite the goldens, the chart's README and manifests/")

// root is the repository.
const root = "../.."

// kubeVersion is that of the cluster that is rendered for where a test says nothing else.
const kubeVersion = "1.34.0"

// tool gives the path of a pinned program, and builds it where that was not done yet.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := tools[name]()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var tools = map[string]func() (string, error){
	"helm": built("helm"), "kustomize": built("kustomize"), "helm-docs": built("helm-docs"),
}

func built(name string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		c := exec.Command("go", "tool", "-modfile=test/tools/kubernetes/go.mod", "-n", name)
		c.Dir = root
		out, err := c.Output()
		if failed := new(exec.ExitError); errors.As(err, &failed) {
			return "", fmt.Errorf("build %s: %w\n%s", name, err, failed.Stderr)
		}
		return strings.TrimSpace(string(out)), err
	})
}

// runTool runs a pinned program. What it says beside is an error too: they warn of what they do not do as they were told.
func runTool(t testing.TB, dir, name string, args ...string) (string, error) {
	t.Helper()
	stdout, stderr, err := execute(t, dir, tool(t, name), args...)
	if err == nil && stderr != "" {
		err = fmt.Errorf("%s warns: %s", name, stderr)
	}
	return stdout, err
}

// run gives what a program prints, and what it says when it fails.
func run(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	stdout, _, err := execute(t, "", name, args...)
	return stdout, err
}

func execute(t testing.TB, dir, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	// Nothing of the caller's: neither a cluster, nor settings of helm.
	home := t.TempDir()
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "KUBECONFIG=" + filepath.Join(home, "none")}
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	err = c.Run()
	stderr = strings.TrimSpace(said.String())
	if err != nil {
		err = errors.New(stderr)
	}
	return out.String(), stderr, err
}

// release is one rendering of the chart.
type release struct {
	chart       string   // the chart in this repository if empty
	name        string   // readthrough if empty
	namespace   string   // system if empty
	kubeVersion string   // kubeVersion if empty
	values      []string // files
	args        []string
}

// rendered keeps what was rendered, since many tests look at the same.
var rendered sync.Map

// render gives what `helm install` would apply.
func (r release) render(t testing.TB) (string, error) {
	t.Helper()
	type result struct {
		out string
		err error
	}
	once, _ := rendered.LoadOrStore(fmt.Sprintf("%q", r), sync.OnceValue(func() result {
		out, err := r.helmTemplate(t)
		return result{out, err}
	}))
	found := once.(func() result)()
	return found.out, found.err
}

func (r release) helmTemplate(t testing.TB) (string, error) {
	t.Helper()
	or := func(value, fallback string) string {
		if value == "" {
			return fallback
		}
		return value
	}
	args := []string{
		"template", or(r.name, "readthrough"), or(r.chart, filepath.Join(root, "charts/readthrough")),
		"--namespace", or(r.namespace, "system"), "--kube-version", or(r.kubeVersion, kubeVersion),
	}
	for _, file := range r.values {
		args = append(args, "--values", file)
	}
	return runTool(t, "", "helm", append(args, r.args...)...)
}

// mustRender is render where an error is the test's.
func (r release) mustRender(t testing.TB) string {
	t.Helper()
	out, err := r.render(t)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// golden compares text with a file, or writes it there.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./test/chart -update writes it)", err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		switch {
		case i >= len(g):
			t.Fatalf("%s: line %d is missing: %s\n(make manifests rewrites it)", path, i+1, w[i])
		case i >= len(w):
			t.Fatalf("%s: line %d is new: %s\n(make manifests rewrites it)", path, i+1, g[i])
		case g[i] != w[i]:
			t.Fatalf("%s: line %d is\n%s\nwant\n%s\n(make manifests rewrites it)", path, i+1, g[i], w[i])
		}
	}
}

// folders lists the folders below testdata/dir; there are some.
func folders(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", dir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		t.Fatalf("testdata/%s has no cases", dir)
	}
	return names
}

package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// chartCase is a combination of values that somebody may have: testdata/cases/NAME/values.yaml. A first line
// `# kube-version: 1.28.0` says for which cluster.
type chartCase struct {
	name   string
	folder string
	release
}

func chartCases(t *testing.T) []chartCase {
	t.Helper()
	var cases []chartCase
	for _, name := range folders(t, "cases") {
		folder := filepath.Join("testdata/cases", name)
		values := filepath.Join(folder, "values.yaml")
		raw, err := os.ReadFile(values)
		if err != nil {
			t.Fatal(err)
		}
		c := chartCase{name: name, folder: folder, release: release{values: []string{values}}}
		if found := regexp.MustCompile(`^# kube-version: (\S+)\n`).FindSubmatch(raw); found != nil {
			c.kubeVersion = string(found[1])
		}
		cases = append(cases, c)
	}
	return cases
}

// TestCases renders each combination of values and compares it with its golden.
func TestCases(t *testing.T) {
	for _, c := range chartCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			golden(t, filepath.Join(c.folder, "want.yaml"), c.mustRender(t))
		})
	}
}

// TestLint has helm look for what is unusual.
func TestLint(t *testing.T) {
	for _, c := range chartCases(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := runTool(t, "", "helm", "lint", "--strict", filepath.Join(root, "charts/readthrough"),
				"--kube-version", kubeVersion, "--values", c.values[0])
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestKubernetesTooOld sees that helm refuses a cluster on which the chart was never meant to be.
func TestKubernetesTooOld(t *testing.T) {
	_, err := release{values: []string{"testdata/cases/defaults/values.yaml"}, kubeVersion: "1.24.9"}.render(t)
	if err == nil || !strings.Contains(err.Error(), "chart requires kubeVersion: >=1.25.0-0") {
		t.Errorf("error: %v", err)
	}
}

// TestPackage sees that a packaged chart has what it needs, and nothing of the repository beside.
func TestPackage(t *testing.T) {
	folder := t.TempDir()
	if _, err := runTool(t, "", "helm", "package", filepath.Join(root, "charts/readthrough"), "--destination", folder); err != nil {
		t.Fatal(err)
	}
	packages, err := filepath.Glob(filepath.Join(folder, "readthrough-*.tgz"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("%v, %v", packages, err)
	}
	packed := release{chart: packages[0], values: []string{"testdata/cases/everything/values.yaml"}}.mustRender(t)
	if packed != (release{values: []string{"testdata/cases/everything/values.yaml"}}).mustRender(t) {
		t.Error("the packaged chart renders something else")
	}
	shown, err := runTool(t, "", "helm", "show", "readme", packages[0])
	if err != nil || !strings.HasPrefix(shown, "# readthrough") {
		t.Errorf("the README is not in the package: %q, %v", shown, err)
	}
}

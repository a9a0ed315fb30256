package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A module of the shape of this one, in which a package has been taken from elsewhere with its license.
func TestLicenses(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{
		"go.mod": "module readthrough\n\ngo 1.26\n\nrequire (\n\texample.com/dependency v1.0.0\n\tgolang.org/x/crypto/x509roots/fallback v0.0.0\n)\n\n" +
			"replace example.com/dependency => ./dependency\n\nreplace golang.org/x/crypto/x509roots/fallback => ./roots\n",
		"LICENSE":                               "ours",
		"LICENSE.go":                            "package none", // a source file, whatever its name
		"cmd/sidecar/main.go":                   "package main\n\nimport (\n\t_ \"example.com/dependency/deep/taken\"\n\t_ \"readthrough/internal/leaf\"\n)\n\nfunc main() {}\n",
		"internal/leaf/leaf.go":                 "package leaf\n",
		"internal/unused/LICENSE":               "of what the program does not contain",
		"dependency/go.mod":                     "module example.com/dependency\n",
		"dependency/COPYING":                    "theirs",
		"dependency/NOTICE.txt":                 "notice",
		"dependency/README.md":                  "see COPYING",
		"dependency/deep/taken/taken.go":        "package taken\n",
		"dependency/deep/taken/licence-mit.txt": "somebody's",
		"roots/go.mod":                          "module golang.org/x/crypto/x509roots/fallback\n",
		"roots/bundle/bundle.go":                "package bundle\n",
		"roots/LICENSE":                         "of the data",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	found, err := licenses(t.Context(), "arm64")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.name+": "+string(f.data))
	}
	slices.Sort(got)
	if want := []string{
		"licenses/LICENSE: ours",
		"licenses/example.com/dependency/COPYING: theirs",
		"licenses/example.com/dependency/NOTICE.txt: notice",
		"licenses/example.com/dependency/deep/taken/licence-mit.txt: somebody's",
		"licenses/golang.org/x/crypto/x509roots/fallback/LICENSE: of the data",
	}; !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	if err := errors.Join(os.Remove("dependency/COPYING"), os.Remove("dependency/NOTICE.txt"), os.Remove("dependency/deep/taken/licence-mit.txt")); err != nil {
		t.Fatal(err)
	}
	if _, err := licenses(t.Context(), "arm64"); err == nil || !strings.Contains(err.Error(), "example.com/dependency/deep/taken has no license file") {
		t.Errorf("without a license: %v", err)
	}
}

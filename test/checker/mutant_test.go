package checker

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutation is a sidecar with a rule broken: a program built from this module with a few words of its source changed.
type mutation struct {
	name  string
	edits []edit
}

// edit replaces a text, which must be there exactly once, in a file of the module.
type edit struct {
	file     string // from the module's root
	old, new string
}

// build builds the mutated sidecar and returns its path. The sources stay as they are: an overlay takes the place of the changed files.
func (m mutation) build(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay, err := m.overlay(root, dir)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "sidecar")
	command := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-overlay", overlay, "-o", binary, "readthrough/cmd/sidecar")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build the mutation %q: %v\n%s", m.name, err, out)
	}
	return binary
}

// overlay writes the changed files, and the list of them that the compiler wants.
func (m mutation) overlay(root, dir string) (string, error) {
	changed := map[string]string{} // text by file
	for _, e := range m.edits {
		text, ok := changed[e.file]
		if !ok {
			source, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return "", err
			}
			text = string(source)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("mutation %q: %s has the text to replace %d times, and not once:\n%s", m.name, e.file, n, e.old)
		}
		changed[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	replace := map[string]string{}
	for file, text := range changed {
		copied := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = copied
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}

func TestMutationThatDoesNotFit(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.go"), []byte("one two two"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		edits []edit
		want  string // in the error; empty: none
	}{
		{[]edit{{"a.go", "one", "1"}}, ""},
		{[]edit{{"a.go", "one", "three"}, {"a.go", "three", "1"}}, ""},
		{[]edit{{"a.go", "two", "2"}}, "2 times"},
		{[]edit{{"a.go", "three", "3"}}, "0 times"},
		{[]edit{{"b.go", "one", "1"}}, "no such file"},
	} {
		_, err := mutation{"m", c.edits}.overlay(root, t.TempDir())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: %v, want %q", c.edits, err, c.want)
		}
	}
}

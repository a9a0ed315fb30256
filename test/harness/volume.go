package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Volume is a folder as a kubelet mounts a ConfigMap or a Secret: each file is a link through ..data into the folder of one version, and an
// update replaces ..data in one step and then removes the version before.
type Volume struct {
	dir     string
	version string
}

// NewVolume makes a volume of some files, by name, in a folder that need not exist.
func NewVolume(t testing.TB, dir string, files map[string]string) *Volume {
	t.Helper()
	v := &Volume{dir: dir}
	err := os.MkdirAll(dir, 0o755)
	for name := range files {
		err = errors.Join(err, os.Symlink(filepath.Join("..data", name), v.Path(name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	v.Update(t, files)
	return v
}

// Path is where a file is found.
func (v *Volume) Path(name string) string { return filepath.Join(v.dir, name) }

// Update puts files of the same names in the place of those before.
func (v *Volume) Update(t testing.TB, files map[string]string) {
	t.Helper()
	if err := v.update(files); err != nil {
		t.Fatal(fmt.Errorf("update %s: %w", v.dir, err))
	}
}

func (v *Volume) update(files map[string]string) error {
	next, err := os.MkdirTemp(v.dir, "..version-")
	if err != nil {
		return err
	}
	if err := os.Chmod(next, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(next, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	link := v.Path("..data_tmp")
	if err := os.Symlink(filepath.Base(next), link); err != nil {
		return err
	}
	if err := os.Rename(link, v.Path("..data")); err != nil {
		return err
	}
	before := v.version
	v.version = next
	if before == "" {
		return nil
	}
	return os.RemoveAll(before)
}

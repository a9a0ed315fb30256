package harness

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestFolderForAnotherUserIsReachable(t *testing.T) {
	owner, err := unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", closed)
	f, err := newFolder(owner)
	if err != nil {
		t.Fatal(err)
	}
	defer f.remove()
	if owner != nil && strings.HasPrefix(f.path, closed) {
		t.Errorf("%s cannot be reached by user %d", f.path, owner.Uid)
	}
}

func TestAbandonedFoldersAreRemoved(t *testing.T) {
	place := t.TempDir()
	abandoned := place + "/" + folderPrefix + "1"
	used := place + "/" + folderPrefix + "2"
	foreign := place + "/another"
	for _, path := range []string{abandoned, used, foreign} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := lockFolder(used)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	removeAbandoned(place, 0)
	if _, err := os.Stat(abandoned); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the abandoned folder: %v", err)
	}
	for _, path := range []string{used, foreign} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

package harness

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// folder is a temporary folder. The process that made it holds a lock on it, which the kernel drops when that process ends: so
// what a killed process left behind can be told from what is in use.
type folder struct {
	path string
	lock *os.File
}

const folderPrefix = "readthrough-harness-"

// newFolder makes a folder that a user, nil for the caller's own, owns and can reach: the usual place for temporary folders may
// lie under one that is closed to others. Its path is short enough for a unix socket in it.
func newFolder(owner *syscall.Credential) (folder, error) {
	const longest = 50 // of the 107 bytes of a socket's path
	for _, place := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if len(place) > longest || owner != nil && !openToAll(place) {
			continue
		}
		sweep(place)
		path, err := os.MkdirTemp(place, folderPrefix)
		if err != nil {
			continue
		}
		f := folder{path: path}
		f.lock, err = lockFolder(path)
		if err = errors.Join(err, giveAway(path, owner)); err != nil {
			f.remove()
			return folder{}, err
		}
		return f, nil
	}
	return folder{}, errors.New("no temporary folder that every user can reach: set TMPDIR to one, such as /tmp")
}

func (f folder) join(name string) string { return filepath.Join(f.path, name) }

// remove removes the folder with all in it; the zero folder is none.
func (f folder) remove() {
	if f.path != "" {
		_ = os.RemoveAll(f.path)
	}
	if f.lock != nil {
		_ = f.lock.Close()
	}
}

func lockFolder(path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// swept are the places where this process has looked already.
var swept sync.Map

// sweep removes, once per process, the folders of processes that were killed: a test that ran into its timeout, or the workers
// of "go test -fuzz". Those younger than a minute are left alone, as they may not be locked yet.
func sweep(place string) {
	if _, done := swept.LoadOrStore(place, true); !done {
		removeAbandoned(place, time.Minute)
	}
}

func removeAbandoned(place string, age time.Duration) {
	found, _ := filepath.Glob(filepath.Join(place, folderPrefix+"*")) // the pattern is good
	for _, path := range found {
		info, err := os.Stat(path)
		if err != nil || time.Since(info.ModTime()) < age {
			continue
		}
		if lock, err := lockFolder(path); err == nil {
			folder{path, lock}.remove()
		}
	}
}

// openToAll says whether every user may pass through a folder and those above it.
func openToAll(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

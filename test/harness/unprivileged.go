package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// unprivileged is the user that runs the servers which refuse to run as root: nil, the caller's own, unless that is root.
// Then it is "postgres", which Debian's packages create.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL and PgBouncer refuse to run as root, and there is no user to run them as: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

// folderFor makes a temporary folder that a user can reach: the usual place for them may lie under a folder that is closed to
// others. The path is short enough for a unix socket in it.
func folderFor(owner *syscall.Credential, pattern string) (string, error) {
	const longest = 60 // of the 107 bytes of a socket's path
	for _, place := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if len(place) > longest || owner != nil && !openToAll(place) {
			continue
		}
		dir, err := os.MkdirTemp(place, pattern)
		if err != nil {
			continue
		}
		return dir, giveAway(dir, owner)
	}
	return "", errors.New("no temporary folder that every user can reach: set TMPDIR to one, such as /tmp")
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

// giveAway changes the owner of a folder and of all in it; nil leaves it.
func giveAway(dir string, owner *syscall.Credential) error {
	if owner == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}

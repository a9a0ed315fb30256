package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// stateDir keeps the last good configuration of each file, so that a restart with a bad file finds it. The empty one
// keeps nothing.
type stateDir string

// path is where the copy of a configuration file is kept.
func (s stateDir) path(config string) string {
	if absolute, err := filepath.Abs(config); err == nil {
		config = absolute
	}
	sum := sha256.Sum256([]byte(config))
	return filepath.Join(string(s), "config-"+hex.EncodeToString(sum[:8])+".yaml")
}

// save replaces the copy of the configuration file.
func (s stateDir) save(config string, raw []byte) error {
	if s == "" {
		return nil
	}
	if err := os.MkdirAll(string(s), 0o700); err != nil {
		return err
	}
	if err := s.trusted(); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(string(s), "new-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(raw)
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), s.path(config))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}

// load gives the copy of the configuration file; the error is fs.ErrNotExist where there is none.
func (s stateDir) load(config string) ([]byte, error) {
	if s == "" {
		return nil, fs.ErrNotExist
	}
	if err := s.trusted(); err != nil {
		return nil, err
	}
	return os.ReadFile(s.path(config))
}

// trusted refuses a directory in which another user could have put a configuration: the default one lies in a folder
// where everybody may create files.
func (s stateDir) trusted() error {
	info, err := os.Stat(string(s))
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", s)
	case ok && int(owner.Uid) != os.Geteuid() && owner.Uid != 0:
		return fmt.Errorf("%s belongs to another user: choose a directory with --state-dir", s)
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("%s may be written by everybody: choose a directory with --state-dir", s)
	}
	return nil
}

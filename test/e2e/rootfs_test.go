//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// rootfs is the file tree of an image that is being made of programs of this machine.
type rootfs string

// shared finds the libraries in what ldd prints, the loader included.
var shared = regexp.MustCompile(`(?m)(?:=>\s+|^\s+)(/\S+)`)

// add copies a file to its own place. What it links to is copied under its name.
func (r rootfs) add(path string) error {
	target := filepath.Join(string(r), path)
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o644|info.Mode().Perm()&0o111)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// addPrograms copies programs, or libraries, with the libraries that they need.
func (r rootfs) addPrograms(ctx context.Context, paths ...string) error {
	for _, path := range paths {
		libraries, err := exec.CommandContext(ctx, "ldd", path).CombinedOutput()
		if err != nil && !bytes.Contains(libraries, []byte("not a dynamic executable")) {
			return fmt.Errorf("ldd %s: %w\n%s", path, err, libraries)
		}
		if bytes.Contains(libraries, []byte("not found")) {
			return fmt.Errorf("%s: a library is missing on this machine:\n%s", path, libraries)
		}
		if err := r.add(path); err != nil {
			return err
		}
		for _, found := range shared.FindAllSubmatch(libraries, -1) {
			if err := r.add(string(found[1])); err != nil {
				return err
			}
		}
	}
	return nil
}

// addTree copies the files below a folder that keep says yes to, programs and libraries with what they need.
func (r rootfs) addTree(ctx context.Context, folder string, keep func(path string) bool) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !keep(path) && entry.IsDir():
			return fs.SkipDir
		case !keep(path) || entry.IsDir():
			return nil
		case entry.Type()&fs.ModeSymlink != 0:
			if info, err := os.Stat(path); err != nil || info.IsDir() {
				return nil // a link to what another package would have, or to a folder
			}
		}
		if strings.Contains(path, ".so") || filepath.Base(filepath.Dir(path)) == "bin" {
			return r.addPrograms(ctx, path)
		}
		return r.add(path)
	})
}

// write makes a file.
func (r rootfs) write(path, content string) error {
	target := filepath.Join(string(r), path)
	return errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, []byte(content), 0o644))
}

// goProgram builds a program of this repository to a path in the image; in is the repository's folder.
func (r rootfs) goProgram(ctx context.Context, in, pkg, path string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(string(r), path), pkg)
	build.Dir = in
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// digest names what is in the tree, so that a node does not take another image of the same name for it.
func (r rootfs) digest() (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(string(r), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		fmt.Fprintf(sum, "%s\x00", strings.TrimPrefix(path, string(r)))
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(sum, file)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:6]), err
}

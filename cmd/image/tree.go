package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sizeLimit bounds the files of one platform's image. Each pod's node has to fetch it before the pod starts, and nothing in
// the design needs more.
const sizeLimit = 25 << 20

// The user that the program runs as; the chart and the injector know the number too. Its name is the one that other
// images without a shell have made usual.
const (
	passwd = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
	group  = "root:x:0:\nnonroot:x:65532:\n"
	user   = "65532:65532"
)

// file is a file or a folder in the image. Everything belongs to root, so that the program's user can change nothing.
type file struct {
	name string // without a slash at its ends
	mode fs.FileMode
	data []byte
}

// tree lists what is in the image, each folder ahead of what is in it.
func tree(program []byte, licenses []file) ([]file, error) {
	roots, err := roots()
	if err != nil {
		return nil, err
	}
	files := append([]file{
		{name: "sidecar", mode: 0o755, data: program},
		{name: "etc/passwd", mode: 0o644, data: []byte(passwd)},
		{name: "etc/group", mode: 0o644, data: []byte(group)},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: roots}, // the first place where Go looks
	}, licenses...)
	folders := map[string]bool{}
	for _, f := range files {
		for dir := path.Dir(f.name); dir != "." && !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
			files = append(files, file{name: dir, mode: fs.ModeDir | 0o755})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	if n := size(files); n > sizeLimit {
		return nil, fmt.Errorf("the image's files take %s, over the limit of %s; the program alone takes %s: "+
			"see what it has come to depend on, or raise sizeLimit in cmd/image with a reason",
			mebibytes(n), mebibytes(sizeLimit), mebibytes(int64(len(program))))
	}
	return files, nil
}

func size(files []file) (n int64) {
	for _, f := range files {
		n += int64(len(f.data))
	}
	return n
}

// unpack writes files into a folder, which must be empty or not be there yet: what else is in it would be taken for the image's.
func unpack(files []file, folder string, date time.Time) error {
	switch found, err := os.ReadDir(folder); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case len(found) > 0:
		return fmt.Errorf("%s is not empty: remove what is in it first", folder)
	}
	files = slices.Concat([]file{{name: ".", mode: fs.ModeDir | 0o755}}, files)
	for _, f := range files {
		to := filepath.Join(folder, filepath.FromSlash(f.name))
		var err error
		if f.mode.IsDir() {
			err = os.MkdirAll(to, 0o755)
		} else {
			err = os.WriteFile(to, f.data, 0o644)
		}
		if err == nil {
			err = os.Chmod(to, f.mode.Perm()) // whatever the umask is
		}
		if err != nil {
			return err
		}
	}
	for _, f := range slices.Backward(files) { // a folder's time changes with what is put into it
		if err := os.Chtimes(filepath.Join(folder, filepath.FromSlash(f.name)), date, date); err != nil {
			return err
		}
	}
	return nil
}

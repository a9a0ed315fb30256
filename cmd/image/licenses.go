package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// licenseName is how the files are called that have to go with a program that is passed on.
var licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// listed is what "go list" says of a package.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool // of the Go distribution, whose license is word for word that of golang.org/x/sys
	Module     *struct {
		Path string
		Dir  string
		Main bool
	}
}

// licenses gives the license files of this module, and of every module whose code is in the program or whose data is in the
// image: most licenses ask for it. Packages that were taken from elsewhere have their own beside them.
func licenses(ctx context.Context, arch string) ([]file, error) {
	var stderr bytes.Buffer
	list := exec.CommandContext(ctx, "go", "list", "-deps", "-json=ImportPath,Dir,Standard,Module",
		program, "golang.org/x/crypto/x509roots/fallback/bundle")
	list.Env = target(arch)
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(list.Args, " "), err, stderr.Bytes())
	}
	var files []file
	looked := map[string]bool{}   // folders
	licensed := map[string]bool{} // modules: whether a license was found
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if p.Standard || p.Module == nil {
			continue
		}
		to := path.Join("licenses", p.Module.Path)
		if p.Module.Main {
			to = "licenses"
		}
		for dir := p.Dir; ; dir = filepath.Dir(dir) {
			if !looked[dir] {
				looked[dir] = true
				below, err := filepath.Rel(p.Module.Dir, dir)
				if err != nil {
					return nil, err
				}
				found, err := licensesIn(dir, path.Join(to, filepath.ToSlash(below)))
				if err != nil {
					return nil, err
				}
				files = append(files, found...)
				licensed[p.Module.Path] = licensed[p.Module.Path] || len(found) > 0
			}
			if dir == p.Module.Dir {
				break
			}
		}
		if !licensed[p.Module.Path] {
			return nil, fmt.Errorf("%s has no license file in %s, and so may not be passed on", p.ImportPath, p.Module.Dir)
		}
	}
	return files, nil
}

// licensesIn gives the license files in a folder, by the names that they have in the image.
func licensesIn(dir, to string) ([]file, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, f := range found {
		if !f.Type().IsRegular() || !licenseName.MatchString(f.Name()) || strings.HasSuffix(f.Name(), ".go") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: path.Join(to, f.Name()), mode: 0o644, data: data})
	}
	return files, nil
}

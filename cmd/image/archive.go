package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// archive makes the OCI archive.
func archive(ctx context.Context, out io.Writer, path, as string, s stamp, build []string) error {
	tag, err := parseName(as)
	if err != nil {
		return err
	}
	index, err := buildIndex(ctx, s, build)
	if err != nil {
		return err
	}
	if err := save(index, tag, path, s.date); err != nil {
		return err
	}
	what, err := describe(index)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s %s\n", path, tag, what)
	return nil
}

// parseName reads a complete name of an image: a short one would mean one registry here, and another where somebody loads it.
func parseName(s string) (name.Tag, error) {
	const example = "registry.example.com/readthrough:v1.2.3"
	if s == "" {
		return name.Tag{}, fmt.Errorf("name the registry, the repository and the tag: IMAGE=%s", example)
	}
	tag, err := name.NewTag(s, name.StrictValidation)
	if err != nil {
		return name.Tag{}, fmt.Errorf("IMAGE=%s is not a registry, a repository and a tag, such as %s: %s", s, example, strings.TrimRight(err.Error(), ": "))
	}
	return tag, nil
}

// save writes an OCI image layout as a tar archive. Docker without containerd's image store does not know the layout, and looks for a
// manifest.json of its own; that file cannot say that an image has platforms, so it has a name for each.
func save(index v1.ImageIndex, tag name.Tag, path string, date time.Time) error {
	dir, err := os.MkdirTemp("", "readthrough-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	files, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	err = files.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag.TagStr(),
		"io.containerd.image.name":          tag.String(), // which containerd and Docker take for the name
	}))
	if err != nil {
		return err
	}
	legacy, err := dockerManifest(index, tag)
	if err != nil {
		return err
	}
	if err := files.WriteFile("manifest.json", legacy, 0o644); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".image-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // which is not there any more, unless something failed
	err = errors.Join(tarFolder(f, dir, date), f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// dockerManifest lists the images for Docker's older store.
func dockerManifest(index v1.ImageIndex, tag name.Tag) ([]byte, error) {
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	blob := func(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, m := range manifest.Manifests {
		image, err := index.Image(m.Digest)
		if err != nil {
			return nil, err
		}
		contents, err := image.Manifest()
		if err != nil {
			return nil, err
		}
		e := entry{Config: blob(contents.Config.Digest), RepoTags: []string{tag.String() + "-" + m.Platform.Architecture}}
		for _, l := range contents.Layers {
			e.Layers = append(e.Layers, blob(l.Digest))
		}
		entries = append(entries, e)
	}
	return json.Marshal(entries)
}

// tarFolder writes the files of a folder, in the order of their names.
func tarFolder(to io.Writer, dir string, date time.Time) error {
	w := tar.NewWriter(to)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		inside, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		header := tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(inside), Mode: 0o644, Size: int64(len(data)), ModTime: date}
		if err := w.WriteHeader(&header); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	return errors.Join(err, w.Close())
}

package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// The build that the tests make, and what it is called.
var (
	testStamp = stamp{version: "v1.2.3-test", commit: "0123456789abcdef0123456789abcdef01234567", date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	stampArgs = []string{"VERSION=" + testStamp.version, "COMMIT=" + testStamp.commit, "DATE=" + testStamp.date.Format(time.RFC3339)}
)

const testName = "registry.example.com/team/readthrough:v1.2.3"

// scratch is a folder for what several tests use.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "readthrough-image-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// runMake runs make in a folder as a person would, and gives all that it printed.
func runMake(ctx context.Context, dir string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "make", args...)
	c.Dir = dir
	// What an outer make tells of itself is not for this one.
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") || strings.HasPrefix(v, "SOURCE_DATE_EPOCH=")
	})
	out, err := c.CombinedOutput()
	return string(out), err
}

// makeImage is "make image" in this module, which is made once: what it printed, and the archive.
var makeImage = sync.OnceValues(func() (made struct{ output, archive string }, err error) {
	bin := filepath.Join(scratch, "bin")
	made.archive = filepath.Join(bin, "readthrough.tar")
	made.output, err = runMake(context.Background(), "../..", slices.Concat([]string{"image", "BIN=" + bin, "IMAGE=" + testName}, stampArgs)...)
	if err != nil {
		err = fmt.Errorf("make image: %w\n%s", err, made.output)
	}
	return made, err
})

// theArchive is the archive that "make image" makes.
func theArchive(t *testing.T) string {
	t.Helper()
	made, err := makeImage()
	if err != nil {
		t.Fatal(err)
	}
	return made.archive
}

// unpacked is the archive's folder, an OCI image layout.
var unpacked = sync.OnceValues(func() (layout.Path, error) {
	made, err := makeImage()
	if err != nil {
		return "", err
	}
	f, err := os.Open(made.archive)
	if err != nil {
		return "", err
	}
	defer f.Close()
	all, err := entries(f)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(scratch, "layout")
	for _, e := range all {
		to := filepath.Join(dir, e.header.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, e.data, 0o644)); err != nil {
			return "", err
		}
	}
	return layout.FromPath(dir)
})

// theIndex is what the archive holds.
func theIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	dir, err := unpacked()
	if err != nil {
		t.Fatal(err)
	}
	top, err := dir.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("the archive holds %d images, want one of several platforms", len(manifest.Manifests))
	}
	for k, want := range map[string]string{"org.opencontainers.image.ref.name": "v1.2.3", "io.containerd.image.name": testName} {
		if got := manifest.Manifests[0].Annotations[k]; got != want {
			t.Errorf("where the image is loaded, %s is %q, want %q", k, got, want)
		}
	}
	index, err := top.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// theImage is one platform's.
func theImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	index := theIndex(t)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range manifest.Manifests {
		if m.Platform.Architecture == arch {
			image, err := index.Image(m.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return image
		}
	}
	t.Fatalf("there is no image for %s", arch)
	return nil
}

// entry is one of a tar archive.
type entry struct {
	header *tar.Header
	data   []byte
}

func entries(r io.Reader) ([]entry, error) {
	var all []entry
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		all = append(all, entry{h, data})
	}
}

// layers keeps what theEntries has read.
var layers = map[string][]entry{}

// theEntries are those of the only layer of a platform's image.
func theEntries(t *testing.T, arch string) []entry {
	t.Helper()
	if all, ok := layers[arch]; ok {
		return all
	}
	found, err := theImage(t, arch).Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 {
		t.Fatalf("%d layers, want 1", len(found))
	}
	r, err := found[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := entries(r)
	if err != nil {
		t.Fatal(err)
	}
	layers[arch] = all
	return all
}

// find gives the contents of a file in the image.
func find(t *testing.T, all []entry, name string) []byte {
	t.Helper()
	for _, e := range all {
		if e.header.Name == name {
			return e.data
		}
	}
	t.Fatalf("%s is not in the image", name)
	return nil
}

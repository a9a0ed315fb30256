package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// labels are on the image, and again as annotations where the format has those.
func labels(s stamp) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "readthrough",
		"org.opencontainers.image.description": "A Redis sidecar that reads through to PostgreSQL",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     s.version,
		"org.opencontainers.image.revision":    s.commit,
		"org.opencontainers.image.created":     s.date.Format(time.RFC3339),
	}
}

// buildIndex builds the images of all platforms.
func buildIndex(ctx context.Context, s stamp, build []string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range platforms {
		files, err := built(ctx, arch, build)
		if err != nil {
			return nil, err
		}
		image, err := buildImage(files, arch, s)
		if err != nil {
			return nil, fmt.Errorf("linux/%s: %w", arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return mutate.Annotations(index, labels(s)).(v1.ImageIndex), nil
}

// buildImage makes the image of one platform: a single layer, as nothing in it outlives a version.
func buildImage(files []file, arch string, s stamp) (v1.Image, error) {
	layer, err := pack(files, s.date)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: s.date}
	image, err := mutate.ConfigFile(
		mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		&v1.ConfigFile{
			OS:           "linux",
			Architecture: arch,
			Created:      created,
			RootFS:       v1.RootFS{Type: "layers"},
			Config: v1.Config{
				Entrypoint: []string{"/sidecar"},
				User:       user,
				WorkingDir: "/",
				Labels:     labels(s),
			},
		})
	if err != nil {
		return nil, err
	}
	image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{Created: created, CreatedBy: "make image"}})
	if err != nil {
		return nil, err
	}
	return mutate.Annotations(image, labels(s)).(v1.Image), nil
}

// pack makes a layer of files. The same files give the same bytes.
func pack(files []file, date time.Time) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, f := range files {
		header := tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: int64(f.mode.Perm()), Size: int64(len(f.data)), ModTime: date}
		if f.mode.IsDir() {
			header.Typeflag, header.Name = tar.TypeDir, f.name+"/"
		}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithCompressedCaching)
}

// describe says what an index is and holds.
func describe(index v1.ImageIndex) (string, error) {
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return "", err
	}
	var each []string
	for _, m := range manifest.Manifests {
		image, err := index.Image(m.Digest)
		if err != nil {
			return "", err
		}
		layers, err := image.Layers()
		if err != nil {
			return "", err
		}
		var bytes int64
		for _, l := range layers {
			n, err := l.Size()
			if err != nil {
				return "", err
			}
			bytes += n
		}
		each = append(each, fmt.Sprintf("%s: %s to fetch", m.Platform, mebibytes(bytes)))
	}
	return fmt.Sprintf("%s (%s)", digest, strings.Join(each, ", ")), nil
}

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// pushTo pushes images of one layer to a registry, with what "docker login" left behind as credentials.
func pushTo(registry string) loader {
	return func(ctx context.Context, repository string, tree rootfs, command ...string) (string, error) {
		digest, err := tree.digest()
		if err != nil {
			return "", err
		}
		ref, err := name.ParseReference(registry + "/" + repository + ":" + digest)
		if err != nil {
			return "", fmt.Errorf("E2E_REGISTRY: %w", err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return tree.tar(ctx) })
		if err != nil {
			return "", err
		}
		image, err := mutate.AppendLayers(empty.Image, layer)
		if err != nil {
			return "", err
		}
		config, err := image.ConfigFile()
		if err != nil {
			return "", err
		}
		config.OS, config.Architecture = "linux", runtime.GOARCH
		config.Config = v1.Config{Entrypoint: command, Env: []string{"PATH=/usr/bin:/bin"}}
		if image, err = mutate.ConfigFile(image, config); err != nil {
			return "", err
		}
		if err := remote.Write(ref, image, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return "", fmt.Errorf("push %s: %w", ref, err)
		}
		return ref.String(), nil
	}
}

// makePush pushes the product's image as people do.
func makePush(root, registry string) loader {
	return func(ctx context.Context, repository string, tree rootfs, _ ...string) (string, error) {
		digest, err := tree.digest()
		if err != nil {
			return "", err
		}
		name := registry + "/" + repository + ":" + digest
		_, err = command(ctx, "", "make", "-s", "-C", root, "push", "IMAGE="+name)
		return name, err
	}
}

// tar is the tree as an archive that is root's.
func (r rootfs) tar(ctx context.Context) (io.ReadCloser, error) {
	c := exec.CommandContext(ctx, "tar", "-C", string(r), "--sort=name", "--mtime=@0", "--numeric-owner", "--owner=0", "--group=0", "-c", ".")
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return &tarred{ReadCloser: out, wait: c.Wait}, nil
}

// tarred is the output of tar; closing it waits for tar.
type tarred struct {
	io.ReadCloser
	wait func() error
}

func (t *tarred) Close() error {
	if _, err := io.Copy(io.Discard, t.ReadCloser); err != nil {
		return err
	}
	return t.wait()
}

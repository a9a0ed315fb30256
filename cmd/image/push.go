package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// push builds the image and puts it into a registry, with the credentials that "docker login" or "podman login" has left.
func push(ctx context.Context, out io.Writer, to string, s stamp, build []string) error {
	tag, err := parseName(to) // ahead of the build, which takes longer
	if err != nil {
		return err
	}
	index, err := buildIndex(ctx, s, build)
	if err != nil {
		return err
	}
	if err := upload(ctx, tag, index); err != nil {
		return err
	}
	what, err := describe(index)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "pushed %s %s\n", tag, what)
	return nil
}

func upload(ctx context.Context, tag name.Tag, index v1.ImageIndex) error {
	err := remote.WriteIndex(tag, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if refused, ok := errors.AsType[*transport.Error](err); ok &&
		(refused.StatusCode == http.StatusUnauthorized || refused.StatusCode == http.StatusForbidden) {
		return fmt.Errorf("%s may not be pushed: log in first, such as by \"docker login %s\": %w", tag, tag.RegistryStr(), err)
	}
	if err != nil {
		return fmt.Errorf("push %s: %w", tag, err)
	}
	return nil
}

package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// startRegistry starts a registry that keeps what it gets, and gives its host and port.
func startRegistry(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	s := httptest.NewServer(wrap(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// onlyFor lets one user in.
func onlyFor(user, password string) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

// The registry gets the image that is in the archive, by the credentials that a login leaves.
func TestPush(t *testing.T) {
	host := startRegistry(t, onlyFor("somebody", "secret"))
	docker := t.TempDir()
	t.Setenv("DOCKER_CONFIG", docker)
	login := `{"auths": {"` + host + `": {"username": "somebody", "password": "secret"}}}`
	if err := os.WriteFile(filepath.Join(docker, "config.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	image := host + "/team/readthrough:v1.2.3"
	out, err := runMake(t.Context(), "../..", slices.Concat([]string{"push", "IMAGE=" + image}, stampArgs)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tag, err := name.NewTag(image)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag, remote.WithAuth(&authn.Basic{Username: "somebody", Password: "secret"}), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index, validate.Fast); err != nil { // the digest says the rest
		t.Error(err)
	}
	got, want := digestOf(t, index), digestOf(t, theIndex(t))
	if got != want {
		t.Errorf("the registry has %s, the archive %s", got, want)
	}
	if !strings.Contains(out, "pushed "+image+" "+got) {
		t.Errorf("make push does not say what it pushed: %s", out)
	}
}

func TestPushRefused(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	small, err := random.Index(64, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	locked := startRegistry(t, onlyFor("somebody", "secret"))
	nobody := startRegistry(t, func(http.Handler) http.Handler { return http.NotFoundHandler() })
	for _, c := range []struct{ image, want string }{
		{locked + "/team/readthrough:v1", `log in first, such as by "docker login ` + locked + `"`},
		{nobody + "/team/readthrough:v1", "push " + nobody + "/team/readthrough:v1: "},
	} {
		tag, err := parseName(c.image)
		if err != nil {
			t.Fatal(err)
		}
		err = upload(t.Context(), tag, small)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("push to %s: %v, want %q", c.image, err, c.want)
		}
	}
}

// What is wrong with the name is said at once, before anything is built.
func TestPushNames(t *testing.T) {
	const example = "registry.example.com/readthrough:v1.2.3"
	for _, c := range []struct{ image, want string }{
		{"", "name the registry, the repository and the tag: IMAGE=" + example},
		{"registry.example.com/readthrough", "IMAGE=registry.example.com/readthrough is not a registry, a repository and a tag, such as " + example + ": tag must be"},
		{"readthrough:v1", "IMAGE=readthrough:v1 is not a registry, a repository and a tag, such as " + example + ": strict validation requires the registry"},
		{"localhost:5000/Readthrough:v1", "repository can only contain"},
	} {
		out, err := runMake(t.Context(), "../..", "push", "IMAGE="+c.image, "GO=go")
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("make push IMAGE=%s: %v, want %q\n%s", c.image, err, c.want, out)
		}
		if strings.Contains(out, "linux/") {
			t.Errorf("make push IMAGE=%s builds first:\n%s", c.image, out)
		}
	}
	if out, err := runMake(t.Context(), "../..", "push"); err == nil || !strings.Contains(out, "IMAGE="+example) {
		t.Errorf("make push: %v\n%s", err, out)
	}
}

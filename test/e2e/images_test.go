//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// images are the names under which the cluster has what runs in it.
type images struct {
	sidecar  string
	older    string // a sidecar from before
	app      string
	redis    string
	postgres string

	program string // the sidecar's program, a file of this machine
}

// loader brings an image into the cluster and gives its full name. The first word of the command is its entrypoint.
type loader func(ctx context.Context, name string, tree rootfs, command ...string) (string, error)

// newLoader is the one that the environment asks for, and the one for the product's own image, which may have a way of its own.
func newLoader(root string) (load, loadSidecar loader, err error) {
	by, registry := os.Getenv("E2E_LOAD"), os.Getenv("E2E_REGISTRY")
	switch {
	case by != "" && registry != "":
		return nil, nil, errors.New("E2E_LOAD and E2E_REGISTRY are both set: say one way for images to get into the cluster")
	case by != "":
		return loadBy(by), loadBy(by), nil
	case registry != "":
		return pushTo(registry), makePush(root, registry), nil
	}
	return nil, nil, errors.New(`no way for images to get into the cluster. Set one of these:
  E2E_LOAD      a command that is called with NAME:TAG ROOTFS ENTRYPOINT ARG... and makes the folder ROOTFS an image on every node
  E2E_REGISTRY  a registry, with a path if it wants one, to which this machine may push and from which the nodes pull`)
}

// loadBy loads with a command. Names have a host that no registry has: what is not there must not be looked for elsewhere.
func loadBy(load string) loader {
	return func(ctx context.Context, name string, tree rootfs, args ...string) (string, error) {
		digest, err := tree.digest()
		if err != nil {
			return "", err
		}
		name = "readthrough.invalid/" + name + ":" + digest
		_, err = command(ctx, "", "sh", append([]string{"-c", load + ` "$@"`, "E2E_LOAD", name, string(tree)}, args...)...)
		return name, err
	}
}

// makeImages builds all images and brings them into the cluster.
func makeImages(t testing.TB) (made images) {
	t.Helper()
	ctx, root := t.Context(), repository(t)
	load, loadSidecar, err := newLoader(root)
	must(t, err)
	for _, image := range []struct {
		name    string
		to      *string
		command []string
		build   func(rootfs) error
	}{
		{"app", &made.app, []string{"/app"}, func(r rootfs) error { return r.goProgram(ctx, root, "./test/e2e/app", "/app") }},
		{"redis", &made.redis, []string{"redis-server"}, func(r rootfs) error { return redisImage(ctx, r) }},
		{"postgres", &made.postgres, []string{"postgres"}, func(r rootfs) error { return postgresImage(ctx, r) }},
		{"older", &made.older, []string{"/sidecar"}, func(r rootfs) error { return olderImage(ctx, root, t.TempDir(), r) }},
		{"sidecar", &made.sidecar, []string{"/sidecar"}, func(r rootfs) error {
			made.program = filepath.Join(string(r), "sidecar")
			return sidecarImage(ctx, root, r)
		}},
	} {
		tree := rootfs(filepath.Join(t.TempDir(), "rootfs"))
		must(t, os.Mkdir(string(tree), 0o755))
		if err := image.build(tree); err != nil {
			t.Fatalf("image %s: %v", image.name, err)
		}
		if image.to == &made.sidecar {
			load = loadSidecar
		}
		name, err := load(ctx, image.name, tree, image.command...)
		if err != nil {
			t.Fatalf("image %s: %v", image.name, err)
		}
		*image.to = name
		t.Logf("image %s", name)
	}
	return made
}

// repository is the folder of this module.
func repository(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	must(t, err)
	return root
}

// sidecarImage has the files of the product's own image.
func sidecarImage(ctx context.Context, root string, r rootfs) error {
	_, err := command(ctx, "", "make", "-s", "-C", root, "rootfs", "BIN="+filepath.Dir(string(r)))
	return err
}

// olderImage is the sidecar of an earlier revision: E2E_OLDER, else the last release, else the first one that the injector's probes suit.
func olderImage(ctx context.Context, root, source string, r rootfs) error {
	const find = `cd "$1"
revision=${E2E_OLDER:-$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null || git log --format=%H -S'"wait"' -- cmd/sidecar/probe.go | tail -n 1)}
git archive "${revision:?}" | tar -x -C "$2"`
	if _, err := command(ctx, "", "sh", "-ec", find, "sh", root, source); err != nil {
		return fmt.Errorf("an earlier revision of this repository is needed, by E2E_OLDER or from a clone that has its history: %w", err)
	}
	return r.goProgram(ctx, source, "./cmd/sidecar", "/sidecar")
}

// redisImage has a shell and what else the scripts of manifests/example run.
func redisImage(ctx context.Context, r rootfs) error {
	return r.addPrograms(ctx, "/bin/sh", "/usr/bin/redis-server", "/usr/bin/redis-cli", "/usr/bin/date", "/usr/bin/sleep", "/usr/bin/timeout")
}

// postgresImage has the newest PostgreSQL of this machine, its programs linked to /usr/bin, and the shell that initdb needs.
func postgresImage(ctx context.Context, r rootfs) error {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return errors.New("no /usr/lib/postgresql/*/bin/postgres: on Debian or Ubuntu, apt-get install postgresql")
	}
	home := filepath.Dir(filepath.Dir(slices.Max(found)))
	version := filepath.Base(home)
	unneeded := []string{filepath.Join(home, "lib/bitcode"), filepath.Join(home, "lib/llvmjit.so"), filepath.Join(home, "lib/pgxs")}
	kept := func(path string) bool { return !slices.Contains(unneeded, path) }
	for _, folder := range []string{filepath.Join(home, "lib"), "/usr/share/postgresql/" + version, "/usr/share/zoneinfo"} {
		if err := r.addTree(ctx, folder, kept); err != nil {
			return err
		}
	}
	if err := r.addPrograms(ctx, "/bin/sh"); err != nil {
		return err
	}
	for _, program := range []string{"postgres", "initdb", "pg_isready", "psql"} {
		path := filepath.Join(home, "bin", program)
		if err := r.addPrograms(ctx, path); err != nil {
			return err
		}
		link := filepath.Join(string(r), "usr/bin", program)
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(path, link)); err != nil {
			return err
		}
	}
	// The user is that of the images that manifests/example names; initdb wants it to have a name.
	return r.write("/etc/passwd", "postgres:x:999:999::/data:/bin/sh\n")
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// copied is a copy of this module, which is made once: of what a container engine gets to see of it.
var copied = sync.OnceValues(func() (string, error) {
	to := filepath.Join(scratch, "elsewhere", "copy")
	ignore, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		return "", err
	}
	everything := false
	for line := range strings.Lines(string(ignore)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if line == "*" {
			everything = true
			continue
		}
		path, kept := strings.CutPrefix(line, "!")
		if !everything || !kept || strings.ContainsAny(path, "*?[") {
			return "", fmt.Errorf(".dockerignore: this test knows * and then !PATH, not %q", line)
		}
		if err := copyTree(filepath.Join("../..", path), filepath.Join(to, path)); err != nil {
			return "", err
		}
	}
	return to, nil
})

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		return errors.Join(err, os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, data, info.Mode().Perm()))
	})
}

func theCopy(t *testing.T) string {
	t.Helper()
	dir, err := copied()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// makeRootfs runs, in the copy, what the Dockerfile runs to build.
var makeRootfs = sync.OnceValues(func() (string, error) {
	dir, err := copied()
	if err != nil {
		return "", err
	}
	d, err := readDockerfile()
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(d.build, func(in instruction) bool { return in.name == "RUN" && strings.HasPrefix(in.args, "make ") })
	if i < 0 {
		return "", errors.New("the Dockerfile does not run make")
	}
	c := exec.CommandContext(context.Background(), "sh", "-c", d.build[i].args)
	c.Dir = dir
	c.Env = slices.Concat(os.Environ(), stampArgs, []string{"TARGETARCH=" + runtime.GOARCH, "MAKEFLAGS="})
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", d.build[i].args, err, out)
	}
	return filepath.Join(dir, "bin", "rootfs"), nil
})

func copiedRootfs(t *testing.T) string {
	t.Helper()
	dir, err := makeRootfs()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// inRoot runs the program with a folder as its root, as the image's user and without an environment; or, where only the superuser
// may do that, as the caller.
func inRoot(t *testing.T, root string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), filepath.Join(root, "sidecar"), args...)
	if os.Geteuid() == 0 {
		c = exec.CommandContext(t.Context(), "/sidecar", args...)
		c.Dir = "/"
		c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	}
	c.Env = []string{}
	out, err := c.CombinedOutput()
	return string(out), err
}

// hostile has Go set in every way that makes other programs, also such as do not run here: some by variables, some by the file that "go env -w" writes.
func hostile(t *testing.T) {
	t.Helper()
	write := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, value := range map[string]string{
		"GOENV":              write("env", "GOEXPERIMENT=heapminimum512kib\nGOFIPS140=latest\nGOWORK=off\n"),
		"GOFLAGS":            "-tags=foo",
		"GOOS":               "js",
		"GOARCH":             "wasm",
		"GOWORK":             write("go.work", "go 1.26\n"),
		"GO_EXTLINK_ENABLED": "1",
		"GOAMD64":            "v3",
		"GOARM64":            "v9.0",
		"CGO_ENABLED":        "1",
		"TZ":                 "Pacific/Kiritimati",
	} {
		t.Setenv(name, value)
	}
}

// The same source gives the same bytes, wherever it lies, whether git knows it, and however Go is set.
func TestReproducible(t *testing.T) {
	bin, first := filepath.Join(t.TempDir(), "bin"), theArchive(t)
	hostile(t)
	out, err := runMake(t.Context(), theCopy(t), slices.Concat([]string{"image", "BIN=" + bin, "IMAGE=" + testName}, stampArgs)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	one, err1 := os.ReadFile(first)
	other, err2 := os.ReadFile(filepath.Join(bin, "readthrough.tar"))
	if err1 != nil || err2 != nil || !bytes.Equal(one, other) {
		t.Errorf("two builds of the same source differ: %d and %d bytes (%v, %v)", len(one), len(other), err1, err2)
	}
}

func TestRootfs(t *testing.T) { layersEqual(t, copiedRootfs(t), runtime.GOARCH) }

// instruction is one of a Dockerfile.
type instruction struct{ name, args string }

// dockerfile are the instructions of a Dockerfile's two stages.
type dockerfile struct{ build, final []instruction }

func readDockerfile() (dockerfile, error) {
	raw, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		return dockerfile{}, err
	}
	var stages [][]instruction
	text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(string(raw), "")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" {
			continue
		}
		if name == "FROM" {
			stages = append(stages, nil)
		}
		if len(stages) == 0 {
			return dockerfile{}, fmt.Errorf("the Dockerfile begins with %s", line)
		}
		last := &stages[len(stages)-1]
		*last = append(*last, instruction{name, strings.Join(strings.Fields(args), " ")})
	}
	if len(stages) != 2 {
		return dockerfile{}, fmt.Errorf("the Dockerfile has %d stages, this test knows two", len(stages))
	}
	return dockerfile{stages[0], stages[1]}, nil
}

// The Dockerfile's files are those of "make rootfs" (TestRootfs); everything else about its image is compared here.
func TestDockerfile(t *testing.T) {
	d, err := readDockerfile()
	if err != nil {
		t.Fatal(err)
	}
	config, err := theImage(t, platforms[0]).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	entrypoint, err := json.Marshal(config.Config.Entrypoint)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, in := range d.final {
		switch in.name {
		case "ARG": // of the labels
		case "LABEL":
			checkLabels(t, in.args)
		default:
			if before, twice := found[in.name]; twice {
				t.Errorf("%s twice: %s, %s", in.name, before, in.args)
			}
			found[in.name] = in.args
		}
	}
	want := map[string]string{
		"FROM":       "scratch",
		"COPY":       "--from=build /src/bin/rootfs/ /",
		"WORKDIR":    config.Config.WorkingDir,
		"USER":       config.Config.User,
		"ENTRYPOINT": string(entrypoint),
	}
	if !maps.Equal(found, want) {
		t.Errorf("the Dockerfile's image has\n%v\nwant\n%v", found, want)
	}

	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if from := d.build[0].args; version == nil || !strings.HasSuffix(from, " golang:"+string(version[1])+" AS build") {
		t.Errorf("the Dockerfile builds with %q, and go.mod asks for Go %s", from, version)
	}
	if !slices.Contains(d.build, instruction{"WORKDIR", "/src"}) {
		t.Error("the Dockerfile builds somewhere else than where it takes the files from")
	}
}

// checkLabels compares the labels of the Dockerfile with the image's; its arguments stand for the stamp.
func checkLabels(t *testing.T, args string) {
	t.Helper()
	got := map[string]string{}
	for _, m := range regexp.MustCompile(`([\w.]+)="([^"]*)"`).FindAllStringSubmatch(args, -1) {
		got[m[1]] = os.Expand(m[2], func(name string) string {
			for _, a := range stampArgs {
				if value, ok := strings.CutPrefix(a, name+"="); ok {
					return value
				}
			}
			return "?"
		})
	}
	if !maps.Equal(got, labels(testStamp)) {
		t.Errorf("the Dockerfile's labels are\n%v\nwant\n%v", got, labels(testStamp))
	}
}

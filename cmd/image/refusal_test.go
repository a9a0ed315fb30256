package main

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// copier is a build command that takes what is in a folder, by the name of the architecture, for the program that it has built.
func copier(dir string) []string {
	return []string{"sh", "-c", `cp "` + dir + `/$GOARCH" "$1"`} // its arguments are -o, the file and the package
}

// asBuilt is a build command that gives the programs of the archive once more.
func asBuilt(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	for _, arch := range platforms {
		if err := os.WriteFile(filepath.Join(dir, arch), find(t, theEntries(t, arch), "sidecar"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return copier(dir)
}

func TestRefusals(t *testing.T) {
	shell, err := os.ReadFile("/bin/sh") // which needs a dynamic loader, on every distribution that the tests run on
	if err != nil {
		t.Fatal(err)
	}
	amd64 := find(t, theEntries(t, "amd64"), "sidecar")
	programs := func(programs map[string][]byte) []string {
		dir := t.TempDir()
		for name, data := range programs {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return copier(dir)
	}
	host := runtime.GOARCH
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(t.TempDir(), "new")

	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "say what to make"},
		{"no such thing", []string{"container", "x", "y", "go"}, "say what to make"},
		{"no build command", []string{"rootfs", nowhere, host}, "say what to make"},
		{"a date", []string{"-date", "yesterday", "push", testName, "go"}, "-date: parsing time"},
		{"an architecture", []string{"rootfs", nowhere, "riscv64", "true"}, `there is no image for "riscv64", only for amd64 and arm64`},
		{
			"a build that fails",
			[]string{"rootfs", nowhere, host, "sh", "-c", "echo no compiler >&2; exit 3"},
			"exit status 3\nno compiler",
		},
		{"a build that makes nothing", []string{"rootfs", nowhere, host, "true"}, "no such file"},
		{
			"a program that is none",
			slices.Concat([]string{"rootfs", nowhere, host}, programs(map[string][]byte{host: []byte("#!/bin/sh\n")})),
			"it made no program for Linux",
		},
		{
			"a program for another machine",
			slices.Concat([]string{"rootfs", nowhere, "arm64"}, programs(map[string][]byte{"arm64": amd64})),
			"it made a program for EM_X86_64",
		},
		{
			"a program that needs libraries",
			slices.Concat([]string{"rootfs", nowhere, host}, programs(map[string][]byte{host: shell})),
			"needs a dynamic loader, which the image does not have",
		},
		{
			"a program that is too large",
			slices.Concat([]string{"archive", nowhere, testName}, programs(map[string][]byte{"amd64": slices.Concat(amd64, make([]byte, sizeLimit-len(amd64)))})),
			"over the limit of 25.0 MiB; the program alone takes 25.0 MiB",
		},
		{"a folder with something in it", slices.Concat([]string{"rootfs", full, host}, asBuilt(t)), full + " is not empty"},
		{"a name", []string{"archive", nowhere, "readthrough", "true"}, "IMAGE=readthrough is not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := run(t.Context(), c.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if _, err := os.Stat(nowhere); err == nil {
				t.Errorf("it made %s all the same", nowhere)
			}
		})
	}
}

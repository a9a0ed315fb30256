package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// program is the package that the image is for.
const program = "readthrough/cmd/sidecar"

// machines are what ELF calls the architectures.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// compile builds the program for an architecture.
func compile(ctx context.Context, arch string, build []string) ([]byte, error) {
	if !slices.Contains(platforms, arch) {
		return nil, fmt.Errorf("there is no image for %q, only for %s", arch, strings.Join(platforms, " and "))
	}
	dir, err := os.MkdirTemp("", "readthrough-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sidecar")
	command := slices.Concat(build, []string{"-o", path, program})
	compiler := exec.CommandContext(ctx, command[0], command[1:]...)
	compiler.Env = target(arch)
	if output, err := compiler.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("linux/%s: %s: %w\n%s", arch, strings.Join(command, " "), err, output)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := runsAlone(binary, arch); err != nil {
		return nil, fmt.Errorf("linux/%s: %s: %w", arch, strings.Join(command, " "), err)
	}
	return binary, nil
}

// target is the environment in which the Go command works for an architecture.
func target(arch string) []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
}

// runsAlone makes sure that a program is one for the architecture and needs no other file: the image has no libraries.
func runsAlone(binary []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return fmt.Errorf("it made no program for Linux: %w", err)
	}
	if f.Machine != machines[arch] {
		return fmt.Errorf("it made a program for %v", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("the program needs a dynamic loader, which the image does not have: it has to be built without cgo and without -buildmode=pie")
		}
	}
	return nil
}

package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what the figures were measured on.
type machine struct {
	cpu      string // model
	cores    int
	memory   uint64 // bytes
	kernel   string
	versions []string
}

func thisMachine(ctx context.Context, o options) machine {
	m := machine{cpu: "unknown CPU", cores: runtime.NumCPU()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				m.cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.memory = info.Totalram * uint64(info.Unit)
	}
	m.versions = []string{"sidecar " + commit(ctx) + " (" + runtime.Version() + ")"}
	programs := [][]string{{"redis-server", "--version"}, {"pgbench", "--version"}}
	if o.peers {
		for _, name := range []string{twemproxyName, haproxyName} {
			if path, err := findProxy(name); err == nil { // else the measuring says what is missing
				programs = append(programs, map[string][]string{twemproxyName: {path, "-V"}, haproxyName: {path, "-v"}}[name])
			}
		}
	}
	if o.predixy != "" {
		programs = append(programs, []string{o.predixy, "--version"})
	}
	for _, p := range programs {
		out, _ := exec.CommandContext(ctx, p[0], p[1:]...).CombinedOutput() // some exit with 1 after telling their version
		first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), "This is "), "\n")
		first, _, _ = strings.Cut(first, " sha=")                            // Redis goes on about its build
		m.versions = append(m.versions, strings.TrimPrefix(first, p[0]+" ")) // predixy begins with its path
	}
	return m
}

// commit is what the working tree was made from.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--tags").Output()
	if err != nil {
		return "of no known commit"
	}
	return strings.TrimSpace(string(out))
}

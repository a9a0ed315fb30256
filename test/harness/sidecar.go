package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SidecarOptions describes a sidecar to run.
type SidecarOptions struct {
	// Config is the YAML configuration without listen, admin and debug, which the harness adds.
	Config string
	// ConfigFile is the path of a configuration that the caller keeps, in place of Config. The addresses are then given by variables.
	ConfigFile string
	// Listen, Admin and Debug are host:port; free loopback ports if empty. Listen names localhost, so the sidecar listens on ::1
	// too where that exists.
	Listen, Admin, Debug string

	// Plain runs a program without the race detector also where the caller has it, for tests that measure.
	Plain bool
	// Binary is the path of a program to run instead of the one that is built from this module.
	Binary string

	Args []string // more arguments of "sidecar run"
	Env  []string // more "NAME=value"; without GOMEMLIMIT it is that of a pod's 128 MiB, wherever the tests run

	Files int // bounds the program's file descriptors, where it is not 0

	User *syscall.Credential // who runs the program; nil: the caller's own user
}

// Sidecar is a running sidecar.
type Sidecar struct {
	*Process // replaced by Restart

	// StartTime is how long it took from its start until it was ready.
	StartTime time.Duration

	options SidecarOptions
	binary  string
	ports   []port
	dir     folder
}

// raceBinary and plainBinary are the paths of the program, with the race detector if the caller has it and without, built
// from this module at the first use.
var raceBinary, plainBinary once[string]

// BuildSidecar builds the program once and returns its path: with the race detector if the caller has it.
func BuildSidecar(ctx context.Context) (string, error) {
	if !raceEnabled {
		return buildSidecar(ctx, &plainBinary)
	}
	return buildSidecar(ctx, &raceBinary, "-race")
}

func buildSidecar(ctx context.Context, binary *once[string], flags ...string) (string, error) {
	return binary.get(func() (string, func(), error) {
		dir, err := newFolder(nil)
		if err != nil {
			return "", nil, err
		}
		if err := os.Chmod(dir.path, 0o755); err != nil { // another user may be told to run it
			dir.remove()
			return "", nil, err
		}
		path := dir.join("sidecar")
		args := slices.Concat([]string{"build", "-buildvcs=false", "-o", path}, flags, []string{"readthrough/cmd/sidecar"})
		out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
		if err != nil {
			dir.remove()
			return "", nil, fmt.Errorf("build the sidecar: %w\n%s", err, out)
		}
		return path, dir.remove, nil
	})
}

// StartSidecar builds the program if need be, runs it and waits until it is ready.
func StartSidecar(ctx context.Context, o SidecarOptions) (_ *Sidecar, err error) {
	build := BuildSidecar
	if o.Plain {
		build = func(ctx context.Context) (string, error) { return buildSidecar(ctx, &plainBinary) }
	}
	s := &Sidecar{options: o, binary: o.Binary}
	if s.binary == "" {
		if s.binary, err = build(ctx); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for addr, host := range map[*string]string{&s.options.Listen: "localhost", &s.options.Admin: "127.0.0.1", &s.options.Debug: "127.0.0.1"} {
		if *addr != "" {
			continue
		}
		p, err := reservePort()
		if err != nil {
			return nil, err
		}
		s.ports = append(s.ports, p)
		*addr = net.JoinHostPort(host, p.String())
	}
	if s.dir, err = newFolder(nil); err != nil {
		return nil, err
	}
	if o.ConfigFile == "" {
		if err := s.WriteConfig(o.Config); err != nil {
			return nil, err
		}
	}
	return s, s.start(ctx)
}

// start runs the program and waits until it is ready.
func (s *Sidecar) start(ctx context.Context) error {
	started := time.Now()
	dir, env := s.dir.path, []string{"PATH=" + os.Getenv("PATH"), "GORACE=halt_on_error=1 atexit_sleep_ms=50", "GOMEMLIMIT=96MiB"}
	if s.options.ConfigFile != "" {
		env = append(env, "READTHROUGH_LISTEN="+s.options.Listen, "READTHROUGH_ADMIN="+s.options.Admin, "READTHROUGH_DEBUG="+s.options.Debug)
	}
	if s.options.User != nil {
		dir = "/" // the harness's own is closed to others
	}
	p, err := StartProcess(ProcessOptions{
		Path: s.binary,
		Args: append([]string{"run", "--config", s.ConfigFile()}, s.options.Args...),
		Dir:  dir, Files: s.options.Files, User: s.options.User,
		Env: append(env, s.options.Env...),
	})
	if err != nil {
		return err
	}
	s.Process = p
	if err := awaitReady(ctx, p, func() error { return s.ready(ctx) }); err != nil {
		return err
	}
	s.StartTime = time.Since(started)
	return nil
}

// Restart kills the sidecar if it runs and starts it again with the same configuration at the same addresses.
func (s *Sidecar) Restart(ctx context.Context) error {
	s.Kill()
	return s.start(ctx)
}

// NewSidecar is StartSidecar for tests. The package's TestMain calls [Main].
func NewSidecar(t testing.TB, o SidecarOptions) *Sidecar {
	t.Helper()
	s, err := StartSidecar(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if strings.Contains(s.Logs(), "WARNING: DATA RACE") {
			t.Error("the sidecar has a data race")
		}
		showOutput(t, "the sidecar", s.Logs())
	})
	return s
}

// Addr is where clients connect, host:port.
func (s *Sidecar) Addr() string {
	return strings.Replace(s.options.Listen, "localhost:", "127.0.0.1:", 1)
}

// AdminURL is the address of the probes and metrics, without a path: http://host:port.
func (s *Sidecar) AdminURL() string { return "http://" + s.options.Admin }

// DebugURL is the address of the debug server, without a path.
func (s *Sidecar) DebugURL() string { return "http://" + s.options.Debug }

// ConfigFile is the path of the configuration that the sidecar was started with.
func (s *Sidecar) ConfigFile() string { return cmp.Or(s.options.ConfigFile, s.dir.join("config.yaml")) }

// Logs is what the sidecar has logged.
func (s *Sidecar) Logs() string { return s.Output() }

// WriteConfig replaces the configuration file, in one step, by a configuration without listen, admin and debug.
func (s *Sidecar) WriteConfig(yaml string) error {
	text := fmt.Sprintf("listen: %q\nadmin: %q\ndebug: %q\n%s\n", s.options.Listen, s.options.Admin, s.options.Debug, yaml)
	next := s.ConfigFile() + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.ConfigFile())
}

// Close asks the sidecar to shut down and kills it if it takes more than two seconds, as clients that stay would make it.
func (s *Sidecar) Close() {
	if s.Process != nil {
		s.end(syscall.SIGTERM, 2*time.Second)
	}
	for _, p := range s.ports {
		p.release()
	}
	s.dir.remove()
}

// ready is nil if the sidecar serves.
func (s *Sidecar) ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.AdminURL()+"/readyz", nil)
	if err != nil {
		return err
	}
	// A connection of its own leaves no goroutine behind.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("/readyz answers %s", resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

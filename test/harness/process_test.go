package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProcessOutputAndExitCode(t *testing.T) {
	p, err := StartProcess(ProcessOptions{Path: "sh", Args: []string{"-c", "echo out; echo err >&2; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.Wait(t.Context())
	if err != nil || code != 3 {
		t.Errorf("Wait = %d, %v; want 3", code, err)
	}
	if got := p.Output(); got != "out\nerr\n" {
		t.Errorf("Output = %q", got)
	}
	if p.Running() {
		t.Error("it runs still")
	}
	if _, err := StartProcess(ProcessOptions{Path: "/no/such/program"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that does not exist: %v", err)
	}
}

func TestProcessIsEndedBySignals(t *testing.T) {
	deaf, err := StartProcess(ProcessOptions{Path: "sh", Args: []string{"-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done"}})
	if err != nil {
		t.Fatal(err)
	}
	err = Poll(t.Context(), func() error {
		if !strings.Contains(deaf.Output(), "ready") {
			return errors.New("not ready")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := deaf.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait on a running program: %v", err)
	}
	deaf.end(syscall.SIGTERM, 10*time.Millisecond)
	if code, err := deaf.Wait(t.Context()); err != nil || code != -1 {
		t.Errorf("Wait = %d, %v; want -1 for a killed program", code, err)
	}
}

func TestProcessMeasures(t *testing.T) {
	p, err := StartProcess(ProcessOptions{Path: "sh", Args: []string{"-c", "while :; do :; done"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	err = Poll(t.Context(), func() error {
		cpu, err := p.CPUTime()
		if err == nil && cpu < 50*time.Millisecond {
			err = fmt.Errorf("%v of CPU", cpu)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if rss, err := p.RSS(); err != nil || rss < 100<<10 || rss > 100<<20 {
		t.Errorf("RSS = %d, %v", rss, err)
	}
	p.Kill()
	if _, err := p.RSS(); err == nil {
		t.Error("RSS of an ended program is no error")
	}
}

func TestOutputKeepsTheEnd(t *testing.T) {
	var out tail
	line := strings.Repeat("x", 1023) + "\n"
	for range 20 << 10 {
		_, _ = out.Write([]byte(line))
	}
	_, _ = out.Write([]byte("the end"))
	if got := out.String(); !strings.HasSuffix(got, "\nthe end") || len(got) < 8<<20 || len(got) > 11<<20 {
		t.Errorf("%d bytes are kept, ending in %q", len(got), got[len(got)-20:])
	}
}

// The process that started the servers is killed and cannot clean up.
func TestServersDieWithTheirParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent, err := StartProcess(ProcessOptions{Path: self, Env: append(os.Environ(), "HARNESS_TEST_PARENT=1")})
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Kill()
	var redis, postgres int
	var redisDir, postgresDir string
	err = awaitReady(t.Context(), parent, func() error {
		_, err := fmt.Sscanf(parent.Output(), "started %d %d %s %s", &redis, &postgres, &redisDir, &postgresDir)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(redisDir)
	defer os.RemoveAll(postgresDir)
	for _, pid := range []int{redis, postgres} {
		if !alive(pid) {
			t.Fatalf("process %d does not run", pid)
		}
	}
	parent.Kill()
	for _, pid := range []int{redis, postgres} {
		err := Poll(t.Context(), func() error {
			if alive(pid) {
				return fmt.Errorf("process %d lives on", pid)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// alive says whether a process runs; one that has ended and waits to be reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestPollGivesUp(t *testing.T) {
	cause := errors.New("not yet")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := Poll(ctx, func() error { return cause })
	if !errors.Is(err, cause) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Poll = %v", err)
	}
}

package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ProcessOptions says what to run.
type ProcessOptions struct {
	Path string   // program, found through PATH if it has no slash
	Args []string // without the program's name
	Dir  string   // working directory; empty: the caller's
	Env  []string // "NAME=value"; nil: a bare environment of PATH, HOME, LC_ALL=C and TZ=UTC

	// Files bounds the program's file descriptors, where it is not 0.
	Files int

	// DeathSignal is what the kernel sends when the process that started this one dies. Zero: SIGKILL.
	DeathSignal syscall.Signal

	User *syscall.Credential // nil: the caller's own
}

// Process is a running program. Its methods may be called from several goroutines.
type Process struct {
	path   string
	cmd    *exec.Cmd
	output tail
	paused atomic.Bool
	done   chan struct{} // closed when the program has ended and its output is complete
}

// StartProcess starts a program in a process group of its own, so that a Ctrl-C on the terminal reaches only the process that
// started it, which then ends its programs in the right order.
func StartProcess(o ProcessOptions) (*Process, error) {
	cmd := exec.Command(o.Path, o.Args...)
	if o.Files > 0 {
		cmd = exec.Command("sh", slices.Concat([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, o.Files), o.Path}, o.Args)...)
	}
	p := &Process{path: o.Path, cmd: cmd, done: make(chan struct{})}
	p.cmd.Dir = o.Dir
	p.cmd.Env = o.Env
	if o.Env == nil {
		p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LC_ALL=C", "TZ=UTC"}
	}
	p.cmd.Stdout = &p.output
	p.cmd.Stderr = &p.output
	p.cmd.WaitDelay = 5 * time.Second // a grandchild may hold the output open
	if o.DeathSignal == 0 {
		o.DeathSignal = syscall.SIGKILL
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: o.DeathSignal, Credential: o.User}

	// The kernel sends the death signal when the thread that forked ends, not the process, so one thread is kept for each
	// program, for as long as the program runs: the one that waits for it.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // the outcome stands in ProcessState
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Path, err)
	}
	return p, nil
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Output is what the program has written to its standard output and error, the last 8 MiB of it.
func (p *Process) Output() string { return p.output.String() }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running says whether the program has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the program.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Wait waits for the program to end and returns its exit code, -1 if a signal ended it.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s still runs: %w", p.path, context.Cause(ctx))
	}
}

// Kill ends the program at once with SIGKILL and waits until it is gone.
func (p *Process) Kill() { p.end(syscall.SIGKILL, 0) }

// end sends a signal, and SIGKILL if the program is not gone within the grace, and waits until it is gone.
func (p *Process) end(s syscall.Signal, grace time.Duration) {
	_ = p.Signal(s) // fails only if the program has ended
	if grace > 0 {
		select {
		case <-p.done:
			return
		case <-time.After(grace):
			_ = p.Signal(syscall.SIGKILL)
		}
	}
	<-p.done
}

// Pause stops the program with SIGSTOP: its connections stay open and answer nothing.
func (p *Process) Pause() error {
	p.paused.Store(true)
	return p.Signal(syscall.SIGSTOP)
}

// Resume lets a paused program go on.
func (p *Process) Resume() error {
	p.paused.Store(false)
	return p.Signal(syscall.SIGCONT)
}

// answers says whether the program can be expected to answer.
func (p *Process) answers() bool { return p.Running() && !p.paused.Load() }

// RSS is the program's resident memory in bytes.
func (p *Process) RSS() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no resident memory: it has ended", p.path)
}

// CPUTime is the user and system time that the program has used, in steps of 10 ms.
func (p *Process) CPUTime() (time.Duration, error) {
	const tick = time.Second / 100 // the kernel's USER_HZ, 100 on every platform Go runs on
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses, which may hold spaces; utime and stime are fields 14 and 15.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("cannot read /proc/%d/stat", p.Pid())
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// tail keeps the last 8 MiB written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	const limit = 8 << 20
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - limit; over > limit/4 { // cut now and then, not on every write
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// run runs a program to its end; its output is in the error if it fails.
func run(ctx context.Context, o ProcessOptions) error {
	p, err := StartProcess(o)
	if err != nil {
		return err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		p.Kill()
		return err
	}
	if code != 0 {
		return fmt.Errorf("%s %s: exit code %d:\n%s", o.Path, strings.Join(o.Args, " "), code, p.Output())
	}
	return nil
}

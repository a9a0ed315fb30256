package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// fakeRelay has as many clients as it is told.
type fakeRelay struct {
	clients  atomic.Int32
	served   chan error // what Serve returns
	stopping chan struct{}
	hang     chan struct{} // Shutdown waits for it or for its deadline; nil: it does not
	stopped  time.Time
	liveErr  atomic.Pointer[error]
	maps     atomic.Pointer[Config]
}

func newFakeRelay(clients int32) *fakeRelay {
	f := &fakeRelay{served: make(chan error, 1), stopping: make(chan struct{})}
	f.clients.Store(clients)
	return f
}

func (f *fakeRelay) Serve() error { return <-f.served }
func (f *fakeRelay) Addrs() []net.Addr {
	return []net.Addr{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 6380}}
}
func (f *fakeRelay) Clients() int { return int(f.clients.Load()) }
func (f *fakeRelay) Shutdown(ctx context.Context) error {
	f.stopped = time.Now()
	close(f.stopping)
	defer func() { f.served <- nil }()
	if f.hang == nil {
		return nil
	}
	select {
	case <-f.hang:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeRelay) Live(context.Context) error {
	if err := f.liveErr.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *fakeRelay) Checks() []healthCheck {
	return []healthCheck{
		{"upstream", func(context.Context) error { return nil }},
		{"origin main", func(context.Context) error { return errors.New("connection refused") }},
	}
}
func (f *fakeRelay) SetMaps(c *Config) error { f.maps.Store(c); return nil }
func (f *fakeRelay) Explain(_ context.Context, w io.Writer, key string) error {
	if key == "broken" {
		return errors.New("redis: unreachable")
	}
	_, err := fmt.Fprintf(w, "key  %q", key)
	return err
}
func (f *fakeRelay) Status() any { return nil }

// drainTest runs a drain on a clock of its own and returns how it ended and how long it took.
func drainTest(t *testing.T, f *fakeRelay, grace time.Duration, signals chan os.Signal, meanwhile func()) (time.Duration, error) {
	t.Helper()
	return drainTestOf(t, &Config{ShutdownGrace: grace}, f, signals, zap.NewNop(), meanwhile)
}

func drainTestOf(t *testing.T, config *Config, f *fakeRelay, signals chan os.Signal, log *zap.Logger, meanwhile func()) (time.Duration, error) {
	t.Helper()
	p := &program{relay: f, config: config, log: log, options: runOptions{signals: signals}}
	served := make(chan error, 1)
	go func() { served <- f.Serve() }()
	began := time.Now()
	go meanwhile()
	err := p.drain(served)
	return time.Since(began), err
}

func TestDrainEndsWithTheLastClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRelay(2)
		took, err := drainTest(t, f, time.Minute, nil, func() {
			time.Sleep(3 * time.Second)
			f.clients.Store(3) // accepts on
			time.Sleep(3 * time.Second)
			f.clients.Store(0)
		})
		if err != nil || took < 6*time.Second || took > 6*time.Second+drainInterval {
			t.Errorf("ended after %s with %v, want 6s", took, err)
		}
	})
}

func TestDrainWithoutClientsEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if took, err := drainTest(t, newFakeRelay(0), time.Minute, nil, func() {}); err != nil || took != 0 {
			t.Errorf("ended after %s with %v", took, err)
		}
	})
}

// TestDrainWaitsForThoseToCome has a delay, within which clients may still be sent here: without one at the signal, with one that comes
// and goes within it, and with one that stays for longer.
func TestDrainWaitsForThoseToCome(t *testing.T) {
	const delay, grace = 5 * time.Second, 20 * time.Second
	for name, test := range map[string]struct {
		delay        time.Duration
		before       int32 // clients at the signal
		comes, stays time.Duration
		least        time.Duration
		endedByGrace bool
	}{
		"nobody comes":             {delay: delay, least: delay},
		"one comes and goes":       {delay: delay, comes: time.Second, stays: time.Second, least: delay},
		"one comes and stays":      {delay: delay, comes: 4 * time.Second, stays: 7 * time.Second, least: 11 * time.Second},
		"one goes":                 {delay: delay, before: 1, stays: time.Second, least: delay},
		"one comes and never goes": {delay: delay, comes: 4 * time.Second, stays: time.Hour, least: grace, endedByGrace: true},
		"as long as the grace":     {delay: grace, least: grace},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeRelay(test.before)
				core, logs := observer.New(zap.WarnLevel)
				gone := make(chan struct{})
				began := time.Now()
				config := &Config{ShutdownDelay: test.delay, ShutdownGrace: grace}
				_, err := drainTestOf(t, config, f, nil, zap.New(core), func() {
					defer close(gone)
					time.Sleep(test.comes)
					if test.stays > 0 {
						f.clients.Store(1)
						time.Sleep(test.stays)
						f.clients.Store(0)
					}
				})
				<-gone
				took := f.stopped.Sub(began)
				if err != nil || took < test.least || took > test.least+drainInterval {
					t.Errorf("shut down after %s with %v, want %s", took, err, test.least)
				}
				if warned := logs.Len() > 0; warned != test.endedByGrace {
					t.Errorf("the log: %v", logs.All())
				}
			})
		})
	}
}

// TestSecondSignalEndsTheDelay holds that nobody has to wait for clients that may come.
func TestSecondSignalEndsTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRelay(0)
		signals := make(chan os.Signal, 1)
		config := &Config{ShutdownDelay: time.Minute, ShutdownGrace: time.Hour}
		took, err := drainTestOf(t, config, f, signals, zap.NewNop(), func() {
			time.Sleep(time.Second)
			signals <- syscall.SIGTERM
		})
		if !errors.As(err, new(killedError)) || took != time.Second {
			t.Errorf("ended after %s with %v", took, err)
		}
		f.served <- nil
	})
}

func TestDrainEndsWithTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRelay(1)
		began := time.Now()
		_, err := drainTest(t, f, 30*time.Second, nil, func() {})
		if err != nil || f.stopped.Sub(began) != 30*time.Second {
			t.Errorf("shut down after %s with %v, want 30s", f.stopped.Sub(began), err)
		}
	})
}

// TestDrainDoesNotWaitForEver has an answer that never comes: the end is late, and no failure.
func TestDrainDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRelay(0)
		f.hang = make(chan struct{})
		if took, err := drainTest(t, f, time.Minute, nil, func() {}); err != nil || took != answerTimeout {
			t.Errorf("ended after %s with %v", took, err)
		}
	})
}

// TestSecondSignalEndsTheDrain sends it while clients are waited for, and while their answers are.
func TestSecondSignalEndsTheDrain(t *testing.T) {
	for name, grace := range map[string]time.Duration{"waiting for clients": time.Hour, "waiting for answers": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeRelay(1)
				f.hang = make(chan struct{})
				signals := make(chan os.Signal, 1)
				took, err := drainTest(t, f, grace, signals, func() {
					time.Sleep(time.Second)
					signals <- syscall.SIGTERM
				})
				var killed killedError
				if !errors.As(err, &killed) || exitCode(err) != 143 || took != time.Second {
					t.Errorf("ended after %s with %v, exit code %d", took, err, exitCode(err))
				}
				close(f.hang)
				if grace > 0 {
					f.served <- nil
				}
			})
		})
	}
}

func TestDrainEndsWhenServingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRelay(1)
		_, err := drainTest(t, f, time.Hour, nil, func() { f.served <- errors.New("epoll: broken") })
		if err == nil || exitCode(err) != 1 || !strings.Contains(err.Error(), "epoll: broken") {
			t.Errorf("error: %v", err)
		}
	})
}

// running is `sidecar run` around a fake relay, on free ports.
type running struct {
	*fakeRelay
	config  string
	admin   string
	signals chan os.Signal
	ended   chan error
}

func startRunning(t *testing.T, content string, options runOptions) *running {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	dir := t.TempDir()
	r := &running{
		fakeRelay: newFakeRelay(1), signals: make(chan os.Signal, 2), ended: make(chan error, 1),
		config: writeFile(t, dir, "readthrough.yaml", content),
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	started := make(chan string, 1)
	options.config, options.state, options.signals, options.logFile = r.config, stateDir(filepath.Join(dir, "state")), r.signals, log
	options.build = func(relayDeps) (relay, error) { return r.fakeRelay, nil }
	options.started = func(admin net.Addr) { started <- admin.String() }
	go func() { r.ended <- run(options) }()
	select {
	case r.admin = <-started:
	case err := <-r.ended:
		t.Fatalf("ended: %v", err)
	}
	return r
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

const freePorts = "admin: localhost:0\ndebug: localhost:0\n"

// TestRunAndDrain is one life of the program: ready, live, draining, gone.
func TestRunAndDrain(t *testing.T) {
	r := startRunning(t, oneMap+freePorts, runOptions{})
	for _, path := range []string{"/startupz", "/livez", "/readyz"} {
		if code, body := get(t, "http://"+r.admin+path); code != 200 || body != "ok\n" {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	want := "[+] configuration: loaded\n[+] listener: serving\n[+] upstream: ok\n" +
		"[-] origin main: connection refused (does not count for readiness)\nok\n"
	if code, body := get(t, "http://"+r.admin+"/readyz?verbose"); code != 200 || body != want {
		t.Errorf("/readyz?verbose: %d %q", code, body)
	}
	_, metrics := get(t, "http://"+r.admin+"/metrics")
	for _, name := range []string{"readthrough_build_info{", "readthrough_config_reloads_total{outcome=\"applied\"} 1", "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(metrics, name) {
			t.Errorf("/metrics lacks %s", name)
		}
	}

	hung := errors.New("a loop has not turned for 5s")
	r.liveErr.Store(&hung)
	if code, body := get(t, "http://"+r.admin+"/livez"); code != 503 || body != "not live: a loop has not turned for 5s\n" {
		t.Errorf("/livez: %d %q", code, body)
	}

	r.signals <- syscall.SIGTERM
	eventually(t, func() bool {
		code, body := get(t, "http://"+r.admin+"/readyz")
		return code == 503 && body == "draining\n"
	})
	if code, _ := get(t, "http://"+r.admin+"/startupz"); code != 200 {
		t.Errorf("/startupz while draining: %d", code)
	}
	r.clients.Store(0)
	if err := <-r.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if resp, err := http.Get("http://" + r.admin + "/livez"); err == nil {
		_ = resp.Body.Close()
		t.Error("the admin server still answers")
	}
}

func TestRunAppliesChangedMaps(t *testing.T) {
	r := startRunning(t, oneMap+freePorts, runOptions{})
	writeFile(t, filepath.Dir(r.config), filepath.Base(r.config), twoMaps+freePorts)
	eventually(t, func() bool { c := r.maps.Load(); return c != nil && len(c.Maps) == 2 })
	r.clients.Store(0)
	r.signals <- syscall.SIGINT
	if err := <-r.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestRunEndsWhenServingFails(t *testing.T) {
	r := startRunning(t, minimal+freePorts, runOptions{})
	r.served <- errors.New("epoll: broken")
	if err := <-r.ended; err == nil || err.Error() != "stopped serving: epoll: broken" {
		t.Errorf("ended with %v", err)
	}
}

// TestRunBusyAdminPort takes the admin port before: the relay is taken down again.
func TestRunBusyAdminPort(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	f := newFakeRelay(0)
	err = run(runOptions{
		config:  writeFile(t, t.TempDir(), "c.yaml", minimal+"debug: \"\"\nadmin: "+busy.Addr().String()+"\n"),
		logFile: os.Stderr, logLevel: "error",
		build: func(relayDeps) (relay, error) { return f, nil },
	})
	if err == nil || !strings.Contains(err.Error(), "admin: listen tcp") || f.stopped.IsZero() {
		t.Errorf("ended with %v; relay shut down: %t", err, !f.stopped.IsZero())
	}
}

// eventually waits for something that happens soon.
func eventually(t *testing.T, happened func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-deadline:
			t.Fatal("it has not happened within 10s")
		case <-tick.C:
		}
	}
}

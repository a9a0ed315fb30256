package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

// answerTimeout is how long, once the grace has ended, answers in flight may take.
const answerTimeout = 5 * time.Second

// drainInterval is how often a drain looks whether the last client has gone.
const drainInterval = 20 * time.Millisecond

// relay is the product without the program around it.
type relay interface {
	// Serve accepts and serves clients until Shutdown; then it returns nil.
	Serve() error
	// Addrs are the addresses that are listened on, open since the relay was built.
	Addrs() []net.Addr
	// Clients is the number of clients connected.
	Clients() int
	// Shutdown stops accepting and reading, answers what is in flight, and closes what is left when ctx ends.
	Shutdown(ctx context.Context) error

	// Live returns an error when a loop does not turn.
	Live(ctx context.Context) error
	// Checks tell the state of Redis and of the origins.
	Checks() []healthCheck
	// SetMaps takes the configuration's maps into use, whole or not at all.
	SetMaps(*Config) error
	// Explain writes what a GET of the key does.
	Explain(ctx context.Context, w io.Writer, key string) error
	// Status is more about the relay for /status, to be shown as JSON; nil for nothing.
	Status() any
}

// relayDeps is what a relay is built with.
type relayDeps struct {
	config     *Config
	clientName string
	log        *zap.Logger
	registry   prometheus.Registerer
}

// runOptions are the flags of `sidecar run`.
type runOptions struct {
	config   string
	state    stateDir
	logLevel string // empty: as configured
	logFile  *os.File

	// build opens the listeners and waits for neither Redis nor an origin.
	build func(relayDeps) (relay, error)
	// signals end the program: the first begins the drain, the second ends it at once.
	signals <-chan os.Signal
	// started is told the addresses of the admin server once the program serves; nil for nobody.
	started func(admin net.Addr)
}

func runCommand() *cobra.Command {
	var config configFlag
	o := runOptions{logFile: os.Stderr, build: newRelay}
	c := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Serve clients",
		Long: `Serve clients until SIGTERM or SIGINT.

The first signal begins the drain: readiness turns off, clients are served and accepted on until the last one has gone or
shutdownGrace ends, but for shutdownDelay at least; what is in flight is answered, and the exit code is 0.
A second signal exits at once, with 128 plus the signal's number.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := config.required()
			if err != nil {
				return err
			}
			signals := make(chan os.Signal, 2)
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
			o.config, o.signals = path, signals
			limitMemory()
			return run(o)
		},
	}
	config.register(c)
	c.Flags().StringVar(&o.logLevel, "log-level", "", "debug, info, warn or error, in place of the configured `level`")
	c.Flags().StringVar((*string)(&o.state), "state-dir", filepath.Join(os.TempDir(), "readthrough"),
		"`directory` that keeps the last good configuration for a restart; none if empty")
	return c
}

// run serves until a signal or a failure.
func run(o runOptions) error {
	level, err := parseLevel(orInfo(o.logLevel))
	if err != nil {
		return usageError{err}
	}
	since := fingerprintOf(o.config)
	config, refused, err := loadOrRecover(o.config, o.state)
	if err != nil {
		return err
	}
	if o.logLevel == "" {
		if level, err = parseLevel(config.Log.Level); err != nil {
			return err
		}
	}
	log := newLogger(o.logFile, config.Log.Format, level)
	defer func() { _ = log.Sync() }() // a terminal cannot be synced

	p := &program{options: o, config: config, refused: refused, log: log, level: level, started: time.Now()}
	err = p.serve(since)
	if err != nil && !errors.As(err, new(killedError)) {
		log.Error("ended by a failure", zap.Error(err))
	}
	return err
}

func orInfo(level string) string {
	if level == "" {
		return "info"
	}
	return level
}

// program is one `sidecar run`.
type program struct {
	options runOptions
	config  *Config // as loaded at the start
	refused error   // what is wrong with the file, where config is the last good copy
	log     *zap.Logger
	level   zap.AtomicLevel
	started time.Time

	health   health
	relay    relay
	reloader *reloader
}

// serve brings everything up, waits for the end, and takes it down in the opposite order.
func (p *program) serve(since fingerprint) (err error) {
	registry := newRegistry()
	deps := relayDeps{config: p.config, clientName: clientName(), log: p.log, registry: registry}
	if p.relay, err = p.options.build(deps); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- p.relay.Serve() }()

	ctx, stop := context.WithCancel(context.Background())
	var followed sync.WaitGroup
	var servers []*httpServer
	defer func() {
		stop()
		if errors.As(err, new(killedError)) {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
		defer cancel()
		for _, s := range servers {
			err = errors.Join(err, s.Close(ctx))
		}
		followed.Wait()
	}()

	p.health.live, p.health.checks = p.relay.Live, p.relay.Checks()
	p.reloader = newReloader(p.options.config, p.options.state, p.config, p.refused, p.relay.SetMaps, p.log, registry)
	p.health.configuration = p.reloader.remarks
	admin, err := serveHTTP(p.config.Admin, adminHandler(&p.health, registry), adminWriteTimeout, p.log)
	if err != nil {
		return p.fail(served, fmt.Errorf("admin: %w", err))
	}
	servers = append(servers, admin)
	if p.config.Debug != "" {
		debug, err := serveHTTP(p.config.Debug, debugHandler(p.status, p.relay.Explain, p.level), debugWriteTimeout, p.log)
		if err != nil {
			return p.fail(served, fmt.Errorf("debug: %w", err))
		}
		servers = append(servers, debug)
	}
	followed.Go(func() { p.reloader.follow(ctx, since) })

	p.health.enter(serving)
	p.log.Info("serving", zap.Strings("listen", addresses(p.relay)), zap.String("admin", admin.Addr().String()),
		zap.String("clientName", deps.clientName), zap.Int("maps", len(p.config.Maps)), zap.Stringer("build", currentBuild()))
	if p.options.started != nil {
		p.options.started(admin.Addr())
	}

	select {
	case err := <-served:
		return fmt.Errorf("stopped serving: %w", err)
	case s := <-p.options.signals:
		p.health.enter(draining)
		p.log.Info("draining", zap.Stringer("signal", s), zap.Duration("delay", p.config.ShutdownDelay),
			zap.Duration("grace", p.config.ShutdownGrace), zap.Int("clients", p.relay.Clients()))
	}
	if err := p.drain(served); err != nil {
		return err
	}
	p.log.Info("drained")
	return nil
}

// fail takes the relay down again when the rest cannot be brought up.
func (p *program) fail(served <-chan error, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	return errors.Join(err, p.relay.Shutdown(ctx), <-served)
}

// drain serves on until the last client has gone, and no more can be expected by the delay, or the grace ends, and then has what is in
// flight answered. A further signal ends it with a [killedError].
func (p *program) drain(served <-chan error) error {
	expected := time.Now().Add(p.config.ShutdownDelay)
	grace := time.NewTimer(p.config.ShutdownGrace)
	defer grace.Stop()
	look := time.NewTicker(drainInterval)
	defer look.Stop()
	for waiting := true; waiting && (p.relay.Clients() > 0 || time.Now().Before(expected)); {
		select {
		case <-look.C:
		case <-grace.C:
			if clients := p.relay.Clients(); clients > 0 {
				p.log.Warn("grace has ended before the last client has gone", zap.Int("clients", clients))
			}
			waiting = false
		case s := <-p.options.signals:
			return killedError{s}
		case err := <-served:
			return fmt.Errorf("stopped serving: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	down := make(chan error, 1)
	go func() { down <- errors.Join(p.relay.Shutdown(ctx), <-served) }()
	select {
	case err := <-down:
		if errors.Is(err, context.DeadlineExceeded) {
			p.log.Warn("not every answer in flight has come in time", zap.Error(err))
			return nil
		}
		return err
	case s := <-p.options.signals:
		return killedError{s}
	}
}

// killedError is a second signal.
type killedError struct{ signal os.Signal }

func (e killedError) Error() string { return "ended by a second signal: " + e.signal.String() }

// code is 128 plus the signal's number, as shells have it.
func (e killedError) code() int {
	if s, ok := e.signal.(syscall.Signal); ok {
		return 128 + int(s)
	}
	return 1
}

// status is what /status tells.
func (p *program) status() status {
	current := p.reloader.current.Load()
	maps := make([]string, len(current.Maps))
	for i, m := range current.Maps {
		maps[i] = m.Name
	}
	return status{
		Version: currentBuild(), Phase: p.health.current().String(),
		Started: p.started, Uptime: time.Since(p.started).Round(time.Second).String(),
		ConfigFile: p.options.config, ConfigRefused: *p.reloader.bad.Load(), RestartNeeded: *p.reloader.pending.Load(),
		ClientName: clientName(), Listen: addresses(p.relay), Clients: p.relay.Clients(), Maps: maps, Relay: p.relay.Status(),
	}
}

func addresses(r relay) []string {
	var all []string
	for _, a := range r.Addrs() {
		all = append(all, a.String())
	}
	return all
}

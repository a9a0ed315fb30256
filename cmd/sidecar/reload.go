package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// loadOrRecover loads the file or, where it is bad, the last good copy of it; refused is then what is wrong with the
// file. err means that there is nothing to run with.
func loadOrRecover(path string, state stateDir) (config *Config, refused, err error) {
	config, refused = LoadConfig(path)
	if refused == nil {
		return config, nil, nil
	}
	raw, err := state.load(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, errors.Join(refused, fmt.Errorf("the last good copy cannot be used: %w", err))
		}
		return nil, nil, refused
	}
	config, err = ParseConfig(state.path(path), raw)
	if err != nil {
		return nil, nil, errors.Join(refused, fmt.Errorf("the last good copy cannot be used: %w", err))
	}
	return config, refused, nil
}

// reloader follows the configuration file. Maps are applied while running; the rest waits for a restart.
type reloader struct {
	path  string
	state stateDir
	log   *zap.Logger
	// apply takes new maps into use, whole or not at all.
	apply func(*Config) error

	current atomic.Pointer[Config]   // what is in use: the one loaded at the start, with the maps applied since
	pending atomic.Pointer[[]string] // fields whose change waits for a restart
	bad     atomic.Pointer[[]string] // what is wrong with the file; empty while it is in use
	// recovered says that what is in use was found in the state directory when the program started, since the file was refused.
	recovered atomic.Bool
	unkept    atomic.Pointer[string] // why what is in use could not be kept for a restart; nil where it was

	reloads     *prometheus.CounterVec
	lastGood    prometheus.Gauge
	needRestart prometheus.Gauge
}

// newReloader begins with the configuration that was loaded at the start; refused is what was wrong with the file, if it
// is the last good copy.
func newReloader(path string, state stateDir, config *Config, refused error, apply func(*Config) error, log *zap.Logger,
	registry prometheus.Registerer,
) *reloader {
	r := &reloader{
		path: path, state: state, log: log, apply: apply,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "readthrough_config_reloads_total",
			Help: "Configuration files read, by outcome: applied or refused.",
		}, []string{"outcome"}),
		lastGood: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "readthrough_config_last_reload_successful",
			Help: "1 while the configuration in use is that of the file, 0 while the file is refused.",
		}),
		needRestart: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "readthrough_config_restart_needed_fields",
			Help: "Fields of the configuration file whose change waits for a restart.",
		}),
	}
	registry.MustRegister(r.reloads, r.lastGood, r.needRestart)
	r.current.Store(config)
	r.pending.Store(&[]string{})
	r.bad.Store(&[]string{})
	if refused != nil {
		r.recovered.Store(true)
		r.refuse(refused)
		return r
	}
	r.accept(config.raw)
	return r
}

// follow reloads the file whenever it changes, until ctx ends. since is its fingerprint from before it was loaded.
func (r *reloader) follow(ctx context.Context, since fingerprint) {
	watchFile(ctx, r.path, since, r.reload)
}

// reload applies the file, or refuses it whole and keeps what is in use.
func (r *reloader) reload() {
	current := r.current.Load()
	next, err := LoadConfig(r.path)
	if err != nil {
		r.refuse(err)
		return
	}
	if bytes.Equal(next.raw, current.raw) {
		r.good()
		return
	}
	merged := *current
	merged.Maps, merged.compiled, merged.raw, merged.doc = next.Maps, next.compiled, next.raw, next.doc
	if err := merged.checkRunningOrigins(); err != nil {
		r.refuse(err)
		return
	}
	if err := r.apply(&merged); err != nil {
		r.refuse(err)
		return
	}
	r.current.Store(&merged)
	r.accept(next.raw)
	r.log.Info("configuration applied", zap.Int("maps", len(merged.Maps)))
	r.pend(changedFields(current, next))
}

func (r *reloader) refuse(err error) {
	r.reloads.WithLabelValues("refused").Inc()
	r.lastGood.Set(0)
	all := messages(err)
	r.bad.Store(&all)
	r.log.Error("configuration refused, the last good one stays in use", zap.String("file", r.path), zap.Strings("errors", all))
}

func (r *reloader) accept(raw []byte) {
	r.reloads.WithLabelValues("applied").Inc()
	r.good()
	r.unkept.Store(nil)
	if err := r.state.save(r.path, raw); err != nil {
		text := err.Error()
		r.unkept.Store(&text)
		r.log.Warn("the configuration cannot be kept for a restart; --state-dir names a writable directory, or none if empty",
			zap.Error(err))
	}
}

func (r *reloader) good() {
	r.lastGood.Set(1)
	r.recovered.Store(false)
	r.bad.Store(&[]string{})
}

func (r *reloader) pend(changed []string) {
	r.pending.Store(&changed)
	r.needRestart.Set(float64(len(changed)))
	if len(changed) > 0 {
		r.log.Warn("only maps are applied while running, other fields need a restart", zap.Strings("fields", changed))
	}
}

// shownProblems is how many of the file's problems the remarks show; the log has them all.
const shownProblems = 10

// remarks are what /readyz?verbose shows of the configuration.
func (r *reloader) remarks() []remark {
	all := []remark{{"configuration", true, "loaded"}}
	if bad := *r.bad.Load(); len(bad) > 0 {
		text := "the file is refused, the last good one stays in use"
		if r.recovered.Load() {
			text = "the file is refused, the last good one is in use, as the state directory has kept it"
		}
		text += uncounted
		for i, problem := range bad {
			if i == shownProblems {
				text += fmt.Sprintf("\n    and %d more", len(bad)-i)
				break
			}
			text += "\n    " + strings.ReplaceAll(problem, "\n", "\n    ")
		}
		all[0] = remark{"configuration", false, text}
	}
	if fields := *r.pending.Load(); len(fields) > 0 {
		all = append(all, remark{"restart", false, "needed for what has changed besides maps: " + strings.Join(fields, ", ") + uncounted})
	}
	if why := r.unkept.Load(); why != nil {
		all = append(all, remark{"state directory", false, "the configuration is not kept for a restart: " + *why + uncounted})
	}
	return all
}

// messages takes an error apart into what a log shows as one item each.
func messages(err error) []string {
	var bad *ConfigError
	if !errors.As(err, &bad) {
		return []string{err.Error()}
	}
	all := make([]string, len(bad.Problems))
	for i, p := range bad.Problems {
		all[i] = p.format(bad.File)
	}
	return all
}

// checkRunningOrigins refuses maps whose origin is in the file but not in the configuration in use.
func (c *Config) checkRunningOrigins() error {
	running := map[string]bool{}
	for _, o := range c.Origins {
		running[o.Name] = true
	}
	d := &document{file: c.doc.file, lines: c.doc.lines}
	for i, m := range c.Maps {
		if !running[m.Origin] {
			d.problem(fmt.Sprintf("maps[%d].origin", i), "origin %q is new: it needs a restart", m.Origin)
		}
	}
	return d.err()
}

// changedFields lists the fields that differ, maps apart.
func changedFields(a, b *Config) []string {
	return changedIn("", reflect.ValueOf(*a), reflect.ValueOf(*b))
}

func changedIn(path string, a, b reflect.Value) []string {
	if !a.CanInterface() || a.Type() == secretType || a.Kind() != reflect.Struct && a.Kind() != reflect.Slice {
		if a.Comparable() && a.Equal(b) {
			return nil
		}
		return []string{path}
	}
	var changed []string
	if a.Kind() == reflect.Slice {
		if a.Len() != b.Len() {
			return []string{path}
		}
		for i := range a.Len() {
			changed = append(changed, changedIn(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i))...)
		}
		return changed
	}
	for i := range a.NumField() {
		name := a.Type().Field(i).Tag.Get("mapstructure")
		if name == "" || path == "" && name == "maps" {
			continue
		}
		changed = append(changed, changedIn(join(path, name), a.Field(i), b.Field(i))...)
	}
	return changed
}

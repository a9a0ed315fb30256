package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// liveTimeout is how long the loops may take to show that they turn. A kubelet's probe gives up earlier than that only
// where it was told to.
const liveTimeout = 800 * time.Millisecond

// adminWriteTimeout bounds one request on the admin address.
const adminWriteTimeout = 10 * time.Second

// phase is how far the program has come.
type phase int32

const (
	starting phase = iota
	serving        // the configuration is loaded and the listener is open
	draining
)

func (p phase) String() string { return [...]string{"starting", "serving", "draining"}[p] }

// health answers the probes.
type health struct {
	phase atomic.Int32

	// live returns an error when the program hangs and only a restart helps.
	live func(ctx context.Context) error
	// configuration tells the state of the configuration; nil: it is in use as it was loaded. Nor does it fail a probe: the last good one
	// serves as well as before.
	configuration func() []remark
	// checks tell the state of what we depend on. They show under ?verbose and never fail a probe: a readiness that
	// depends on Redis would take every pod out of its Service when Redis blinks.
	checks []healthCheck
}

// healthCheck is the state of one thing that we depend on.
type healthCheck struct {
	name  string
	state func(ctx context.Context) error // nil: as it should be
}

// remark is a line of ?verbose.
type remark struct {
	name string
	ok   bool
	text string
}

func (h *health) enter(p phase) { h.phase.Store(int32(p)) }

func (h *health) current() phase { return phase(h.phase.Load()) }

// adminHandler serves probes and metrics, and nothing that tells more than they do.
func adminHandler(h *health, registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", h.serveLive)
	mux.HandleFunc("GET /readyz", h.serveReady)
	mux.HandleFunc("GET /startupz", h.serveStartup)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	return mux
}

// newRegistry holds what the runtime and the process tell by themselves, and which build this is.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	b := currentBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "readthrough_build_info", Help: "Always 1; the labels tell the build.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "goversion": b.Go},
	})
	info.Set(1)
	registry.MustRegister(info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

func (h *health) serveLive(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), liveTimeout)
	defer cancel()
	if err := h.live(ctx); err != nil {
		answer(w, http.StatusServiceUnavailable, "not live: "+err.Error())
		return
	}
	answer(w, http.StatusOK, "ok")
}

func (h *health) serveStartup(w http.ResponseWriter, _ *http.Request) {
	if h.current() == starting {
		answer(w, http.StatusServiceUnavailable, starting.String())
		return
	}
	answer(w, http.StatusOK, "ok")
}

func (h *health) serveReady(w http.ResponseWriter, r *http.Request) {
	status, text := http.StatusOK, "ok"
	if p := h.current(); p != serving {
		status, text = http.StatusServiceUnavailable, p.String()
	}
	if r.URL.Query().Has("verbose") {
		text = h.verbose(r.Context()) + text
	}
	answer(w, status, text)
}

func (h *health) verbose(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	remarks := []remark{{"configuration", true, "loaded"}}
	if h.configuration != nil {
		remarks = h.configuration()
	}
	p := h.current()
	remarks = append(remarks, remark{"listener", p != starting, p.String()})
	for _, c := range h.checks {
		r := remark{c.name, true, "ok"}
		if err := c.state(ctx); err != nil {
			r = remark{c.name, false, err.Error() + uncounted}
		}
		remarks = append(remarks, r)
	}
	var b strings.Builder
	for _, r := range remarks {
		sign := "[-]"
		if r.ok {
			sign = "[+]"
		}
		fmt.Fprintf(&b, "%s %s: %s\n", sign, r.name, r.text)
	}
	return b.String()
}

// uncounted ends a remark on what is not as it should be.
const uncounted = " (does not count for readiness)"

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the client may be gone
}

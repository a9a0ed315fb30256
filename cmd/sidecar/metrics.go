package main

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"readthrough/internal/loop"
	"readthrough/origin"
	"readthrough/resp"
	"readthrough/upstream"
)

// collectTimeout is how long a scrape waits for the loops' figures.
const collectTimeout = 2 * time.Second

// metrics shows what the relay counts. What the loops count, without locks, is asked of them at each scrape; what the
// origins tell is counted here.
type metrics struct {
	product *product

	loads      *prometheus.CounterVec
	loadTime   *prometheus.HistogramVec
	fills      *prometheus.CounterVec
	leases     *prometheus.CounterVec
	renewals   *prometheus.CounterVec
	joined     *prometheus.CounterVec
	again      *prometheus.CounterVec
	suppressed *prometheus.CounterVec
}

func newMetrics(p *product) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &metrics{
		product: p,
		loads:   counter("readthrough_loads_total", "Loads from an origin, by map and outcome.", "map", "outcome"),
		loadTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "readthrough_load_duration_seconds", Help: "How long loads took, the wait for a connection included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"map"}),
		fills:      counter("readthrough_fills_total", "Values written to Redis after a load, by map and outcome.", "map", "outcome"),
		leases:     counter("readthrough_leases_total", "What Redis said to those who asked for the right to load a missing key.", "map", "outcome"),
		renewals:   counter("readthrough_renewals_total", "Values past their time that were loaded anew, or not.", "map", "outcome"),
		joined:     counter("readthrough_loads_joined_total", "Misses that waited for a load already under way.", "map"),
		again:      counter("readthrough_loads_started_over_total", "Misses that waited for a load whose value could have been too old for them.", "map"),
		suppressed: counter("readthrough_errors_suppressed_total", "Errors answered as null, where onError is nil.", "map", "code"),
	}
}

// Loaded and those that follow make metrics an origin.Observer.
func (m *metrics) Loaded(mapName string, outcome origin.Outcome, took time.Duration) {
	m.loads.WithLabelValues(mapName, string(outcome)).Inc()
	m.loadTime.WithLabelValues(mapName).Observe(took.Seconds())
}

func (m *metrics) Filled(mapName string, outcome origin.FillOutcome) {
	m.fills.WithLabelValues(mapName, string(outcome)).Inc()
}

func (m *metrics) Leased(mapName string, outcome origin.LeaseOutcome) {
	m.leases.WithLabelValues(mapName, string(outcome)).Inc()
}

func (m *metrics) Renewed(mapName string, outcome origin.RenewalOutcome) {
	m.renewals.WithLabelValues(mapName, string(outcome)).Inc()
}

func (m *metrics) StartedOver(mapName string, n int) {
	m.again.WithLabelValues(mapName).Add(float64(n))
}

func (m *metrics) Joined(mapName string) { m.joined.WithLabelValues(mapName).Inc() }

func (m *metrics) Suppressed(mapName string, code origin.Code) {
	m.suppressed.WithLabelValues(mapName, string(code)).Inc()
}

// figure is a metric whose value the loops count.
type figure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counted(name, help string, labels ...string) figure {
	return figure{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

func current(name, help string, labels ...string) figure {
	return figure{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

var (
	commandsFigure     = counted("readthrough_commands_total", "Commands answered, by name and outcome: ok, error (Redis's own) or failed (the sidecar's).", "command", "outcome")
	hitsFigure         = counted("readthrough_hits_total", "Mapped keys of intercepted commands that Redis had a value for.")
	missesFigure       = counted("readthrough_misses_total", "Mapped keys of intercepted commands that Redis had no value for.")
	failOpenFigure     = counted("readthrough_failopen_total", "Mapped keys of intercepted commands that the origin was asked for since Redis did not answer.")
	clientsFigure      = current("readthrough_clients", "Clients connected.")
	acceptedFigure     = counted("readthrough_clients_accepted_total", "Clients accepted.")
	killedFigure       = counted("readthrough_clients_killed_total", "Clients closed by the sidecar.")
	protocolFigure     = counted("readthrough_protocol_errors_total", "Clients' protocol errors.")
	unauthFigure       = counted("readthrough_unauthenticated_commands_total", "Commands refused since the client had not authenticated, where it must.")
	loginsFigure       = counted("readthrough_logins_total", "AUTH, and HELLO with AUTH, by outcome: ok, or failed, be it that Redis refused or that it did not answer.", "outcome")
	voidsRefusedFigure = counted("readthrough_voids_refused_total", "Leases that Redis does not let the sidecar's user remove.")
	settledFigure      = counted("readthrough_voids_settled_total", "Writes acknowledged after their lease, which was elsewhere, was removed.")
	wiresFigure        = current("readthrough_upstream_connections", "Shared connections to Redis.")
	dialsFigure        = counted("readthrough_upstream_dials_total", "Attempts to connect to Redis, by outcome: ok or failed.", "outcome")
	lostFigure         = counted("readthrough_upstream_connections_lost_total", "Connections to Redis lost with replies outstanding.")
	redirectsFigure    = counted("readthrough_upstream_redirects_total", "Redirects followed, by kind: moved, ask or retried.", "kind")
	resentFigure       = counted("readthrough_upstream_resent_total", "Commands sent again after their connection was lost.")
	pushesFigure       = counted("readthrough_upstream_pushes_dropped_total", "Pushes on shared connections, which belong to nobody.")
	reauthFigure       = counted("readthrough_upstream_reauth_failed_total", "Connections whose renewed credentials Redis refused.")
	busyFigure         = counted("readthrough_loop_busy_seconds_total", "Time that a loop has spent in turns, the waiting left out.", "loop")
	turnsFigure        = counted("readthrough_loop_turns_total", "Turns of a loop.", "loop")
	buffersFigure      = current("readthrough_loop_buffer_bytes", "Bytes of buffers in use by connections.", "loop")
	collectedFigure    = current("readthrough_loops_answered", "1 where every loop answered this scrape; 0 where figures are missing.")
	upstreamUpFigure   = current("readthrough_upstream_up", "1 while Redis answers the search for its topology.")
	originUpFigure     = current("readthrough_origin_up", "0 after an attempt to connect to the origin failed, until one succeeds.", "origin")
	originOpenFigure   = current("readthrough_origin_breaker_open", "1 while the origin is left alone, but for a try now and then.", "origin")
	originConns        = current("readthrough_origin_connections", "Connections to an origin, by whether they are at work.", "origin", "state")

	figures = []figure{
		commandsFigure, hitsFigure, missesFigure, failOpenFigure, clientsFigure, acceptedFigure, killedFigure, protocolFigure, unauthFigure, loginsFigure, voidsRefusedFigure, settledFigure, wiresFigure,
		dialsFigure, lostFigure, redirectsFigure, resentFigure, pushesFigure, reauthFigure, originUpFigure, originOpenFigure, originConns, busyFigure, turnsFigure,
		buffersFigure, collectedFigure, upstreamUpFigure,
	}
)

func (m *metrics) vectors() []prometheus.Collector {
	return []prometheus.Collector{m.loads, m.loadTime, m.fills, m.leases, m.renewals, m.joined, m.again, m.suppressed}
}

// Describe and Collect make metrics a prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, f := range figures {
		to <- f.desc
	}
	for _, v := range m.vectors() {
		v.Describe(to)
	}
}

func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, v := range m.vectors() {
		v.Collect(to)
	}
	send := func(f figure, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
	}
	up := 1.0
	if state := m.product.upstream.State(); state.LastError != nil || state.Topology == nil {
		up = 0
	}
	send(upstreamUpFigure, up)
	if r := m.product.resolver; r != nil {
		collectOrigins(r.States(), send)
	}

	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	answered := 1.0
	if err := m.collectLoops(ctx, send); err != nil {
		answered = 0
	}
	send(collectedFigure, answered)
}

func (m *metrics) collectLoops(ctx context.Context, send func(f figure, value float64, labels ...string)) error {
	type figures struct {
		clients resp.Stats
		side    upstream.Stats
		loop    loop.Stats
	}
	var clients resp.Stats
	var sum upstream.Stats
	for i, l := range m.product.loops {
		one := make(chan figures, 1)
		if !l.Post(func() { one <- figures{m.product.server.Stats(i), m.product.upstream.Side(i).Stats(), l.Stats()} }) {
			return loop.ErrStopped
		}
		select {
		case f := <-one:
			name := strconv.Itoa(i)
			send(busyFigure, f.loop.Busy.Seconds(), name)
			send(turnsFigure, float64(f.loop.Turns), name)
			send(buffersFigure, float64(f.loop.Buffered), name)
			clients.Add(f.clients)
			sum.Add(f.side)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	collectClients(clients, send)
	send(wiresFigure, float64(sum.Wires))
	send(dialsFigure, float64(sum.Dials-sum.DialsFailed), "ok")
	send(dialsFigure, float64(sum.DialsFailed), "failed")
	send(lostFigure, float64(sum.Lost))
	send(redirectsFigure, float64(sum.Moved), "moved")
	send(redirectsFigure, float64(sum.Asked), "ask")
	send(redirectsFigure, float64(sum.Retried), "retried")
	send(resentFigure, float64(sum.Resent))
	send(settledFigure, float64(sum.Settled))
	send(pushesFigure, float64(sum.PushesDropped))
	send(reauthFigure, float64(sum.ReauthFailed))
	return nil
}

func collectClients(s resp.Stats, send func(f figure, value float64, labels ...string)) {
	for name, n := range s.Commands {
		send(commandsFigure, float64(n.OK), name, "ok")
		send(commandsFigure, float64(n.Errors), name, "error")
		send(commandsFigure, float64(n.Failed), name, "failed")
	}
	send(hitsFigure, float64(s.Hits))
	send(missesFigure, float64(s.Misses))
	send(failOpenFigure, float64(s.FailOpen))
	send(clientsFigure, float64(s.Clients))
	send(acceptedFigure, float64(s.Accepted))
	send(killedFigure, float64(s.Killed))
	send(protocolFigure, float64(s.ProtocolErrors))
	send(unauthFigure, float64(s.Unauthenticated))
	send(loginsFigure, float64(s.Logins), "ok")
	send(loginsFigure, float64(s.LoginsFailed), "failed")
	send(voidsRefusedFigure, float64(s.VoidsRefused))
}

func collectOrigins(states []origin.State, send func(f figure, value float64, labels ...string)) {
	for _, s := range states {
		up := 1.0
		if s.Down != nil {
			up = 0
		}
		send(originUpFigure, up, s.Name)
		open := 0.0
		if s.Open {
			open = 1
		}
		send(originOpenFigure, open, s.Name)
		send(originConns, float64(s.Busy), s.Name, "busy")
		send(originConns, float64(s.Conns-s.Busy), s.Name, "idle")
	}
}

package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics is what the webhook counts.
type Metrics struct {
	reviews   *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	apiErrors *prometheus.CounterVec
	expiry    prometheus.Gauge
	trusted   prometheus.Gauge
	leader    prometheus.Gauge
	rotations *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "readthrough_webhook_reviews_total",
			Help: "Admission reviews answered, by webhook (inject, validate) and outcome.",
		}, []string{"webhook", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "readthrough_webhook_review_duration_seconds", Help: "How long admission reviews took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"webhook"}),
		apiErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "readthrough_webhook_api_errors_total",
			Help: "What could not be done since the Kubernetes API failed, by purpose: configmap, certificate, lease or version.",
		}, []string{"purpose"}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "readthrough_webhook_certificate_expiry_timestamp_seconds",
			Help: "When the certificate served expires, in seconds since 1970.",
		}),
		trusted: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "readthrough_webhook_certificate_trusted",
			Help: "1 while the caBundle of the webhook configurations trusts the certificate served; not told where cert-manager sees to it.",
		}),
		leader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "readthrough_webhook_leader", Help: "1 for the replica that sees to the certificates.",
		}),
		rotations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "readthrough_webhook_certificate_steps_total",
			Help: "Steps of rotations done by this replica: offer, promote, tidy, and bundle for each caBundle written.",
		}, []string{"step"}),
	}
	registry.MustRegister(m.reviews, m.duration, m.apiErrors, m.expiry, m.trusted, m.leader, m.rotations)
	for _, purpose := range []purpose{forConfigMap, forCertificate, forLease, forVersion} {
		m.apiErrors.WithLabelValues(string(purpose))
	}
	return m
}

// purpose is what the API was asked for.
type purpose string

const (
	forConfigMap   purpose = "configmap"
	forCertificate purpose = "certificate"
	forLease       purpose = "lease"
	forVersion     purpose = "version"
)

func (m *Metrics) failed(p purpose) { m.apiErrors.WithLabelValues(string(p)).Inc() }

func (m *Metrics) reviewed(webhook string, o outcome, took time.Duration) {
	m.reviews.WithLabelValues(webhook, string(o)).Inc()
	m.duration.WithLabelValues(webhook).Observe(took.Seconds())
}

func (m *Metrics) stepped(what string) { m.rotations.WithLabelValues(what).Inc() }

func set(g prometheus.Gauge, on bool) {
	g.Set(0)
	if on {
		g.Set(1)
	}
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"readthrough/internal/inject"
	"readthrough/internal/kube"
	"readthrough/internal/webhook"
)

// reviewWriteTimeout bounds one review. API servers wait for 30 seconds at most.
const reviewWriteTimeout = 30 * time.Second

// certificateSource is where the certificate served comes from.
type certificateSource interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Ready returns nil once there is one that can be used.
	Ready() error
	// Run follows it until ctx ends.
	Run(ctx context.Context)
}

// injector is one `sidecar webhook`.
type injector struct {
	options      webhookOptions
	log          *zap.Logger
	settings     atomic.Pointer[inject.Settings]
	cluster      *webhook.Cluster
	certificates certificateSource
	draining     atomic.Bool
	settingsGood prometheus.Gauge
}

// runWebhook serves until a signal or a failure.
func runWebhook(o webhookOptions) (err error) {
	level, err := parseLevel(o.logLevel)
	if err != nil {
		return usageError{err}
	}
	since := fingerprintOf(o.settings)
	i := &injector{options: o, log: newLogger(o.logFile, "auto", level)}
	defer func() { _ = i.log.Sync() }() // a terminal cannot be synced
	settings, err := o.readSettings()
	if err != nil {
		return err
	}
	i.settings.Store(settings)

	api, err := o.api()
	if err != nil {
		return err
	}
	api.UserAgent = "readthrough-webhook/" + currentBuild().Version
	client, err := kube.New(api)
	if err != nil {
		return err
	}
	defer client.Close()
	registry := newRegistry()
	metrics := webhook.NewMetrics(registry)
	i.settingsGood = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "readthrough_webhook_settings_last_reload_successful", Help: "1 while the settings in use are those of the file, 0 while the file is refused.",
	})
	i.settingsGood.Set(1)
	registry.MustRegister(i.settingsGood)
	i.cluster = webhook.NewCluster(client, i.log, metrics)
	i.certificates = o.source(client, i.log, metrics)

	handler := webhook.Handler(webhook.Options{Inject: i.decide, Check: judge, Client: client, Log: i.log, Metrics: metrics})
	return i.serve(handler, registry, since)
}

// source is one of the two that there are.
func (o webhookOptions) source(client *kube.Client, log *zap.Logger, metrics *webhook.Metrics) certificateSource {
	if o.certificateDir != "" {
		return webhook.NewFiles(o.certificateDir, log, metrics)
	}
	return webhook.NewKeeper(webhook.KeeperOptions{
		Client: client, Namespace: o.namespace, Secret: o.certificateSecret, Lease: o.lease, Service: o.service,
		Configuration: o.configuration, Validation: o.validation, Identity: replicaName(), Lifetime: o.lifetime, Settle: o.settle, Log: log, Metrics: metrics,
	})
}

// serve brings everything up, waits for the end, and takes it down in the opposite order.
func (i *injector) serve(handler http.Handler, registry *prometheus.Registry, since fingerprint) (err error) {
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	var servers []*httpServer
	defer func() {
		if errors.As(err, new(killedError)) {
			stop()
			for _, s := range servers {
				_ = s.server.Close() // nobody waits
			}
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
		defer cancel()
		for _, s := range servers {
			err = errors.Join(err, s.Close(ctx))
		}
		stop()
		following.Wait()
	}()

	secure := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: i.certificates.GetCertificate}
	reviews, err := serveHTTPS(i.options.listen, i.leaving(handler), reviewWriteTimeout, secure, i.log)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	servers = append(servers, reviews)
	admin, err := serveHTTP(i.options.admin, i.adminHandler(registry), adminWriteTimeout, i.log)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	servers = append(servers, admin)
	following.Go(func() { i.certificates.Run(ctx) })
	following.Go(func() { i.cluster.Run(ctx) })
	if i.options.settings != "" {
		following.Go(func() { watchFile(ctx, i.options.settings, since, i.reload) })
	}
	i.log.Info("serving", zap.Stringer("listen", reviews.Addr()), zap.Stringer("admin", admin.Addr()), zap.Stringer("build", currentBuild()))
	if i.options.started != nil {
		i.options.started(reviews.Addr(), admin.Addr())
	}

	s := <-i.options.signals
	i.draining.Store(true)
	i.log.Info("draining", zap.Stringer("signal", s), zap.Duration("for", i.options.drain))
	drained := time.NewTimer(i.options.drain)
	defer drained.Stop()
	select {
	case <-drained.C:
		return nil
	case s := <-i.options.signals:
		return killedError{s}
	}
}

// leaving ends each connection with its answer once the drain has begun. API servers speak HTTP/1.1 to webhooks and keep connections;
// one that is closed while it is idle may be getting a review at that moment, which fails, as a POST is not sent again.
func (i *injector) leaving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// decide is what package webhook asks for each pod.
func (i *injector) decide(pod *corev1.Pod, namespace string) (inject.Decision, error) {
	return inject.Decide(pod, namespace, inject.Options{
		Settings: *i.settings.Load(), Native: i.cluster.Native(), Version: currentBuild().Version,
	})
}

// readSettings reads the file, and puts --image in.
func (o webhookOptions) readSettings() (*inject.Settings, error) {
	settings, err := readSettings(o.settings, settingFlag{"--image", "image", o.image})
	if err != nil {
		return nil, err
	}
	if settings.Image == "" {
		return nil, errors.New("the sidecar's image is not known: name it by --image, or as image in the file of --settings")
	}
	return &settings, nil
}

// reload takes the settings' file into use, or refuses it whole and keeps what is in use.
func (i *injector) reload() {
	settings, err := i.options.readSettings()
	if err != nil {
		i.settingsGood.Set(0)
		i.log.Error("settings refused, the last good ones stay in use", zap.Error(err))
		return
	}
	i.settingsGood.Set(1)
	i.settings.Store(settings)
	i.log.Info("settings applied", zap.String("file", i.options.settings))
}

// ready says why no review should be sent here.
func (i *injector) ready() error {
	if i.draining.Load() {
		return errors.New(draining.String())
	}
	return errors.Join(i.certificates.Ready(), i.cluster.Ready())
}

// adminHandler serves probes and metrics.
func (i *injector) adminHandler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := i.ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	return mux
}

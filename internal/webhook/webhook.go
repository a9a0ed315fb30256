// Package webhook answers the API server's admission reviews: pods are injected, by package inject's decision, and ConfigMaps
// that hold a configuration are checked. It also keeps the certificates with which that is served: by itself, shared by all
// replicas and rotated without a request lost, or as files that somebody else renews.
package webhook

import (
	"net/http"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"readthrough/internal/kube"
)

// Options are what reviews are answered with.
type Options struct {
	Inject  Injector
	Check   Judge
	Client  *kube.Client
	Log     *zap.Logger
	Metrics *Metrics
}

// Handler serves POST /mutate for pods, and POST /validate for ConfigMaps.
func Handler(o Options) http.Handler {
	p := &pods{inject: o.Inject, client: o.Client, log: o.Log, metrics: o.Metrics}
	mux, b := http.NewServeMux(), newBudget()
	mux.Handle("/mutate", &reviews{name: "inject", judge: p.judge, budget: b, log: o.Log, metrics: o.Metrics})
	mux.Handle("/validate", &reviews{name: "validate", judge: newConfigMaps(o.Check).judge, budget: b, log: o.Log, metrics: o.Metrics})
	return mux
}

// seldom logs each message once a minute: while the API is away, what is tried again every second or two would fill the log.
func seldom(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Minute, 1, 0)
	}))
}

package webhook

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"k8s.io/apimachinery/pkg/version"

	"readthrough/internal/kube"
	"readthrough/test/kubeapi"
)

func TestHasNativeSidecars(t *testing.T) {
	for _, c := range []struct {
		major, minor string
		want         bool
	}{
		{"1", "34", true},
		{"1", "29", true},
		{"1", "29+", true},
		{"1", "28", false},
		{"1", "28+", false},
		{"1", "9", false},
		{"2", "0", true},
		{"1", "30-eks-1", true},
	} {
		got, err := hasNativeSidecars(&version.Info{Major: c.major, Minor: c.minor})
		if err != nil || got != c.want {
			t.Errorf("%s.%s: %t, %v", c.major, c.minor, got, err)
		}
	}
	for _, c := range []version.Info{{}, {Major: "1"}, {Minor: "29"}, {Major: "1", Minor: "+"}, {Major: "one", Minor: "29"}} {
		if got, err := hasNativeSidecars(&c); err == nil {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// TestClusterIsUpgraded while we run; before that, the API does not answer at once.
func TestClusterIsUpgraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubeapi.New()
		client, err := kube.New(kube.Config{URL: "http://api", Transport: api.RoundTripper()})
		if err != nil {
			t.Fatal(err)
		}
		api.Before(func(*http.Request) http.Handler { return kubeapi.Status(503, "starting") })
		api.Put(t, "/version", version.Info{Major: "1", Minor: "28", GitVersion: "v1.28.0"})
		core, logs := observer.New(zap.ErrorLevel)
		c := NewCluster(client, zap.New(core), NewMetrics(prometheus.NewRegistry()))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		time.Sleep(10 * time.Second)
		if c.Ready() == nil || !c.Native() {
			t.Errorf("unknown: %v, native %t", c.Ready(), c.Native())
		}
		if n := logs.Len(); n != 1 {
			t.Errorf("an outage of ten seconds is logged %d times", n)
		}
		api.Before(nil)
		time.Sleep(2 * versionRetry)
		if c.Ready() != nil || c.Native() {
			t.Errorf("1.28: %v, native %t", c.Ready(), c.Native())
		}
		api.Put(t, "/version", version.Info{Major: "1", Minor: "29", GitVersion: "v1.29.0"})
		time.Sleep(2 * versionInterval)
		if !c.Native() {
			t.Error("1.29: not native")
		}
		cancel()
		<-done
	})
}

package webhook

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/version"

	"readthrough/internal/kube"
)

const (
	versionInterval = 10 * time.Minute // a cluster is upgraded while we run
	versionRetry    = time.Second
	nativeMinor     = 29 // of Kubernetes 1: from then on, native sidecars are on unless somebody turned them off
)

// Cluster knows whether the cluster has native sidecars.
type Cluster struct {
	client  *kube.Client
	log     *zap.Logger
	seldom  *zap.Logger // for what is tried again right away
	metrics *Metrics

	version atomic.Pointer[string] // nil until it is known
	old     atomic.Bool            // known to be from before native sidecars
}

// NewCluster asks nothing until Run.
func NewCluster(client *kube.Client, log *zap.Logger, metrics *Metrics) *Cluster {
	return &Cluster{client: client, log: log, seldom: seldom(log), metrics: metrics}
}

// Native reports whether native sidecars may be used. Until the version is known it says yes, which is right for every version
// that Kubernetes still supports.
func (c *Cluster) Native() bool { return !c.old.Load() }

// Ready returns nil once the version is known.
func (c *Cluster) Ready() error {
	if c.version.Load() == nil {
		return errors.New("cluster: the version of Kubernetes is not known yet")
	}
	return nil
}

// Run asks for the version now and then, until ctx ends.
func (c *Cluster) Run(ctx context.Context) {
	for {
		interval := versionInterval
		if err := c.ask(ctx); err != nil && ctx.Err() == nil {
			c.metrics.failed(forVersion)
			c.seldom.Error("the version of Kubernetes is not to be had", zap.Error(err))
			interval = versionRetry
		}
		if !pause(ctx, jittered(interval), nil) {
			return
		}
	}
}

func (c *Cluster) ask(ctx context.Context) error {
	info, err := c.client.Version(ctx)
	if err != nil {
		return err
	}
	native, err := hasNativeSidecars(info)
	if err != nil {
		return err
	}
	c.old.Store(!native)
	if before := c.version.Swap(&info.GitVersion); before == nil || *before != info.GitVersion {
		c.log.Info("Kubernetes", zap.String("version", info.GitVersion), zap.Bool("nativeSidecars", native))
	}
	return nil
}

// hasNativeSidecars reads the version. Some vendors write a sign after the number, such as 29+.
func hasNativeSidecars(info *version.Info) (bool, error) {
	digits := strings.IndexFunc(info.Minor+" ", func(r rune) bool { return r < '0' || r > '9' })
	minor, err := strconv.Atoi(info.Minor[:digits])
	major, majorErr := strconv.Atoi(info.Major)
	if err != nil || majorErr != nil {
		return false, fmt.Errorf("the API server says that it is version %q.%q, which are no numbers", info.Major, info.Minor)
	}
	return major > 1 || major == 1 && minor >= nativeMinor, nil
}

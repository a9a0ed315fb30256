//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// releaseName is the chart's release, and what its objects' names begin with.
const (
	releaseName      = "readthrough"
	releaseNamespace = "e2e-release"

	injector = releaseName + "-injector" // its Deployment
	gateway  = releaseName + "-gateway"  // its Deployment and Service
)

// release is the chart as it is installed. Upgrades change what they name and keep the rest, as those of people do.
type release struct {
	namespace string
	chart     string
	values    map[string]any
}

// helm runs the one in PATH, or the pinned one.
func helm(ctx context.Context, args ...string) (string, error) {
	name := "helm"
	if _, err := exec.LookPath(name); err != nil {
		name, args = "go", append([]string{"tool", "-modfile=../tools/kubernetes/go.mod", "helm"}, args...)
	}
	return command(ctx, "", name, args...)
}

// apply installs the chart, or upgrades it, and waits until all of it is ready.
func (r *release) apply(t testing.TB, changes map[string]any) string {
	t.Helper()
	merge(r.values, changes)
	raw, err := yaml.Marshal(r.values)
	must(t, err)
	file := filepath.Join(t.TempDir(), "values.yaml")
	must(t, os.WriteFile(file, raw, 0o600))
	out, err := helm(t.Context(), "upgrade", "--install", releaseName, r.chart, "-n", r.namespace, "-f", file, "--wait", "--timeout", "3m")
	must(t, err)
	return out
}

// merge puts changes into values, field by field.
func merge(values, changes map[string]any) {
	for name, change := range changes {
		inner, is := change.(map[string]any)
		if outer, has := values[name].(map[string]any); is && has {
			merge(outer, inner)
			continue
		}
		values[name] = change
	}
}

// newRelease installs the chart in a namespace that has what the gateway needs.
func newRelease(t testing.TB, i images, s *stores, configs ...any) *release {
	t.Helper()
	if found := kubectl(t, "get", "mutatingwebhookconfigurations", "-o", "name"); strings.Contains(found, "/"+releaseName) {
		t.Fatalf("this cluster has an injector already, and there can be one only; remove it first:\n%s", found)
	}
	r := &release{namespace: newNamespace(t, strings.TrimPrefix(releaseNamespace, "e2e-")), chart: filepath.Join(repository(t), "charts/readthrough")}
	apply(t, r.namespace, s.secret())
	colon := strings.LastIndex(i.sidecar, ":")
	r.values = map[string]any{
		"image":   map[string]any{"repository": i.sidecar[:colon], "tag": i.sidecar[colon+1:]},
		"configs": configs,
		"gateway": map[string]any{
			"enabled": true, "config": s.configuration(userMap), "originSecret": "stores", "redisSecret": "stores",
		},
	}
	t.Cleanup(func() {
		if !keep {
			removeRelease(t)
		}
	})
	t.Logf("installed:%s", indented(r.apply(t, nil)))
	return r
}

// removeRelease uninstalls the chart if it is there, which a run that ended early may have left.
func removeRelease(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if _, err := helm(ctx, "uninstall", releaseName, "-n", releaseNamespace, "--ignore-not-found", "--wait"); err != nil {
		t.Error(err)
	}
}

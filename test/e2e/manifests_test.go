//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// installsManifests is the way without Helm: the injector by kustomize, and the example of an application with its stores. Both are in
// namespaces of these tests, with images of this run in place of those that nobody may be able to pull here.
func (w *world) installsManifests(t *testing.T) {
	removeRelease(t) // where uninstalling was not to be run
	system, shop := newNamespace(t, "manifests"), newNamespace(t, "shop")
	var base struct {
		Replacements []any `json:"replacements"`
	}
	raw, err := os.ReadFile(filepath.Join(repository(t), "manifests/injector/kustomization.yaml"))
	must(t, err)
	must(t, yaml.Unmarshal(raw, &base))

	w.applyOverlay(t, "manifests/injector", system, base.Replacements, map[string]string{"readthrough": w.sidecar})
	kubectl(t, "rollout", "status", "-n", system, "deployment/"+injector, "--timeout=90s")
	w.applyOverlay(t, "manifests/example", shop, nil, map[string]string{"redis": w.redis, "postgres": w.postgres})
	for _, what := range []string{"statefulset/redis", "deployment/postgres", "deployment/shop"} {
		kubectl(t, "rollout", "status", "-n", shop, what, "--timeout=120s")
	}
	pods := awaitPods(t, shop, "app=shop")
	for _, p := range pods {
		isNative(t, p)
		eventually(t, time.Minute, func() error {
			said, err := command(t.Context(), "", "kubectl", "logs", "-n", shop, p.Name, "-c", "shop", "--tail=5")
			return errors.Join(err, contains(said, `42: {"user_id":42,"status":"active","tier":"free"}`))
		})
	}
}

// applyOverlay applies a folder of manifests in a namespace, with other images.
func (w *world) applyOverlay(t *testing.T, folder, namespace string, replacements []any, replaced map[string]string) {
	t.Helper()
	overlay := t.TempDir()
	base, err := filepath.Rel(overlay, filepath.Join(repository(t), folder))
	must(t, err)
	var images []map[string]string
	for name, by := range replaced {
		colon := strings.LastIndex(by, ":")
		images = append(images, map[string]string{"name": name, "newName": by[:colon], "newTag": by[colon+1:]})
	}
	raw, err := yaml.Marshal(map[string]any{
		"resources": []string{base}, "images": images, "replacements": replacements, "namespace": namespace,
		"labels": []any{map[string]any{"pairs": map[string]string{ours: "true"}}},
	})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), raw, 0o600))
	t.Cleanup(func() {
		if keep {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if _, err := command(ctx, "", "kubectl", "delete", "-k", overlay, "--ignore-not-found", "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, "apply", "-k", overlay)
}

//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// installsManifests is the way without Helm: the injector by kustomize, and the example, with images of this run in place of those
// that nobody may be able to pull here.
func (w *world) installsManifests(t *testing.T) {
	w.applyOverlay(t, "manifests/injector", map[string]string{"readthrough": w.sidecar})
}

// applyOverlay applies a folder of manifests with other images.
func (w *world) applyOverlay(t *testing.T, folder string, replaced map[string]string) {
	t.Helper()
	overlay := t.TempDir()
	base, err := filepath.Rel(overlay, filepath.Join(repository(t), folder))
	must(t, err)
	var images []map[string]string
	for name, by := range replaced {
		colon := strings.LastIndex(by, ":")
		images = append(images, map[string]string{"name": name, "newName": by[:colon], "newTag": by[colon+1:]})
	}
	raw, err := yaml.Marshal(map[string]any{"resources": []string{base}, "images": images})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), raw, 0o600))
	t.Cleanup(func() {
		if keep {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if _, err := command(ctx, "", "kubectl", "delete", "-k", overlay, "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, "apply", "-k", overlay)
}

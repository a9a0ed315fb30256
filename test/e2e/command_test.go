//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkSays is the first mistake that this machine's build of the program finds in a configuration, without the file's name.
func (w *world) checkSays(t testing.TB, configuration string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), configFile)
	must(t, os.WriteFile(file, []byte(configuration), 0o600))
	_, err := command(t.Context(), "", w.program, "check", "--offline", "--config", file)
	if err == nil {
		t.Fatalf("sidecar check accepts\n%s", configuration)
	}
	_, said, is := strings.Cut(err.Error(), "\n"+file)
	if !is {
		t.Fatalf("sidecar check says nothing of the file:\n%v", err)
	}
	said, _, _ = strings.Cut(said, "\n")
	return said
}

// injectsByCommand: what the command writes is applied, in a cluster without a webhook.
func (w *world) injectsByCommand(t *testing.T) {
	namespace := newNamespace(t, "gitops")
	w.stores.prepare(t, namespace)
	plain := manifest(t, deployment(w.appPod("app", "serve", "user:21")), job(w.appPod("once", "do", "GET", "user:22")))
	injected, err := command(t.Context(), plain, w.program, "inject", "-f", "-", "--image", w.sidecar)
	must(t, err)
	kubectlInput(t, injected, "apply", "-n", namespace, "-f", "-")
	pod := awaitPods(t, namespace, "app=app")[0]
	isNative(t, pod)
	if now := servesOn(t, namespace, pod.Name, serving{}); now.Value != "user 21" {
		t.Fatalf("it reads %q", now.Value)
	}
	kubectl(t, "wait", "-n", namespace, "--for=condition=complete", "job/once", "--timeout=90s")
	if got := strings.TrimSpace(kubectl(t, "logs", "-n", namespace, "job/once", "-c", "app")); got != "user 22" {
		t.Fatalf("the Job's application reads %q", got)
	}
}

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// endsAfterTheApplication: an application that works on after SIGTERM has its Redis until it is done, and the pod ends
// right after it.
func (w *world) endsAfterTheApplication(t *testing.T) {
	const linger = 4 * time.Second
	namespace := newNamespace(t, "ends")
	w.stores.prepare(t, namespace)
	for _, form := range []string{"native", "ordinary"} {
		pod := w.appPod(form, "serve", "user:23")
		pod.Annotations["readthrough/form"] = form
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "LINGER", Value: linger.String()}}
		apply(t, namespace, pod)
	}
	for _, form := range []string{"native", "ordinary"} {
		awaitPods(t, namespace, "app="+form)
		before := servesOn(t, namespace, form, serving{})

		type said struct {
			logs string
			err  error
		}
		told := make(chan said, 1)
		go func() {
			logs, err := command(t.Context(), "", "kubectl", "logs", "-n", namespace, form, "-c", "app", "--follow", "--tail=1")
			told <- said{logs, err}
		}()
		began := time.Now()
		kubectl(t, "delete", "pod", "-n", namespace, form, "--timeout=25s") // less than the grace period, which is 30 s
		took := time.Since(began).Round(100 * time.Millisecond)
		all := <-told
		must(t, all.err)
		lines := strings.Split(strings.TrimSpace(all.logs), "\n")
		var last serving
		must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
		if !last.Ended || last.Errors != before.Errors || last.Nulls != before.Nulls || took < linger {
			t.Fatalf("%s: after %v the application has said\n%s", form, took, lines[len(lines)-1])
		}
		t.Logf("%s: the application worked on for %v without an error, and the pod was gone after %v", form, linger, took)
	}
}

// followsAnnotations: what a pod says goes before the chart's values, and the application learns by a variable where its Redis is.
func (w *world) followsAnnotations(t *testing.T) {
	namespace := newNamespace(t, "annotations")
	other := configMap(w.stores.configuration(userMap))
	other.Name, other.Data = "other", map[string]string{"file.yaml": other.Data[configFile]}
	secret := w.stores.secret()
	secret.StringData = map[string]string{"database": w.stores.originURL(), "login": redisPassword}
	apply(t, namespace, other, secret)

	pod := w.appPod("app", "serve", "user:24")
	pod.Annotations = map[string]string{
		"readthrough/config":        "other/file.yaml",
		"readthrough/origin-secret": "stores/database",
		"readthrough/redis-secret":  "stores/login",
		"readthrough/port":          "7380",
		"readthrough/admin-port":    "7381",
		"readthrough/debug-port":    "7382",
		"readthrough/env":           "REDIS_ADDRESS=localhost:7380",
		"readthrough/memory-limit":  "96Mi",
		"readthrough/cpu-request":   "30m",
		"readthrough/log-level":     "debug",
	}
	apply(t, namespace, pod)
	injected := awaitPods(t, namespace, "app=app")[0]
	if now := servesOn(t, namespace, pod.Name, serving{}); now.Value != "user 24" {
		t.Fatalf("it reads %q", now.Value)
	}
	got := injected.Spec.InitContainers[0].Resources
	if limit, request := got.Limits.Memory().String(), got.Requests.Cpu().String(); limit != "96Mi" || request != "30m" {
		t.Fatalf("the memory limit is %s and the CPU request %s", limit, request)
	}
	must(t, contains(kubectl(t, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:7381/proxy/metrics", namespace, pod.Name)),
		"readthrough_build_info"))
}

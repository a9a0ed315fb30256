//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// injectsByNamespace: the namespace's label asks for all of its pods, and a pod's own goes before it.
func (w *world) injectsByNamespace(t *testing.T) {
	namespace := newNamespace(t, "labelled", injectLabel+": enabled")
	w.stores.prepare(t, namespace)
	silent, out := w.appPod("silent", "serve", "user:12"), w.appPod("out", "serve", "user:12")
	delete(silent.Labels, injectLabel)
	out.Labels[injectLabel] = "disabled"
	apply(t, namespace, silent, out)
	isNative(t, awaitPods(t, namespace, "app=silent")[0])
	servesOn(t, namespace, "silent", serving{})
	isNotInjected(t, awaitPods(t, namespace, "app=out")[0])
}

func isNotInjected(t testing.TB, pod corev1.Pod) {
	t.Helper()
	if _, err := sidecarStatus(pod); err == nil {
		t.Fatalf("pod %s has a sidecar, and must not", pod.Name)
	}
}

// injectsOrdinaryContainers is the form for clusters without native sidecars.
func (w *world) injectsOrdinaryContainers(t *testing.T) {
	namespace := newNamespace(t, "ordinary")
	w.stores.prepare(t, namespace)
	pod := w.appPod("app", "serve", "user:13")
	pod.Annotations["readthrough/form"] = "ordinary"
	apply(t, namespace, deployment(pod))
	injected := awaitPods(t, namespace, "app=app")[0]
	if first := injected.Spec.Containers[0].Name; first != sidecarName || len(injected.Spec.InitContainers) != 0 {
		t.Fatalf("the first container is %s, and %d are init containers", first, len(injected.Spec.InitContainers))
	}
	if now := servesOn(t, namespace, injected.Name, serving{}); now.Errors != 0 || now.Value != "user 13" {
		t.Fatalf("it reads %q, with %d errors, the last being %q", now.Value, now.Errors, now.LastError)
	}

	never := w.appPod("once", "do", "GET", "user:13")
	never.Annotations["readthrough/form"] = "ordinary"
	apply(t, namespace, job(never))
	must(t, contains(awaitEvent(t, namespace, "job/once"), "readthrough/form", "restartPolicy"))
}

// deniesWithReasons: whoever made the pod, or looks at the events of what makes it, is told what is wrong and what helps.
func (w *world) deniesWithReasons(t *testing.T) {
	namespace := newNamespace(t, "denied")
	apply(t, namespace, w.stores.secret(), deployment(w.appPod("early", "serve", "user:14")))
	said := awaitEvent(t, namespace, "replicaset")
	must(t, contains(said, configName, "kubectl", namespace))
	t.Logf("without a ConfigMap: %s", said)
	apply(t, namespace, configMap(w.stores.configuration(userMap)))
	isNative(t, awaitPods(t, namespace, "app=early")[0]) // its controller has tried again

	for _, wrong := range []struct {
		name   string
		change func(*corev1.Pod)
		says   string
	}{
		{"annotation", func(p *corev1.Pod) { p.Annotations["readthrough/memory-limit"] = "lots" }, "readthrough/memory-limit"},
		{"unknown", func(p *corev1.Pod) { p.Annotations["readthrough/memory-limits"] = "128Mi" }, "readthrough/memory-limit"},
		{"label", func(p *corev1.Pod) { p.Labels[injectLabel] = "true" }, "enabled"},
		{"key", func(p *corev1.Pod) { p.Annotations["readthrough/config"] = configName + "/other.yaml" }, configFile},
		{"port", func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 6380}}
		}, "6380"},
		{"network", func(p *corev1.Pod) { p.Spec.HostNetwork = true }, "hostNetwork"},
	} {
		pod := w.appPod(wrong.name, "serve", "user:14")
		wrong.change(pod)
		said := refused(t, manifest(t, pod), "apply", "-n", namespace, "-f", "-")
		must(t, contains(said, "admission webhook", wrong.says))
		_, reason, _ := strings.Cut(said, "denied the request: ")
		t.Logf("wrong %s: %s", wrong.name, reason)
	}
}

// awaitEvent waits for the event of a controller that cannot make its pod, and gives its message. Of is the controller, or
// its kind alone.
func awaitEvent(t testing.TB, namespace, of string) string {
	t.Helper()
	kind, name, _ := strings.Cut(of, "/")
	var message string
	eventually(t, time.Minute, func() error {
		events, err := lookUp[corev1.EventList](t.Context(), "events", "-n", namespace, "--field-selector", "reason=FailedCreate")
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if strings.EqualFold(e.InvolvedObject.Kind, kind) && (name == "" || e.InvolvedObject.Name == name) {
				message = e.Message
				return nil
			}
		}
		return fmt.Errorf("%s has no event FailedCreate", of)
	})
	return message
}

// injectsOlderSidecars: an image from before this version runs in a pod that this version has injected.
func (w *world) injectsOlderSidecars(t *testing.T) {
	namespace := newNamespace(t, "older")
	w.stores.prepare(t, namespace)
	pod := w.appPod("app", "serve", "user:15")
	pod.Annotations["readthrough/image"] = w.older
	apply(t, namespace, pod)
	injected := awaitPods(t, namespace, "app=app")[0]
	isNative(t, injected)
	if !slices.ContainsFunc(injected.Spec.InitContainers, func(c corev1.Container) bool { return c.Image == w.older }) {
		t.Fatalf("no init container has the image %s", w.older)
	}
	status, err := sidecarStatus(injected)
	must(t, err)
	// Runtimes spell the image's name in their own way, so its identity tells that it is not this version's.
	current, err := sidecarStatus(object[corev1.Pod](t, "pod", "-n", w.resident.namespace, w.resident.pod))
	must(t, err)
	if status.ImageID == "" || status.ImageID == current.ImageID {
		t.Fatalf("the sidecar runs %s (%s), want %s; this version's is %s", status.Image, status.ImageID, w.older, current.ImageID)
	}
	if now := servesOn(t, namespace, pod.Name, serving{}); now.Errors != 0 || now.Value != "user 15" {
		t.Fatalf("it reads %q, with %d errors, the last being %q", now.Value, now.Errors, now.LastError)
	}
}

// acceptsGoldenPods: what the decision tests hold for right is right for a real API server too. There must be no webhook when this runs.
func (w *world) acceptsGoldenPods(t *testing.T) {
	namespace := newNamespace(t, "golden", "pod-security.kubernetes.io/enforce: privileged")
	pods, err := filepath.Glob(filepath.Join(repository(t), "internal/inject/testdata/cases/*/injected.yaml"))
	must(t, err)
	if len(pods) < 20 {
		t.Fatalf("only %d golden pods were found", len(pods))
	}
	var wrong []error
	for _, file := range pods {
		if _, err := command(t.Context(), "", "kubectl", "create", "--dry-run=server", "-n", namespace, "-f", file); err != nil {
			wrong = append(wrong, err)
		}
	}
	must(t, errors.Join(wrong...))
	t.Logf("%d pods", len(pods))
}

// servesByGateway: pods without a sidecar reach the same, if they say who they are.
func (w *world) servesByGateway(t *testing.T) {
	namespace := newNamespace(t, "outside")
	clients := []struct{ name, password, want string }{
		{"nobody", "", "NOAUTH"},
		{"stranger", "a-wrong-password", "WRONGPASS"},
		{"somebody", redisPassword, "user 16"},
	}
	for _, client := range clients {
		pod := w.appPod(client.name, "do", "GET", "user:16")
		w.throughGateway(pod, client.password)
		pod.Spec.RestartPolicy = corev1.RestartPolicyNever
		apply(t, namespace, pod)
	}
	for _, client := range clients {
		eventually(t, time.Minute, func() error {
			said, err := command(t.Context(), "", "kubectl", "logs", "-n", namespace, client.name)
			return errors.Join(err, contains(said, client.want))
		})
	}
}

// throughGateway makes an application one that has no sidecar and knows the gateway.
func (w *world) throughGateway(pod *corev1.Pod, password string) {
	delete(pod.Labels, injectLabel)
	pod.Spec.Containers[0].Env = []corev1.EnvVar{
		{Name: "REDIS_ADDRESS", Value: fmt.Sprintf("%s.%s.svc:6380", gateway, w.release.namespace)},
		{Name: "REDIS_PASSWORD", Value: password},
	}
}

// testsItself is what people run after an installation.
func (w *world) testsItself(t *testing.T) {
	out, err := helm(t.Context(), "test", releaseName, "-n", w.release.namespace, "--timeout", "2m")
	must(t, err)
	must(t, contains(out, "Succeeded"))
}

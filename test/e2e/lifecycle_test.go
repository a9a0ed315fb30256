//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
)

// rotatesCertificates upgrades the release to certificates that live for a minute, and replaces the pods of the injector and of the gateway, all
// while pods are created. None of them may be refused, nor be created without a sidecar.
func (w *world) rotatesCertificates(t *testing.T) {
	namespace := newNamespace(t, "load")
	w.stores.prepare(t, namespace)
	load := w.createPods(t, namespace)

	w.release.apply(t, map[string]any{"injector": map[string]any{
		"logLevel": "debug", "certificates": map[string]any{"lifetime": "60s", "settle": "5s"},
	}})
	t.Logf("upgraded: %d admissions so far", load.admitted())
	load.check(t)

	certificates, trusted := map[string]bool{}, map[string]bool{}
	eventually(t, 4*time.Minute, func() error {
		load.check(t)
		secrets, err := lookUp[corev1.SecretList](t.Context(), "secrets", "-n", w.release.namespace, "-l", "app.kubernetes.io/instance="+releaseName)
		if err != nil {
			return err
		}
		for _, s := range secrets.Items {
			if certificate := s.Data["tls.crt"]; len(certificate) > 0 {
				certificates[string(certificate)] = true
			}
		}
		webhooks, err := lookUp[admissionv1.MutatingWebhookConfiguration](t.Context(), "mutatingwebhookconfiguration", releaseName)
		if err != nil {
			return err
		}
		trusted[string(webhooks.Webhooks[0].ClientConfig.CABundle)] = true
		if len(certificates) < 3 || len(trusted) < 3 {
			return fmt.Errorf("%d certificates and %d CA bundles were seen", len(certificates), len(trusted))
		}
		return nil
	})
	t.Logf("%d certificates and %d CA bundles later: %d admissions", len(certificates), len(trusted), load.admitted())

	pods := object[corev1.PodList](t, "pods", "-n", w.release.namespace)
	kubectl(t, "rollout", "restart", "-n", w.release.namespace, "deployment/"+injector, "deployment/"+gateway)
	for _, p := range pods.Items {
		kubectl(t, "wait", "-n", w.release.namespace, "--for=delete", "pod/"+p.Name, "--timeout=2m")
	}
	t.Logf("every pod of the release replaced: %s", load.end(t))

	apply(t, namespace, w.appPod("app", "serve", "user:17"))
	isNative(t, awaitPods(t, namespace, "app=app")[0])
}

// admissions are pods created side by side, as far as a dry run goes: through all of admission, but not into etcd.
type admissions struct {
	began   time.Time
	stop    chan struct{}
	clients sync.WaitGroup

	mu     sync.Mutex
	passed int
	failed []error
}

// createPods has several clients at once, each of which sends one pod after the other.
func (w *world) createPods(t *testing.T, namespace string) *admissions {
	t.Helper()
	const clients, each = 6, 50
	var batch []any
	for i := range each {
		batch = append(batch, w.appPod(fmt.Sprintf("pod-%d", i), "serve", "user:17"))
	}
	pods := manifest(t, batch...)
	ctx, cancel := context.WithCancel(t.Context())
	a := &admissions{began: time.Now(), stop: make(chan struct{})}
	for range clients {
		a.clients.Go(func() {
			for ctx.Err() == nil && !a.stopped() {
				a.create(ctx, pods, namespace, each)
			}
		})
	}
	t.Cleanup(func() { cancel(); a.clients.Wait() })
	return a
}

// create sends a number of pods.
func (a *admissions) create(ctx context.Context, pods, namespace string, number int) {
	out, err := command(ctx, pods, "kubectl", "create", "--dry-run=server", "-n", namespace, "-f", "-",
		"-o", `jsonpath={.metadata.labels.readthrough/injected}{"\n"}`)
	if ctx.Err() != nil {
		return // the test is over
	}
	if n := strings.Count(out, "true\n"); err == nil && n != number {
		err = fmt.Errorf("%d of %d pods were injected:\n%s", n, number, out)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failed = append(a.failed, fmt.Errorf("%s: %w", time.Now().Format(time.TimeOnly), err))
		return
	}
	a.passed += number
}

func (a *admissions) stopped() bool {
	select {
	case <-a.stop:
		return true
	default:
		return false
	}
}

func (a *admissions) admitted() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.passed
}

// check fails the test if an admission has failed.
func (a *admissions) check(t testing.TB) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	must(t, errors.Join(a.failed...))
}

// end has the clients send what they have begun, and says how many pods there were.
func (a *admissions) end(t testing.TB) string {
	t.Helper()
	close(a.stop)
	a.clients.Wait()
	a.check(t)
	if a.passed == 0 {
		t.Fatal("no pod was created")
	}
	took := time.Since(a.began)
	return fmt.Sprintf("%d admissions in %v, %.0f a second", a.passed, took.Round(time.Second), float64(a.passed)/took.Seconds())
}

// restartsWithBadConfiguration: where nobody has checked it, a bad file takes nothing down, not even a sidecar that starts anew.
func (w *world) restartsWithBadConfiguration(t *testing.T) {
	namespace := newNamespace(t, "bad")
	w.stores.prepare(t, namespace)
	yes := true
	pod := w.appPod("app", "serve", "user:18")
	pod.Spec.ShareProcessNamespace = &yes // so that the application can kill the sidecar
	apply(t, namespace, pod)
	awaitPods(t, namespace, "app=app")
	before := servesOn(t, namespace, pod.Name, serving{})

	apply(t, namespace, configMap("apiVersion: readthrough/v1\nmaps: nonsense\n"))
	status := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:6381/proxy/readyz?verbose", namespace, pod.Name)
	eventually(t, 3*time.Minute, func() error {
		said, err := command(t.Context(), "", "kubectl", "get", "--raw", status)
		return errors.Join(err, contains(said, "refused"))
	})
	servesOn(t, namespace, pod.Name, before)

	kubectl(t, "exec", "-n", namespace, pod.Name, "-c", "app", "--", "/app", "kill", "sidecar")
	eventually(t, time.Minute, func() error {
		if n := restarts(t, namespace, pod.Name); n != 1 {
			return fmt.Errorf("the sidecar has been restarted %d times", n)
		}
		got, err := tryDo(t, namespace, pod.Name, "GET", "user:19")
		if err == nil && got != "user 19" {
			err = fmt.Errorf("GET user:19 answers %q", got)
		}
		return err
	})
	after, err := served(t, namespace, pod.Name)
	must(t, err)
	t.Logf("killed: the application met %d errors", after.Errors-before.Errors)
	servesOn(t, namespace, pod.Name, after)
	must(t, contains(kubectl(t, "get", "--raw", status), "refused"))
	if n := restarts(t, namespace, pod.Name); n != 1 {
		t.Fatalf("the sidecar has been restarted %d times", n)
	}
}

// startsWithoutInjector: with failurePolicy Ignore a pod is created without a sidecar while nobody can inject it.
func (w *world) startsWithoutInjector(t *testing.T) {
	namespace := newNamespace(t, "without")
	w.stores.prepare(t, namespace)
	kubectl(t, "scale", "-n", w.release.namespace, "deployment/"+injector, "--replicas=0")
	kubectl(t, "wait", "-n", w.release.namespace, "--for=delete", "pods", "-l", "app.kubernetes.io/component=injector", "--timeout=60s")
	apply(t, namespace, w.appPod("app", "serve", "user:20"))
	isNotInjected(t, awaitPods(t, namespace, "app=app")[0])
}

// uninstalls looks for what may be left: of the release anywhere, and of anything in its namespace.
func (w *world) uninstalls(t *testing.T) {
	before := w.leftovers(t)
	if len(before) < 10 {
		t.Fatalf("before, only this is found, so that nothing can be said of what is left:\n%s", strings.Join(before, "\n"))
	}
	out, err := helm(t.Context(), "uninstall", releaseName, "-n", w.release.namespace, "--wait", "--timeout", "2m")
	must(t, err)
	t.Logf("%s", strings.TrimSpace(out))
	eventually(t, time.Minute, func() error {
		if left := w.leftovers(t); len(left) > 0 {
			return fmt.Errorf("left:\n%s", strings.Join(left, "\n"))
		}
		return nil
	})
}

// leftovers are the objects with the release's labels in the whole cluster, and whatever is in its namespace that neither these tests
// nor Kubernetes put there.
func (w *world) leftovers(t testing.TB) []string {
	t.Helper()
	list := func(scope string, args ...string) []string {
		var kinds []string
		for _, kind := range strings.Fields(kubectl(t, "api-resources", "--verbs=list", "--namespaced="+scope, "-o", "name")) {
			if !strings.HasPrefix(kind, "events") && !strings.HasSuffix(kind, ".metrics.k8s.io") {
				kinds = append(kinds, kind)
			}
		}
		return strings.Fields(kubectl(t, append([]string{"get", strings.Join(kinds, ","), "-o", "name", "--show-kind"}, args...)...))
	}
	const label = "app.kubernetes.io/instance=" + releaseName
	found := slices.Concat(list("false", "-l", label), list("true", "-A", "-l", label), list("true", "-n", w.release.namespace))
	slices.Sort(found)
	return slices.DeleteFunc(slices.Compact(found), func(name string) bool {
		return slices.Contains([]string{"configmap/kube-root-ca.crt", "serviceaccount/default", "secret/stores"}, name)
	})
}

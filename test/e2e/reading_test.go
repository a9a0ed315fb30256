//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// readsThrough is the product in one scenario: a label, a ConfigMap, and an application that knows localhost:6380.
func (w *world) readsThrough(t *testing.T) {
	namespace := newNamespace(t, "reads")
	w.stores.prepare(t, namespace)
	apply(t, namespace, deployment(w.appPod("app", "serve", "user:7")))
	pod := awaitPods(t, namespace, "app=app")[0]
	isNative(t, pod)

	now := servesOn(t, namespace, pod.Name, serving{})
	if now.Value != "user 7" {
		t.Fatalf("the application reads %q, want the row's %q", now.Value, "user 7")
	}
	// The cluster's clocks alone: this machine's may differ. Kubernetes dates pods by whole seconds, rounded down.
	t.Logf("time from pod created to first hit: at most %v, of which the application has run for %v",
		now.FirstHit.Sub(pod.CreationTimestamp.Time).Round(10*time.Millisecond), now.FirstHit.Sub(now.Started).Round(time.Millisecond))
	for _, c := range containers(pod) {
		t.Logf("container %s started after %v", c.Name, c.State.Running.StartedAt.Sub(pod.CreationTimestamp.Time))
	}

	if got := do(t, namespace, pod.Name, "GET", "user:42"); got != "user 42" {
		t.Fatalf("GET user:42 answers %q", got)
	}
	if got := do(t, namespace, pod.Name, "GET", "user:123456789"); got != "(nil)" {
		t.Fatalf("GET of a user that does not exist answers %q", got)
	}
	if got := w.stores.redisCLI(t, "GET", "user:42"); got != "user 42" {
		t.Fatalf("the cluster itself has %q for user:42", got)
	}
	ttl, err := strconv.Atoi(w.stores.redisCLI(t, "TTL", "user:42"))
	if err != nil || ttl <= 3000 || ttl > 3600 {
		t.Fatalf("the TTL of user:42 in the cluster is %d (%v), want an hour less its jitter", ttl, err)
	}
	if got := do(t, namespace, pod.Name, "SET", "e2e:plain", "value"); got != "OK" {
		t.Fatalf("SET answers %q", got)
	}
	if got := w.stores.redisCLI(t, "GET", "e2e:plain"); got != "value" {
		t.Fatalf("what was SET through the sidecar is %q in the cluster", got)
	}
}

// isNative fails the test unless a pod's sidecar is the native one, marked as ours and under the default limit.
func isNative(t testing.TB, pod corev1.Pod) {
	t.Helper()
	for _, c := range pod.Spec.InitContainers {
		if c.Name != sidecarName {
			continue
		}
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			t.Fatalf("pod %s: the init container %s is no sidecar", pod.Name, sidecarName)
		}
		if limit := c.Resources.Limits.Memory().String(); limit != "128Mi" {
			t.Fatalf("pod %s: the sidecar's memory limit is %s", pod.Name, limit)
		}
		if pod.Labels[injectedLabel] != "true" {
			t.Fatalf("pod %s is injected and has no label %s", pod.Name, injectedLabel)
		}
		return
	}
	t.Fatalf("pod %s has no sidecar", pod.Name)
}

// changesConfiguration has a map more, and then a mistake.
func (w *world) changesConfiguration(t *testing.T) {
	namespace := newNamespace(t, "changes")
	w.stores.prepare(t, namespace)
	apply(t, namespace, deployment(w.appPod("app", "serve", "user:8")))
	pod := awaitPods(t, namespace, "app=app")[0].Name
	if got := do(t, namespace, pod, "GET", "tier:8"); got != "(nil)" {
		t.Fatalf("without a map for it, GET tier:8 answers %q", got)
	}
	before := servesOn(t, namespace, pod, serving{})

	const more = `  - {name: tier, key: "tier:<id:int>", query: "SELECT tier FROM users WHERE id = @id", value: column, ttl: 1h, timeout: 2s}` + "\n"
	began := time.Now()
	apply(t, namespace, configMap(w.stores.configuration(userMap+more)))
	eventually(t, 3*time.Minute, func() error {
		got, err := tryDo(t, namespace, pod, "GET", "tier:8")
		if err == nil && got != "free" {
			err = fmt.Errorf("GET tier:8 answers %q", got)
		}
		return err
	})
	t.Logf("the new map works %v after kubectl apply", time.Since(began).Round(time.Second))

	bad := strings.Replace(userMap, "timeout: 2s", "timeout: 2 parsecs", 1)
	said := refused(t, manifest(t, configMap(w.stores.configuration(bad))), "apply", "-n", namespace, "-f", "-")
	must(t, contains(said, w.checkSays(t, w.stores.configuration(bad))))
	t.Logf("a bad one: %s", indented(said))
	if now := object[corev1.ConfigMap](t, "configmap", "-n", namespace, configName).Data[configFile]; !strings.Contains(now, "tier:<id:int>") {
		t.Fatalf("the ConfigMap is now\n%s", now)
	}
	servesOn(t, namespace, pod, before)
	if n := restarts(t, namespace, pod); n != 0 {
		t.Fatalf("the sidecar was restarted %d times", n)
	}
}

// passesBigValues goes far beyond the sidecar's memory limit in one value.
func (w *world) passesBigValues(t *testing.T) {
	namespace := newNamespace(t, "big")
	w.stores.prepare(t, namespace)
	pod := w.appPod("app", "serve", "user:9")
	apply(t, namespace, pod)
	isNative(t, awaitPods(t, namespace, "app=app")[0])
	t.Log(kubectl(t, "exec", "-n", namespace, pod.Name, "-c", "app", "--", "/app", "big", strconv.Itoa(256<<20)))
	servesOn(t, namespace, pod.Name, serving{})
	if n := restarts(t, namespace, pod.Name); n != 0 {
		t.Fatalf("the sidecar was restarted %d times", n)
	}
}

// completesJobs: the sidecar does not keep a Job from ending.
func (w *world) completesJobs(t *testing.T) {
	namespace := newNamespace(t, "job")
	w.stores.prepare(t, namespace)
	apply(t, namespace, job(w.appPod("once", "do", "GET", "user:11")))
	kubectl(t, "wait", "-n", namespace, "--for=condition=complete", "job/once", "--timeout=90s")
	if got := strings.TrimSpace(kubectl(t, "logs", "-n", namespace, "job/once", "-c", "app")); got != "user 11" {
		t.Fatalf("the Job's application reads %q", got)
	}
	pod := object[corev1.PodList](t, "pods", "-n", namespace).Items[0]
	isNative(t, pod)
	if pod.Status.Phase != corev1.PodSucceeded {
		t.Fatalf("the Job's pod is %s", pod.Status.Phase)
	}
}

// job runs a pod to its end.
func job(pod *corev1.Pod) *batchv1.Job {
	template := corev1.PodTemplateSpec{ObjectMeta: *pod.ObjectMeta.DeepCopy(), Spec: pod.Spec}
	template.Name, template.Spec.RestartPolicy = "", corev1.RestartPolicyNever
	once := int32(0)
	return &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name},
		Spec:       batchv1.JobSpec{Template: template, BackoffLimit: &once},
	}
}

// outlastsItsStores: while Redis and PostgreSQL are gone pods stay Ready and new ones start; when they are back, so are the answers.
func (w *world) outlastsItsStores(t *testing.T) {
	s := newStores(t, w.images, "fragile")
	namespace := newNamespace(t, "outage")
	s.prepare(t, namespace)
	apply(t, namespace, deployment(w.appPod("app", "serve", "user:10")))
	old := awaitPods(t, namespace, "app=app")[0]
	servesOn(t, namespace, old.Name, serving{})

	s.scale(t, false)
	eventually(t, time.Minute, func() error {
		now, err := served(t, namespace, old.Name)
		if err == nil && now.Errors == 0 {
			err = errors.New("the application has met no error yet")
		}
		return err
	})
	kubectl(t, "scale", "-n", namespace, "deployment/app", "--replicas=2")
	eventually(t, time.Minute, func() error {
		pods, err := lookUp[corev1.PodList](t.Context(), "pods", "-n", namespace)
		if err == nil && len(pods.Items) != 2 {
			err = fmt.Errorf("there are %d pods", len(pods.Items))
		}
		return err
	})
	pods := awaitPods(t, namespace, "app=app")
	t.Logf("a new pod is Ready while Redis and PostgreSQL are gone")
	was := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == old.Name })
	if was < 0 {
		t.Fatalf("pod %s has been replaced", old.Name)
	}
	pods[was] = old // as it was before the outage
	staysReady(t, namespace, pods)

	s.scale(t, true)
	for _, p := range pods {
		var before serving
		eventually(t, time.Minute, func() (err error) {
			was := before
			if before, err = served(t, namespace, p.Name); err == nil && (before.Errors != was.Errors || before.Value != "user 10") {
				err = fmt.Errorf("errors still: %d, the last %s", before.Errors, before.LastError)
			}
			return err
		})
		if now := servesOn(t, namespace, p.Name, before); now.Value != "user 10" {
			t.Fatalf("pod %s reads %q", p.Name, now.Value)
		}
		if n := restarts(t, namespace, p.Name); n != 0 {
			t.Fatalf("the sidecar of pod %s was restarted %d times", p.Name, n)
		}
	}
}

// staysReady looks at pods for some time: they are Ready, and have been so ever since they were looked up.
func staysReady(t testing.TB, namespace string, pods []corev1.Pod) {
	t.Helper()
	const long = 30 * time.Second // more than any probe needs to give up
	ends := time.Now().Add(long)
	eventually(t, 2*long, func() error {
		for _, before := range pods {
			now := object[corev1.Pod](t, "pod", "-n", namespace, before.Name)
			if is, was := readiness(now), readiness(before); is != was {
				t.Fatalf("pod %s is no longer Ready, or was not for a while: %+v, before %+v", now.Name, is, was)
			}
		}
		if left := time.Until(ends); left > 0 {
			return fmt.Errorf("%v left", left)
		}
		return nil
	})
}

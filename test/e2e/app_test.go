//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What the injector writes and reads.
const (
	injectLabel   = "readthrough/inject"
	injectedLabel = "readthrough/injected"
	sidecarName   = "readthrough"
	configName    = "readthrough"
	configFile    = "readthrough.yaml"
)

// userMap is a map as the tests use it; its value is the column of the row.
const userMap = `  - {name: user, key: "user:<id:int>", query: "SELECT name FROM users WHERE id = @id", value: column, ttl: 1h, timeout: 2s}` + "\n"

// configuration is a file for sidecars before s.
func (s *stores) configuration(maps string) string {
	return fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%q]}\norigins: [{name: main, url: \"${ORIGIN_URL}\"}]\nmaps:\n%s", s.redisAddress(), maps)
}

// configMap is the ConfigMap that injected pods of its namespace mount, labelled so that it is validated.
func configMap(configuration string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: configName, Labels: map[string]string{"readthrough/config": "true"}},
		Data:       map[string]string{configFile: configuration},
	}
}

// secret holds what the annotations of appPod name.
func (s *stores) secret() *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: "stores"},
		StringData: map[string]string{"url": s.originURL(), "password": redisPassword},
	}
}

// prepare puts into a namespace what an injected pod needs there.
func (s *stores) prepare(t testing.TB, namespace string) {
	t.Helper()
	apply(t, namespace, configMap(s.configuration(userMap)), s.secret())
}

// appPod is a pod that asks for injection and knows nothing more of it. Under Pod Security "restricted", as its namespace.
func (i images) appPod(name string, args ...string) *corev1.Pod {
	yes, no, user := true, false, int64(65532)
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{"app": name, injectLabel: "enabled"},
			Annotations: map[string]string{"readthrough/origin-secret": "stores", "readthrough/redis-secret": "stores"},
		},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "app", Image: i.app, Args: args,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

// deployment runs a pod once.
func deployment(pod *corev1.Pod) *appsv1.Deployment {
	template := corev1.PodTemplateSpec{ObjectMeta: *pod.ObjectMeta.DeepCopy(), Spec: pod.Spec}
	template.Name = ""
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": pod.Name}},
			Template: template,
		},
	}
}

// serving is the last line of "app serve"; the application's own file says what it holds.
type serving struct {
	Reads     int       `json:"reads"`
	Nulls     int       `json:"nulls"`
	Errors    int       `json:"errors"`
	LastError string    `json:"lastError"`
	Value     string    `json:"value"`
	SlowestMS int64     `json:"slowestMs"`
	Started   time.Time `json:"started"`
	FirstHit  time.Time `json:"firstHit"`
	Ended     bool      `json:"ended"`
}

// served is how an application fares so far. What it is called by is a pod, or something such as deployment/app.
func served(t testing.TB, namespace, of string) (l serving, err error) {
	t.Helper()
	out, err := command(t.Context(), "", "kubectl", "logs", "-n", namespace, of, "-c", "app", "--tail=1")
	if err != nil {
		return l, err
	}
	if strings.TrimSpace(out) == "" {
		return l, errors.New("the application has said nothing yet")
	}
	return l, json.Unmarshal([]byte(out), &l)
}

// servesOn waits until an application has read many times more, and fails the test if anything went wrong since before.
func servesOn(t testing.TB, namespace, of string, before serving) serving {
	t.Helper()
	var now serving
	eventually(t, time.Minute, func() (err error) {
		now, err = served(t, namespace, of)
		if err == nil && now.Reads < before.Reads+100 {
			err = fmt.Errorf("only %d reads since", now.Reads-before.Reads)
		}
		return err
	})
	if now.Errors != before.Errors || now.Nulls != before.Nulls {
		t.Fatalf("%s: %d errors and %d nulls, the last error being %q; before, there were %d and %d",
			of, now.Errors, now.Nulls, now.LastError, before.Errors, before.Nulls)
	}
	return now
}

// do runs a command of Redis in the application of a pod.
func do(t testing.TB, namespace, of string, args ...string) string {
	t.Helper()
	out, err := tryDo(t, namespace, of, args...)
	must(t, err)
	return out
}

func tryDo(t testing.TB, namespace, of string, args ...string) (string, error) {
	out, err := command(t.Context(), "", "kubectl", append([]string{"exec", "-n", namespace, of, "-c", "app", "--", "/app", "do"}, args...)...)
	return strings.TrimSpace(out), err
}

// awaitPods waits until the pods with a label are Ready, and gives them. The sidecar is one of the containers that must be.
func awaitPods(t testing.TB, namespace, label string) []corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	eventually(t, 90*time.Second, func() (err error) {
		if pods, err = lookUp[corev1.PodList](t.Context(), "pods", "-n", namespace, "-l", label); err != nil {
			return err
		}
		if len(pods.Items) == 0 {
			return errors.New("there is no pod")
		}
		for _, p := range pods.Items {
			if !ready(p) {
				return fmt.Errorf("pod %s is not Ready", p.Name)
			}
		}
		return nil
	})
	return pods.Items
}

func ready(p corev1.Pod) bool { return readiness(p).Status == corev1.ConditionTrue }

// readiness is a pod's condition Ready, with the time since which it is so.
func readiness(p corev1.Pod) (is struct {
	Status corev1.ConditionStatus
	Since  time.Time
},
) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			is.Status, is.Since = c.Status, c.LastTransitionTime.Time
		}
	}
	return is
}

// containers are the states of all containers of a pod, sidecars included.
func containers(p corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
}

// sidecarStatus is what the node says of a pod's sidecar, whichever form it has.
func sidecarStatus(p corev1.Pod) (corev1.ContainerStatus, error) {
	for _, c := range containers(p) {
		if c.Name == sidecarName {
			return c, nil
		}
	}
	return corev1.ContainerStatus{}, fmt.Errorf("pod %s has no container %s", p.Name, sidecarName)
}

// restarts is how often a sidecar was started again.
func restarts(t testing.TB, namespace, pod string) int32 {
	t.Helper()
	status, err := sidecarStatus(object[corev1.Pod](t, "pod", "-n", namespace, pod))
	must(t, err)
	return status.RestartCount
}

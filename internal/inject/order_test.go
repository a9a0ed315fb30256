package inject

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestOrderOfWebhooks has other webhooks add their containers before and after us, at any place, and asks again after each,
// as an API server does. In the end the sidecar stands once, behind the mesh's native proxies and ahead of all that is not
// behind those.
func TestOrderOfWebhooks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	always := new(corev1.ContainerRestartPolicyAlways)
	for round := range 500 {
		arriving := []corev1.Container{
			{Name: "istio-proxy", Image: "istio", RestartPolicy: always},
			{Name: "linkerd-proxy", Image: "linkerd", RestartPolicy: always},
			{Name: "istio-validation", Image: "istio"},
			{Name: "linkerd-network-validator", Image: "linkerd"},
			{Name: "migrate", Image: "migrate"},
			{Name: "logs", Image: "logs", RestartPolicy: always},
		}
		r.Shuffle(len(arriving), func(i, j int) { arriving[i], arriving[j] = arriving[j], arriving[i] })
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
		pod.Name = "web"
		pod.Annotations = map[string]string{"readthrough/env": "REDIS_URL=redis://localhost:6380"}
		history := ""
		for _, c := range arriving[:r.IntN(len(arriving)+1)] {
			at := r.IntN(len(pod.Spec.InitContainers) + 1)
			pod.Spec.InitContainers = slices.Insert(pod.Spec.InitContainers, at, c)
			history += fmt.Sprintf(" %s at %d", c.Name, at)
			if r.IntN(2) == 0 {
				pod = decided(t, pod)
				history += " asked"
			}
		}
		pod = decided(t, pod)
		if d, err := Decide(pod, "shop", testOptions(t)); err != nil || len(d.Patch) > 0 {
			t.Fatalf("round %d,%s: asked again: %+v, %v", round, history, d, err)
		}
		checkOrder(t, history, pod)
	}
}

func checkOrder(t *testing.T, history string, pod *corev1.Pod) {
	t.Helper()
	at, last, sidecars := -1, -1, 0
	for i, c := range pod.Spec.InitContainers {
		switch c.Name {
		case "readthrough":
			at = i
			sidecars++
		case "istio-proxy", "linkerd-proxy":
			last = i
		}
	}
	if sidecars != 1 || at < last || at > last+1 {
		t.Fatalf("%s: %d sidecars, at %d, the last proxy at %d", history, sidecars, at, last)
	}
	for i, c := range pod.Spec.InitContainers {
		told := slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == "REDIS_URL" })
		switch c.Name {
		case "migrate":
			if i > at && !told {
				t.Fatalf("%s: %s is behind the sidecar and was not told", history, c.Name)
			}
		case "logs":
			if !told {
				t.Fatalf("%s: %s was not told", history, c.Name)
			}
		default:
			if told {
				t.Fatalf("%s: %s was told", history, c.Name)
			}
		}
	}
}

// decided is the pod after one more call of the webhook.
func decided(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	d, err := Decide(pod, "shop", testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := json.Marshal(d.Patch)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Patch) == 0 {
		return pod
	}
	var after corev1.Pod
	if err := decode(applied(t, before, patch), &after, true); err != nil {
		t.Fatal(err)
	}
	return &after
}

package main

import (
	"encoding/json"
	"fmt"
	"path"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"readthrough/internal/inject"
)

// TestInjectedVariablesFitEveryFile holds that a file that is right by itself, as it is checked before pods mount it, is right as well with the
// variables of an injected sidecar, however much time the pod has to end.
func TestInjectedVariablesFitEveryFile(t *testing.T) {
	const file = "apiVersion: readthrough/v1\nupstream: {addresses: [\"redis:6379\"]}\n"
	for name, more := range map[string]string{
		"the defaults":               "",
		"all of the grace":           "shutdownDelay: 30s",
		"a grace longer than pods'":  "shutdownGrace: 2h\nshutdownDelay: 1h",
		"no grace":                   "shutdownGrace: 0s",
		"ports of the injector's":    "listen: localhost:6381\nadmin: :6382\ndebug: localhost:6380",
		"for clients from elsewhere": "listen: :6380\nrequireAuth: true",
	} {
		t.Run(name, func(t *testing.T) {
			raw := []byte(file + more)
			if _, err := ParseConfig("readthrough.yaml", raw); err != nil {
				t.Fatalf("by itself: %v", err)
			}
			for _, seconds := range []int64{0, 1, 10, 30, 3600, 1 << 62} {
				t.Run(fmt.Sprintf("%d seconds", seconds), func(t *testing.T) {
					for _, v := range injectedVariables(t, seconds) {
						t.Setenv(v.Name, v.Value)
					}
					c, err := ParseConfig("readthrough.yaml", raw)
					if err != nil {
						t.Fatal(err)
					}
					if c.ShutdownDelay != 0 || c.Listen != "localhost:6380" {
						t.Errorf("shutdownDelay is %s, listen %s", c.ShutdownDelay, c.Listen)
					}
				})
			}
		})
	}
}

// injectedVariables are those that a sidecar gets in a pod that has so many seconds to end.
func injectedVariables(t *testing.T, seconds int64) []corev1.EnvVar {
	t.Helper()
	settings, err := readSettings("", settingFlag{"--image", "image", "registry.example.com/readthrough:1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "app", Image: "shop/web:1"}}, TerminationGracePeriodSeconds: &seconds,
	}}
	d, err := inject.Decide(pod, "shop", inject.Options{Settings: settings, Native: true, Version: "v1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, operation := range d.Patch {
		if path.Base(operation.Path) != "initContainers" {
			continue
		}
		var containers []corev1.Container
		if err := json.Unmarshal(operation.Value, &containers); err != nil || len(containers) != 1 || len(containers[0].Env) == 0 {
			t.Fatalf("%v in %s", err, operation.Value)
		}
		return containers[0].Env
	}
	t.Fatal("the patch has no sidecar")
	return nil
}

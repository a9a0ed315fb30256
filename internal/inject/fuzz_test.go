package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// FuzzAnnotation sets one annotation to any text. Either the pod is denied, or what comes out is a pod as it should be, with
// the variables that were asked for, and is the same when asked again.
func FuzzAnnotation(f *testing.F) {
	for i, o := range options {
		for _, text := range []string{o.fallback, "", "none", "a/b", "A=b,C=d", `A=1\,2`, "A=a/b,B=a/c", "1e3", "128Mi", "0", "-1", "8Ei", "1e-9", "1e2147483647"} {
			f.Add(uint8(i), text)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		o := options[int(which)%len(options)]
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
		pod.Name, pod.Annotations = "web", map[string]string{o.annotation(): text}
		d, err := Decide(pod, "shop", testOptions(t))
		if err != nil {
			if denial := (*Denial)(nil); !errors.As(err, &denial) || denial.Message == "" {
				t.Fatal(err)
			}
			return
		}
		before, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		after := applied(t, before, encode(d.Patch))
		var injected corev1.Pod
		if err := decode(after, &injected, true); err != nil {
			t.Fatal(err)
		}
		checkRestricted(t, after)
		checkReferences(t, &injected)
		var read Settings
		if err := o.set(&read, text); err != nil {
			t.Fatalf("accepted, but %v", err)
		}
		for _, v := range read.Env {
			if !slices.ContainsFunc(injected.Spec.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == v.Name && e.Value == v.Value }) {
				t.Errorf("%v was not told", v)
			}
		}
		if again, err := Decide(&injected, "shop", testOptions(t)); err != nil || len(again.Patch) > 0 {
			t.Errorf("patched twice: %+v, %v", again, err)
		}
	})
}

// FuzzManifest holds of any text what [checkManifest] does.
func FuzzManifest(f *testing.F) {
	for _, pattern := range []string{"testdata/manifests/*/in.yaml", "testdata/*/*/pod.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatalf("%s: %d files, %v", pattern, len(paths), err)
		}
		for _, path := range paths {
			f.Add(read(f, path))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, results, err := Manifest(in, testOptions(t))
		if err != nil {
			return
		}
		if !slices.ContainsFunc(results, func(r Result) bool { return r.Injected }) && !bytes.Equal(in, out) {
			t.Fatalf("nothing was injected, and %q became %q", in, out)
		}
		checkManifest(t, in, out)
	})
}

// FuzzSettings holds that settings are read or refused, that what is read does not contradict itself, and that variables are read
// again as an annotation.
func FuzzSettings(f *testing.F) {
	f.Add([]byte("port: 6380\nenv: {A: b}\nrunAsUser: null\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := ParseSettings(raw)
		if err == nil && s.mistakes(func(key string) string { return key }) != nil {
			t.Errorf("%q gives %+v", raw, s)
		}
		if again, err2 := readVariables(s.Env.String()); err == nil && (err2 != nil || !slices.Equal(again, s.Env)) {
			t.Errorf("%q is written as %q, and read as %q, %v", s.Env, s.Env.String(), again, err2)
		}
	})
}

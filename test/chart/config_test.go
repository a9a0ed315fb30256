package chart

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"readthrough/test/harness"
)

// TestConfigurations has the program check every configuration that is rendered.
func TestConfigurations(t *testing.T) {
	sidecar, err := harness.BuildSidecar(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, harness.MustCA(t).PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	forEachCase(t, func(t *testing.T, objects []object) {
		for _, m := range of[*corev1.ConfigMap](objects) {
			if m.Labels["readthrough/config"] != "true" {
				continue
			}
			if len(m.Data) != 1 {
				t.Errorf("ConfigMap %s has not one configuration: %v", m.Name, m.Data)
			}
			text := strings.Join(slices.Collect(maps.Values(m.Data)), "")
			// Secrets and certificates are mounted in a pod, and are not here.
			text = strings.ReplaceAll(text, "/etc/readthrough/tls/ca.crt", ca)
			for _, variable := range regexp.MustCompile(`\$\{\w+\}`).FindAllString(text, -1) {
				text = strings.ReplaceAll(text, variable, "postgres://reader@db/shop")
			}
			path := filepath.Join(t.TempDir(), "readthrough.yaml")
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := run(t, sidecar, "check", "--offline", "--config", path); err != nil {
				t.Errorf("ConfigMap %s/%s: %v\n%s", m.Namespace, m.Name, err, text)
			}
		}
	})
}

// TestGatewayStarts runs the program with the configuration of manifests/gateway and with what the chart sets in the container, and sees that
// a client has to authenticate. Not the container's are the addresses and the names of the pod, and each Secret is a file of the test's.
func TestGatewayStarts(t *testing.T) {
	objects := decode(t, kustomize(t, manifests("gateway")))
	container := named[*appsv1.Deployment](t, objects, "readthrough-gateway").Spec.Template.Spec.Containers[0]
	folder := t.TempDir()
	config := named[*corev1.ConfigMap](t, objects, "readthrough-gateway").Data["readthrough.yaml"]
	o := harness.SidecarOptions{Config: config}
	for _, e := range container.Env {
		switch {
		case e.ValueFrom != nil || e.Name == "READTHROUGH_CONFIG" || e.Name == "READTHROUGH_LISTEN" || e.Name == "READTHROUGH_ADMIN" || e.Name == "READTHROUGH_DEBUG":
			continue // the harness has addresses of its own, and there is no pod
		case strings.HasSuffix(e.Name, "_FILE"):
			path := filepath.Join(folder, filepath.Base(e.Value))
			if err := os.WriteFile(path, []byte("postgres://reader@localhost:1/shop"), 0o600); err != nil {
				t.Fatal(err)
			}
			o.Env = append(o.Env, e.Name+"="+path)
		default:
			o.Env = append(o.Env, e.Name+"="+e.Value)
		}
	}
	s := harness.NewSidecar(t, o)
	c, err := harness.Dial(t.Context(), s.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if reply, err := c.Do("GET", "usr:profile:42"); err != nil || !strings.HasPrefix(string(reply), "-NOAUTH ") {
		t.Errorf("a client that has not authenticated gets %q, %v", reply, err)
	}
	// As the test of a release asks.
	sidecar, err := harness.BuildSidecar(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, sidecar, "probe", "login", s.Addr()); err != nil || out != "ok\n" {
		t.Errorf("sidecar probe login says %q, %v", out, err)
	}
}

// TestGatewayFindsItsConfig names a ConfigMap of `configs` in gateway.configMap: the gateway reads the key that it has.
func TestGatewayFindsItsConfig(t *testing.T) {
	for name, text := range map[string]string{
		"the sidecars', by its key": "{sidecar: {config: cache/maps.yaml}, gateway: {enabled: true, configMap: cache/maps.yaml}, configs: [{namespace: system, config: C}]}",
		"the sidecars', by name":    "{sidecar: {config: cache/maps.yaml}, gateway: {enabled: true, configMap: cache}, configs: [{namespace: system, config: C}]}",
		"the same, named there too": "{sidecar: {config: cache/maps.yaml}, gateway: {enabled: true, configMap: cache}, configs: [{namespace: system, name: cache, config: C}]}",
		"another":                   "{sidecar: {config: cache/maps.yaml}, gateway: {enabled: true, configMap: gate}, configs: [{namespace: system, name: gate, config: C}]}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := decode(t, withValues(t, strings.ReplaceAll(text, "config: C", "config: {apiVersion: readthrough/v1}")).mustRender(t))
			pod := named[*appsv1.Deployment](t, objects, "readthrough-gateway").Spec.Template.Spec
			i := slices.IndexFunc(pod.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == "READTHROUGH_CONFIG" })
			j := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.ConfigMap != nil })
			if i < 0 || j < 0 {
				t.Fatal("the gateway has no configuration")
			}
			config := named[*corev1.ConfigMap](t, objects, pod.Volumes[j].ConfigMap.Name)
			if key := filepath.Base(pod.Containers[0].Env[i].Value); config.Data[key] == "" {
				t.Errorf("the gateway reads %s, and the ConfigMap has %v", key, slices.Collect(maps.Keys(config.Data)))
			}
		})
	}
}

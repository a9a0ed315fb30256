package inject

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// checkRestricted looks at the sidecar as Pod Security does at the level restricted. It reads plain JSON, and knows nothing
// about how the container was made.
func checkRestricted(t testing.TB, pod []byte) {
	t.Helper()
	var p struct {
		Spec struct {
			Volumes        []map[string]any
			InitContainers []map[string]any
			Containers     []map[string]any
		}
	}
	if err := json.Unmarshal(pod, &p); err != nil {
		t.Fatal(err)
	}
	var ours []map[string]any
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		if c["name"] == "readthrough" {
			ours = append(ours, c)
		}
	}
	if len(ours) != 1 {
		t.Fatalf("there are %d sidecars", len(ours))
	}
	c := ours[0]
	s, _ := c["securityContext"].(map[string]any)
	for field, want := range map[string]any{
		"allowPrivilegeEscalation": false, "privileged": false, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
	} {
		if s[field] != want {
			t.Errorf("securityContext.%s is %v", field, s[field])
		}
	}
	for _, field := range []string{"runAsUser", "runAsGroup"} {
		if v, set := s[field]; set && v.(float64) < 1 {
			t.Errorf("securityContext.%s is %v", field, v)
		}
	}
	for _, field := range []string{"seLinuxOptions", "windowsOptions", "procMount", "appArmorProfile"} {
		if v, set := s[field]; set {
			t.Errorf("securityContext.%s is %v", field, v)
		}
	}
	capabilities, _ := s["capabilities"].(map[string]any)
	drop, _ := capabilities["drop"].([]any)
	if len(drop) != 1 || drop[0] != "ALL" || capabilities["add"] != nil {
		t.Errorf("securityContext.capabilities are %v", capabilities)
	}
	seccomp, _ := s["seccompProfile"].(map[string]any)
	if seccomp["type"] != "RuntimeDefault" {
		t.Errorf("securityContext.seccompProfile is %v", seccomp)
	}
	ports, _ := c["ports"].([]any)
	for _, port := range ports {
		if port := port.(map[string]any); port["hostPort"] != nil || port["hostIP"] != nil {
			t.Errorf("port %v is one of the node", port)
		}
	}
	for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
		if probe, _ := c[probe].(map[string]any); probe["exec"] == nil {
			t.Errorf("%s is %v", probe, probe)
		}
	}
	allowed := []string{"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
	for _, v := range p.Spec.Volumes {
		if name, _ := v["name"].(string); !strings.HasPrefix(name, "readthrough-") {
			continue
		}
		for kind := range v {
			if kind != "name" && !slices.Contains(allowed, kind) {
				t.Errorf("volume %v is of kind %s", v["name"], kind)
			}
		}
	}
}

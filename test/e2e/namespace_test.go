//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// ours marks the namespaces of these tests, so that a run that was broken off is cleaned up by the next.
const ours = "readthrough-e2e"

// keep leaves everything in the cluster for a look at it.
var keep = os.Getenv("E2E_KEEP") != ""

// newNamespace makes a namespace under Pod Security "restricted". After a failure it shows what happened there; it is removed
// with the test.
func newNamespace(t testing.TB, name string, labels ...string) string {
	t.Helper()
	name = "e2e-" + name
	kubectlInput(t, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {%s}}", name, strings.Join(append([]string{
		ours + `: "true"`, "pod-security.kubernetes.io/enforce: restricted",
	}, labels...), ", ")), "apply", "-f", "-")
	t.Cleanup(func() {
		if t.Failed() {
			diagnose(t, name)
		}
		if !keep {
			removeNamespaces(t, false, name)
		}
	})
	return name
}

// removeNamespaces deletes namespaces, and may wait until they are gone. Pods are not given their time.
func removeNamespaces(t testing.TB, wait bool, names ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, name := range names {
		_, err := command(ctx, "", "kubectl", "delete", "pods", "-n", name, "--all", "--force", "--grace-period=0", "--wait=false")
		if err != nil {
			t.Log(err)
		}
	}
	args := append([]string{"delete", "namespace", "--ignore-not-found", fmt.Sprintf("--wait=%v", wait)}, names...)
	if _, err := command(ctx, "", "kubectl", args...); err != nil {
		t.Error(err)
	}
}

// removeLeftovers removes what a run that was broken off has left: the release, what the manifests made, and the namespaces.
func removeLeftovers(t testing.TB) {
	removeRelease(t)
	kubectl(t, "delete", "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations", "-l", ours+"=true")
	names := strings.Fields(kubectl(t, "get", "namespaces", "-l", ours+"=true", "-o", "name"))
	for i, n := range names {
		names[i] = strings.TrimPrefix(n, "namespace/")
	}
	if len(names) > 0 {
		t.Logf("removing what an earlier run left: %s", strings.Join(names, " "))
		removeNamespaces(t, true, names...)
	}
}

// diagnose logs what somebody would look at first.
func diagnose(t testing.TB, namespace string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	show := func(args ...string) {
		out, err := command(ctx, "", "kubectl", append(args, "-n", namespace)...)
		if err != nil {
			out += err.Error()
		}
		t.Logf("kubectl %s -n %s:%s", strings.Join(args, " "), namespace, indented(out))
	}
	show("get", "all,configmaps", "-o", "wide")
	show("describe", "pods")
	show("get", "events", "--sort-by=.lastTimestamp")
	pods, err := command(ctx, "", "kubectl", "get", "pods", "-n", namespace, "-o", "name")
	if err != nil {
		t.Log(err)
	}
	for _, pod := range strings.Fields(pods) {
		show("logs", pod, "--all-containers", "--prefix", "--tail=60")
	}
}

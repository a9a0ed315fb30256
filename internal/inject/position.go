package inject

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// list is one of a pod's two lists of containers.
type list struct {
	path       string
	containers []corev1.Container
}

// listOf gives the list that the sidecar stands in.
func listOf(form Form, pod *corev1.PodSpec) list {
	if form == FormNative {
		return list{"/spec/initContainers", pod.InitContainers}
	}
	return list{"/spec/containers", pod.Containers}
}

// position is the index that the sidecar should have in its list, which is given without it.
//
// Containers start in the order of their list. A native sidecar stands behind a mesh's native proxy, through which it
// reaches Redis and the database, and before all that may be its client. An ordinary one is the first, since its postStart
// holds back those behind it.
func position(form Form, containers []corev1.Container) int {
	if form != FormNative {
		return 0
	}
	for i, c := range slices.Backward(containers) {
		if (c.Name == "istio-proxy" || c.Name == "linkerd-proxy") && stays(&c) {
			return i + 1
		}
	}
	return 0
}

// others are the containers of a list without the sidecar.
func others(containers []corev1.Container) []corev1.Container {
	return slices.DeleteFunc(slices.Clone(containers), func(c corev1.Container) bool { return c.Name == ContainerName })
}

// stays reports whether an init container is a native sidecar: it runs as long as the pod does.
func stays(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// ofMesh reports whether a container belongs to a service mesh, by the names that meshes give to theirs.
func ofMesh(name string) bool {
	return strings.HasPrefix(name, "istio-") || strings.HasPrefix(name, "linkerd-")
}

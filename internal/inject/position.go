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

// sidecar is the one that a pod has already.
type sidecar struct {
	form  Form
	index int // in its list
}

// existing finds the sidecar that was injected into the pod: a container with our name in a pod with our annotation.
func existing(pod *corev1.Pod) (sidecar, bool) {
	if _, injected := pod.Annotations[InjectedBy]; !injected {
		return sidecar{}, false
	}
	ours := func(c corev1.Container) bool { return c.Name == ContainerName }
	if i := slices.IndexFunc(pod.Spec.InitContainers, ours); i >= 0 && stays(&pod.Spec.InitContainers[i]) {
		return sidecar{FormNative, i}, true
	}
	if i := slices.IndexFunc(pod.Spec.Containers, ours); i >= 0 {
		return sidecar{FormOrdinary, i}, true
	}
	return sidecar{}, false
}

// container is the one that stands in the pod.
func (s sidecar) container(pod *corev1.Pod) *corev1.Container {
	return &listOf(s.form, &pod.Spec).containers[s.index]
}

// config is the ConfigMap that the sidecar mounts; the zero one if that cannot be told.
func (s sidecar) config(pod *corev1.Pod) ConfigRef {
	var ref ConfigRef
	for _, v := range pod.Spec.Volumes {
		if v.Name == configVolume && v.ConfigMap != nil {
			ref.Name = v.ConfigMap.Name
		}
	}
	for _, v := range s.container(pod).Env {
		if v.Name == "READTHROUGH_CONFIG" {
			ref.Key = strings.TrimPrefix(v.Value, configDir+"/")
		}
	}
	if ref.Name == "" || ref.Key == "" {
		return ConfigRef{}
	}
	return ref
}

// relocate moves the sidecar to where it should stand, if others have come before it meanwhile.
func (s sidecar) relocate(p *Patch, pod *corev1.Pod) {
	l := listOf(s.form, &pod.Spec)
	if to := position(s.form, others(l.containers)); to != s.index {
		p.move(pointer(l.path, itoa(s.index)), pointer(l.path, itoa(to)))
	}
}

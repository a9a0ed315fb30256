package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

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

// env is the value of a variable of the container that has it as text.
func (s sidecar) env(pod *corev1.Pod, name string) string {
	for _, v := range s.container(pod).Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// settings are those that the sidecar was injected with, as far as they concern containers that come later. They may be others
// than today's, or than those that annotations ask for now.
func (s sidecar) settings(pod *corev1.Pod) (t tuning, problems []string) {
	t.unread = map[string]bool{}
	for key, variable := range map[string]string{
		"port": listenVariable, "adminPort": adminVariable, "debugPort": debugVariable,
	} {
		address := s.env(pod, variable)
		t.unread[key] = t.Set(key, address[strings.LastIndexByte(address, ':')+1:]) != nil
	}
	if text, recorded := pod.Annotations[envAnnotation]; recorded {
		if err := t.Set("env", text); err != nil {
			problems = append(problems, fmt.Sprintf("annotation %s %v", envAnnotation, err))
		}
	}
	return t, problems
}

// config is the ConfigMap that the sidecar mounts; the zero one if that cannot be told.
func (s sidecar) config(pod *corev1.Pod) ConfigRef {
	var ref ConfigRef
	for _, v := range pod.Spec.Volumes {
		if v.Name == configVolume && v.ConfigMap != nil {
			ref.Name = v.ConfigMap.Name
		}
	}
	ref.Key = strings.TrimPrefix(s.env(pod, configVariable), configDir+"/")
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

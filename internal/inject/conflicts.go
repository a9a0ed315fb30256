package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// hostConflicts finds a pod in whose place the sidecar cannot run.
func hostConflicts(pod *corev1.Pod, namespace string) []string {
	var found []string
	wrong := func(format string, args ...any) {
		found = append(found, fmt.Sprintf(format, args...)+withoutSidecar(pod, namespace))
	}
	spec := &pod.Spec
	if len(spec.Containers) == 0 {
		wrong("the pod has no containers: write the application's under spec.containers, or ")
	}
	if spec.OS != nil && spec.OS.Name == corev1.Windows || spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows) {
		wrong("the pod is for Windows, and the sidecar runs on Linux: ")
	}
	if spec.HostNetwork {
		wrong("the pod has hostNetwork: true, so its localhost is the node's, which is open to others: take that out, or ")
	}
	return found
}

// nameConflicts finds names that are the sidecar's in a pod that does not have it.
func nameConflicts(pod *corev1.Pod) []string {
	var containers, volumes, found []string
	for _, c := range allContainers(&pod.Spec) {
		if c.Name == ContainerName {
			containers = append(containers, c.Name)
		}
	}
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, volumePrefix) {
			volumes = append(volumes, v.Name)
		}
	}
	if text := remains(pod, containers, volumes); text != "" {
		return []string{text}
	}
	for range containers {
		found = append(found, fmt.Sprintf("the pod has a container %s that was not injected: rename it, or remove it", ContainerName))
	}
	for _, name := range volumes {
		found = append(found, fmt.Sprintf("the pod has a volume %s, and names that begin with %s are the sidecar's: rename it", name, volumePrefix))
	}
	return found
}

// remains tells of what a copy of an injected pod has left of the sidecar; empty where the names are the pod's own.
func remains(pod *corev1.Pod, containers, volumes []string) string {
	_, annotated := pod.Annotations[InjectedBy]
	switch {
	case !slices.Contains(volumes, configVolume) || !slices.Contains(volumes, stateVolume):
		return ""
	case annotated && len(containers) == 0:
		return fmt.Sprintf("the annotation %s and the volumes %s are left over from a sidecar that the pod does not have any more: remove them, "+
			"or label the pod %s: %s (kubectl debug --copy-to leaves them with --keep-init-containers=false)",
			InjectedBy, strings.Join(volumes, ", "), InjectLabel, Disabled)
	case !annotated && len(containers) > 0:
		return fmt.Sprintf("the pod has a sidecar, but not the annotation %s that tells who injected it: copy that too (kubectl debug --copy-to "+
			"does with --keep-annotations), or label the pod %s: %s", InjectedBy, InjectLabel, Disabled)
	}
	return ""
}

// userConflict finds a pod that would have the sidecar run as root, which its container forbids: the kubelet would refuse it again
// and again. It matters where the settings leave the user to the platform.
func (t *tuning) userConflict(spec *corev1.PodSpec) []string {
	if t.RunAsUser != nil || t.name("runAsUser") == "" {
		return nil
	}
	if c := spec.SecurityContext; c == nil || c.RunAsUser == nil || *c.RunAsUser != 0 {
		return nil
	}
	o, _ := findOption("runAsUser")
	return []string{fmt.Sprintf("the pod's securityContext.runAsUser is 0, and %s is none, so the sidecar would be root, which it refuses to be: "+
		"write annotation %s: \"%s\"", t.name("runAsUser"), o.annotation(), o.fallback)}
}

// portConflicts finds ports of other containers that the sidecar would listen on. A hostPort is another address, the
// node's, so it is none.
func (t *tuning) portConflicts(spec *corev1.PodSpec) []string {
	declared := map[Port]bool{t.Port: true, t.AdminPort: true, t.DebugPort: true}
	for _, c := range allContainers(spec) {
		for _, p := range c.Ports {
			declared[Port(p.ContainerPort)] = true
		}
	}
	var found []string
	for _, c := range allContainers(spec) {
		if c.Name == ContainerName {
			continue
		}
		for _, p := range c.Ports {
			o, taken := t.portOption(Port(p.ContainerPort))
			if !taken || p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
				continue
			}
			free := freePort(declared)
			found = append(found, fmt.Sprintf("container %s has port %d, which is the sidecar's %s: write another by annotation %s: \"%d\"",
				c.Name, p.ContainerPort, o.key, o.annotation(), free))
		}
	}
	return found
}

// portOption is the setting that gives the sidecar this port.
func (t *tuning) portOption(port Port) (o option, taken bool) {
	key := ""
	switch {
	case port == t.Port && !t.unread["port"]:
		key = "port"
	case port == t.AdminPort && !t.unread["adminPort"]:
		key = "adminPort"
	case port == t.DebugPort && !t.unread["debugPort"]:
		key = "debugPort"
	}
	return findOption(key)
}

// freePort is one that nobody has declared, and declares it.
func freePort(declared map[Port]bool) Port {
	port := Port(16380)
	for declared[port] {
		port++
	}
	declared[port] = true
	return port
}

func allContainers(spec *corev1.PodSpec) []corev1.Container {
	return append(append([]corev1.Container(nil), spec.InitContainers...), spec.Containers...)
}

// withoutSidecar says how to have the pod without the sidecar, with the command where the pod tells what has made it.
func withoutSidecar(pod *corev1.Pod, namespace string) string {
	text := fmt.Sprintf("label the pod %s: %s", InjectLabel, Disabled)
	workload := madeBy(pod)
	if workload == "" || namespace == "" {
		return text
	}
	return text + fmt.Sprintf(`: kubectl -n %s patch %s -p '{"spec":{"template":{"metadata":{"labels":{"%s":"%s"}}}}}'`,
		namespace, workload, InjectLabel, Disabled)
}

// madeBy names the workload whose pod template can be changed, as kubectl takes it; empty if there is none.
func madeBy(pod *corev1.Pod) string {
	for _, owner := range pod.OwnerReferences {
		if owner.Controller == nil || !*owner.Controller {
			continue
		}
		switch owner.Kind {
		case "StatefulSet", "DaemonSet":
			return strings.ToLower(owner.Kind) + " " + owner.Name
		case "ReplicaSet":
			if name, ok := strings.CutSuffix(owner.Name, "-"+pod.Labels["pod-template-hash"]); ok {
				return "deployment " + name
			}
		}
	}
	return ""
}

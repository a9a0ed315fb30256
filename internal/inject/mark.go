package inject

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mark sets the label and annotations of an injected pod.
func mark(p *Patch, pod *corev1.Pod, form Form, env Variables, version string) {
	labels := map[string]string{InjectedLabel: "true"}
	annotations := map[string]string{InjectedBy: version, safeToEvict: evictable(pod.Annotations[safeToEvict])}
	if _, given := pod.Annotations[envAnnotation]; !given && len(env) > 0 {
		annotations[envAnnotation] = env.String()
	}
	if _, chosen := pod.Annotations[defaultContainer]; !chosen && form == FormOrdinary {
		// kubectl takes the first container where none is named, and that would be the sidecar.
		annotations[defaultContainer] = pod.Spec.Containers[0].Name
	}
	if reflect.DeepEqual(pod.ObjectMeta, metav1.ObjectMeta{}) {
		// The template of a Job need not have any.
		p.add("/metadata", map[string]map[string]string{"labels": labels, "annotations": annotations})
		return
	}
	addToMap(p, "/metadata/labels", pod.Labels, labels)
	addToMap(p, "/metadata/annotations", pod.Annotations, annotations)
}

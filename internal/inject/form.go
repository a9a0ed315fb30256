package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// form is the one that the sidecar gets, and what is wrong with it for this pod; FormAuto is what is wished.
func (o Options) form(wish Form, spec *corev1.PodSpec) (form Form, problem string) {
	switch {
	case wish == FormNative && !o.Native:
		return FormNative, fmt.Sprintf("the form native needs Kubernetes 1.29 or later (see kubectl version): write annotation %sform: %s, "+
			"which does not do for Jobs", prefix, FormOrdinary)
	case wish == FormNative || wish != FormOrdinary && o.Native:
		return FormNative, ""
	case spec.RestartPolicy == "" || spec.RestartPolicy == corev1.RestartPolicyAlways:
		return FormOrdinary, ""
	case o.Native:
		return FormOrdinary, fmt.Sprintf("a pod with restartPolicy: %s, such as a Job's, would never end beside an ordinary container: "+
			"write annotation %sform: %s", spec.RestartPolicy, prefix, FormNative)
	}
	return FormOrdinary, fmt.Sprintf("a pod with restartPolicy: %s, such as a Job's, would never end beside an ordinary container, and "+
		"native sidecars need Kubernetes 1.29 or later (see kubectl version): have this one reach Redis itself, with label %s: %s",
		spec.RestartPolicy, InjectLabel, Disabled)
}

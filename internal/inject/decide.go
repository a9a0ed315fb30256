// Package inject decides what becomes of a pod that is to have the sidecar: pod in, patch out. It knows neither HTTP nor a
// cluster, so that the webhook and the command `sidecar inject` do the same.
package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Options are what a decision depends on besides the pod.
type Options struct {
	Settings Settings
	Native   bool   // the cluster has native sidecars: Kubernetes 1.29 or later
	Version  string // of this program
}

// Decision is what to do with a pod.
type Decision struct {
	Patch    Patch
	Skipped  string   // why nothing was done, or ""
	Warnings []string // for who creates the pod

	// Config is the ConfigMap that must be there in the pod's namespace. It has no name where the pod is left without the sidecar,
	// or has one that mounts something else.
	Config ConfigRef
}

// Decide says how the pod gets the sidecar. Whether it wants it was asked by whoever calls: the pod's own label only
// forbids it. The error is a *[Denial].
//
// What is there already is kept, so a pod is injected once however often this is asked. In a pod that another version has
// injected, which may be a newer one, only the order of containers is put right.
func Decide(pod *corev1.Pod, namespace string, o Options) (Decision, error) {
	if why, err := o.leave(pod); why != "" || err != nil {
		return Decision{Skipped: why}, err
	}
	if found, injected := existing(pod); injected {
		return found.keep(pod, namespace, o.Version)
	}
	settings := o.Settings.tune(pod.Annotations)
	problems := settings.problems
	form, unfit := o.form(settings.Form, &pod.Spec)
	if unfit != "" {
		problems = append(problems, unfit)
	}
	problems = append(problems, nameConflicts(pod)...)
	problems = append(problems, resourceConflicts(&pod.Spec)...)
	problems = append(problems, settings.userConflict(&pod.Spec)...)
	problems = append(problems, hostConflicts(pod, namespace)...)
	problems = append(problems, settings.portConflicts(&pod.Spec)...)
	if len(problems) > 0 {
		return Decision{}, denied(problems)
	}

	d := Decision{Config: settings.Config, Warnings: idleLabels(pod.Labels)}
	d.Warnings = append(d.Warnings, settings.idleRequests(&pod.Spec)...)
	d.Warnings = append(d.Warnings, settings.Env.tell(&d.Patch, &pod.Spec, form)...)
	mark(&d.Patch, pod, form, settings.Env, o.Version)
	settings.mount(&d.Patch, &pod.Spec)
	reserve(&d.Patch, &pod.Spec)
	l := listOf(form, &pod.Spec)
	addToList(&d.Patch, l.path, len(l.containers), position(form, l.containers), settings.container(form, &pod.Spec))
	return d, nil
}

// keep is the decision for a pod that has the sidecar. It is judged by the sidecar that stands there, which may have been injected
// with other settings: what has come into the pod since then has to fit that one.
func (s sidecar) keep(pod *corev1.Pod, namespace, version string) (Decision, error) {
	d := Decision{Config: s.config(pod)}
	if by := pod.Annotations[InjectedBy]; by != version {
		s.relocate(&d.Patch, pod)
		return d.orSkipped("was injected by version " + by), nil
	}
	standing, problems := s.settings(pod)
	problems = append(problems, hostConflicts(pod, namespace)...)
	problems = append(problems, standing.portConflicts(&pod.Spec)...)
	if len(problems) > 0 {
		return Decision{}, denied(problems)
	}
	d.Warnings = append(idleLabels(pod.Labels), standing.Env.tell(&d.Patch, &pod.Spec, s.form)...)
	s.relocate(&d.Patch, pod)
	return d.orSkipped("is injected already"), nil
}

// orSkipped is the decision, with the reason where there is nothing to do.
func (d Decision) orSkipped(why string) Decision {
	if len(d.Patch) == 0 {
		d.Skipped = why
	}
	return d
}

// leave says why a pod is left alone whatever else it says.
func (o Options) leave(pod *corev1.Pod) (why string, err error) {
	switch value, labelled := pod.Labels[InjectLabel]; {
	case labelled && value == Disabled:
		return fmt.Sprintf("has the label %s: %s", InjectLabel, Disabled), nil
	case labelled && value != Enabled:
		return "", &Denial{fmt.Sprintf("the label %s is %q: write %s or %s", InjectLabel, value, Enabled, Disabled)}
	}
	if _, ok := pod.Annotations[mirror]; ok {
		return "is a static pod, which its node has started already", nil
	}
	for _, c := range pod.Spec.Containers {
		if c.Image == string(o.Settings.Image) && len(c.Args) > 0 && c.Args[0] == "webhook" {
			return "is the injector itself", nil
		}
	}
	return "", nil
}

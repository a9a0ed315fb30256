package inject

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

func itoa(i int) string { return strconv.Itoa(i) }

// tell sets the variables in the containers that may be clients of the sidecar, and returns what was replaced, as warnings.
//
// Those are all but the sidecar itself, a mesh's, and init containers that end before the sidecar starts: what such a one
// was told to reach, it reaches today, and localhost it never would.
func (vs Variables) tell(p *Patch, pod *corev1.PodSpec, form Form) (warnings []string) {
	if len(vs) == 0 {
		return nil
	}
	ended := len(pod.InitContainers) // how many init containers are ahead of the sidecar
	if form == FormNative {
		ended = position(form, others(pod.InitContainers))
	}
	ahead := 0
	for i, c := range pod.InitContainers {
		if c.Name == ContainerName {
			continue
		}
		if ahead >= ended || stays(&c) {
			warnings = append(warnings, vs.tellOne(p, pointer("/spec/initContainers", itoa(i)), &c)...)
		}
		ahead++
	}
	for i, c := range pod.Containers {
		warnings = append(warnings, vs.tellOne(p, pointer("/spec/containers", itoa(i)), &c)...)
	}
	return warnings
}

// tellOne puts the variables ahead of the others, which may then refer to them as $(NAME). One that is there already is
// replaced where it stands.
func (vs Variables) tellOne(p *Patch, path string, c *corev1.Container) (warnings []string) {
	if c.Name == ContainerName || ofMesh(c.Name) {
		return nil
	}
	env := pointer(path, "env")
	var missing []corev1.EnvVar
	for _, v := range vs {
		want := corev1.EnvVar{Name: v.Name, Value: v.Value}
		found, replaced := false, false
		for i, have := range c.Env {
			if have.Name != v.Name {
				continue
			}
			found = true
			switch {
			case have.ValueFrom != nil:
				p.replace(pointer(env, itoa(i)), want)
				replaced = true
			case have.Value != v.Value:
				p.add(pointer(env, itoa(i), "value"), v.Value)
				replaced = true
			}
		}
		if !found {
			missing = append(missing, want)
		}
		if replaced {
			warnings = append(warnings, fmt.Sprintf("container %s has a %s of its own, which is replaced by that of readthrough/env", c.Name, v.Name))
		}
	}
	addToList(p, env, len(c.Env), 0, missing...)
	return warnings
}

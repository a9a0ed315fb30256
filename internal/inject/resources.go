package inject

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// resources are what the settings say, within what the pod has for all of its containers (spec.resources).
//
// Of what the pod requests as a whole the sidecar requests nothing by itself: the requests of containers must not add up to
// more. That is written as 0, since a request that is absent would become that of the limit.
func (s *Settings) resources(pod *corev1.PodSpec) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for _, of := range []struct {
		name           corev1.ResourceName
		request, limit resource.Quantity
	}{
		{corev1.ResourceCPU, s.CPURequest, s.CPULimit},
		{corev1.ResourceMemory, s.MemoryRequest, s.MemoryLimit},
	} {
		if shared(of.name, pod) {
			r.Requests[of.name] = resource.MustParse("0")
		} else if !of.request.IsZero() {
			r.Requests[of.name] = of.request
		}
		if limit := capped(of.limit, of.name, pod); !limit.IsZero() {
			r.Limits[of.name] = limit
		}
	}
	return r
}

// shared reports whether the pod requests or limits a resource for its containers together. A limit alone is a request too.
func shared(name corev1.ResourceName, pod *corev1.PodSpec) bool {
	if pod.Resources == nil {
		return false
	}
	_, requested := pod.Resources.Requests[name]
	_, limited := pod.Resources.Limits[name]
	return requested || limited
}

// reserve writes what the pod requests by its limits alone. An API server takes the limit of the pod for its request only where no container
// requests anything, not even the 0 that the sidecar does. In a pod that comes from a server this has been done already; in a manifest
// it has not.
func reserve(p *Patch, pod *corev1.PodSpec) {
	if pod.Resources == nil {
		return
	}
	requests := corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit, limited := pod.Resources.Limits[name]
		_, requested := pod.Resources.Requests[name]
		if limited && !requested && !slices.ContainsFunc(allContainers(pod), func(c corev1.Container) bool { return asksFor(name, &c) }) {
			requests[name] = limit
		}
	}
	const path = "/spec/resources/requests"
	if len(pod.Resources.Requests) == 0 {
		if len(requests) > 0 {
			p.add(path, requests)
		}
		return
	}
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		p.add(pointer(path, string(name)), requests[name])
	}
}

// asksFor reports whether a container requests a resource. A limit alone is a request too.
func asksFor(name corev1.ResourceName, c *corev1.Container) bool {
	_, requested := c.Resources.Requests[name]
	_, limited := c.Resources.Limits[name]
	return requested || limited
}

// capped is the limit, or the pod's where that is less.
func capped(limit resource.Quantity, name corev1.ResourceName, pod *corev1.PodSpec) resource.Quantity {
	if pod.Resources != nil {
		if most, limited := pod.Resources.Limits[name]; limited && limit.Cmp(most) > 0 {
			return most
		}
	}
	return limit
}

// resourceConflicts finds a pod that has too little for the sidecar.
func resourceConflicts(spec *corev1.PodSpec) []string {
	if spec.Resources == nil {
		return nil
	}
	if most, limited := spec.Resources.Limits[corev1.ResourceMemory]; limited && most.Cmp(minMemory) < 0 {
		return []string{fmt.Sprintf("the pod's resources.limits.memory is %s for all containers together, with which the sidecar cannot run: "+
			"write %s or more besides what the others need", &most, &minMemory)}
	}
	return nil
}

// idleRequests warns of requests that are the pod's to make.
func (t *tuning) idleRequests(spec *corev1.PodSpec) []string {
	var warnings []string
	for _, of := range []struct {
		key  string
		name corev1.ResourceName
	}{{"cpuRequest", corev1.ResourceCPU}, {"memoryRequest", corev1.ResourceMemory}} {
		if t.given[of.key] && shared(of.name, spec) {
			warnings = append(warnings, fmt.Sprintf("%s does nothing: the pod requests %s for all of its containers together, in spec.resources",
				t.name(of.key), of.name))
		}
	}
	return warnings
}

package inject

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// The sidecar's volumes. Nothing else in the pod mounts them.
const (
	configVolume  = volumePrefix + "config"
	secretsVolume = volumePrefix + "secrets"
	tlsVolume     = volumePrefix + "tls"
	stateVolume   = volumePrefix + "state"
)

// readableByAll is the mode of mounted Secrets: the files are root's, and the sidecar is any user but root.
const readableByAll = 0o444

// stateSize bounds what is kept of the configuration: a ConfigMap is 1 MiB at most, and there are never more than two copies.
var stateSize = resource.MustParse("16Mi")

// mounts are whole directories, never single files (subPath): those would not follow when a ConfigMap or Secret changes.
func (s *Settings) mounts() []corev1.VolumeMount {
	all := []corev1.VolumeMount{
		{Name: configVolume, MountPath: configDir, ReadOnly: true},
		{Name: stateVolume, MountPath: workDir},
	}
	if len(s.secretVariables()) > 0 {
		all = append(all, corev1.VolumeMount{Name: secretsVolume, MountPath: secretsDir, ReadOnly: true})
	}
	if s.TLSSecret != "" {
		all = append(all, corev1.VolumeMount{Name: tlsVolume, MountPath: tlsDir, ReadOnly: true})
	}
	return all
}

func (s *Settings) volumes() []corev1.Volume {
	all := []corev1.Volume{
		{Name: configVolume, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: s.Config.Name},
		}}},
		{Name: stateVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &stateSize}}},
	}
	if sources := s.secretSources(); len(sources) > 0 {
		all = append(all, corev1.Volume{Name: secretsVolume, VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{Sources: sources, DefaultMode: new(int32(readableByAll))},
		}})
	}
	if s.TLSSecret != "" {
		all = append(all, corev1.Volume{Name: tlsVolume, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: string(s.TLSSecret), DefaultMode: new(int32(readableByAll))},
		}})
	}
	return all
}

// secretSources are the keys that are used of each Secret, in a directory of its name. The others stay out of the pod.
func (s *Settings) secretSources() []corev1.VolumeProjection {
	var names []string
	items := map[string][]corev1.KeyToPath{}
	seen := map[SecretRef]bool{}
	for _, v := range s.secretVariables() {
		if seen[v.Ref] {
			continue
		}
		seen[v.Ref] = true
		if items[v.Ref.Name] == nil {
			names = append(names, v.Ref.Name)
		}
		items[v.Ref.Name] = append(items[v.Ref.Name], corev1.KeyToPath{Key: v.Ref.Key, Path: v.Ref.Name + "/" + v.Ref.Key})
	}
	sources := make([]corev1.VolumeProjection, len(names))
	for i, name := range names {
		sources[i] = corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Items: items[name],
		}}
	}
	return sources
}

// evictable is the value of the annotation safeToEvict with the sidecar's state among the volumes that it has: that is not to
// keep a cluster autoscaler from emptying the node.
func evictable(present string) string {
	if present = strings.TrimRight(present, ", "); present == "" {
		return stateVolume
	}
	if slices.ContainsFunc(strings.Split(present, ","), func(name string) bool { return strings.TrimSpace(name) == stateVolume }) {
		return present
	}
	return present + "," + stateVolume
}

// mount adds the volumes to the pod, and the Secret to pull the image with.
func (s *Settings) mount(p *Patch, spec *corev1.PodSpec) {
	addToList(p, "/spec/volumes", len(spec.Volumes), len(spec.Volumes), s.volumes()...)
	secret := corev1.LocalObjectReference{Name: string(s.ImagePullSecret)}
	if secret.Name != "" && !slices.Contains(spec.ImagePullSecrets, secret) {
		addToList(p, "/spec/imagePullSecrets", len(spec.ImagePullSecrets), len(spec.ImagePullSecrets), secret)
	}
}

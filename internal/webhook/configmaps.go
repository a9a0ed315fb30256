package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/semaphore"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
)

// Judge says what is wrong with a configuration file, a line for each mistake, and what its author may want to know. It looks
// at nothing but the content. name is that of the file, with which lines begin.
type Judge func(name string, content []byte) (mistakes, warnings []string)

// configMaps answers reviews of ConfigMaps that hold a configuration.
type configMaps struct {
	check Judge
	turn  *semaphore.Weighted // of one: YAML takes a hundred times its size while it is read
}

// maxChecked bounds what is checked of one ConfigMap. The longest files in use are a fifth of it.
const maxChecked = 128 << 10

func newConfigMaps(check Judge) *configMaps {
	return &configMaps{check: check, turn: semaphore.NewWeighted(1)}
}

func (c *configMaps) judge(ctx context.Context, request *admissionv1.AdmissionRequest) verdict {
	switch {
	case request.Resource.Group != "" || request.Resource.Version != "v1" || request.Resource.Resource != "configmaps" || request.SubResource != "":
		return misdirected("readthrough checks ConfigMaps, and was sent %s", resourceName(request))
	case request.Operation != admissionv1.Create && request.Operation != admissionv1.Update:
		return verdict{outcome: valid} // to delete one is not our business
	}
	var cm corev1.ConfigMap
	if err := json.Unmarshal(request.Object.Raw, &cm); err != nil {
		return misdirected("the review's object is no ConfigMap: %s", err)
	}
	if cm.Labels[configLabel] != "true" {
		return verdict{outcome: valid} // it had the label: an API server asks about an update for the sake of the old object, too
	}
	if request.Operation == admissionv1.Update && unchangedSince(request.OldObject.Raw, &cm) {
		return verdict{outcome: valid} // whatever it holds: a label may be changed, a finalizer removed
	}
	return c.content(ctx, request, &cm)
}

func (c *configMaps) content(ctx context.Context, request *admissionv1.AdmissionRequest, cm *corev1.ConfigMap) verdict {
	if err := c.turn.Acquire(ctx, 1); err != nil {
		return busy()
	}
	defer c.turn.Release(1)
	var mistakes, warnings []string
	files, left := 0, maxChecked
	for _, key := range slices.Sorted(maps.Keys(cm.Data)) {
		if !isConfiguration(key) {
			continue
		}
		files++
		if len(cm.Data[key]) > left {
			warnings = append(warnings, fmt.Sprintf("%s: was not checked, since no more than %d KiB of a ConfigMap are", key, maxChecked>>10))
			continue
		}
		if ctx.Err() != nil {
			return busy()
		}
		left -= len(cm.Data[key])
		m, w := c.check(key, []byte(cm.Data[key]))
		mistakes, warnings = append(mistakes, m...), append(warnings, w...)
	}
	for _, key := range slices.Sorted(maps.Keys(cm.BinaryData)) {
		if isConfiguration(key) {
			files++
			mistakes = append(mistakes, key+": stands under binaryData: write it as text under data")
		}
	}
	switch {
	case files == 0:
		return deny("ConfigMap %s/%s has the label readthrough/config and no key that ends in .yaml: write the configuration under "+
			"data, as readthrough.yaml, or remove the label", request.Namespace, cm.Name)
	case len(mistakes) > 0:
		return deny("ConfigMap %s/%s holds %s (key:line: field: what to write):\n%s", request.Namespace, cm.Name,
			count(len(mistakes), "mistake"), strings.Join(mistakes, "\n"))
	}
	return verdict{outcome: valid, warnings: warnings}
}

// isConfiguration reports whether the key of a ConfigMap names a configuration file.
func isConfiguration(key string) bool {
	ext := path.Ext(key)
	return ext == ".yaml" || ext == ".yml"
}

// unchangedSince reports whether the old object is known, and the new one has its content and label.
func unchangedSince(old []byte, cm *corev1.ConfigMap) bool {
	var before corev1.ConfigMap
	if len(old) == 0 || json.Unmarshal(old, &before) != nil {
		return false
	}
	return before.Labels[configLabel] == cm.Labels[configLabel] && maps.Equal(before.Data, cm.Data) &&
		maps.EqualFunc(before.BinaryData, cm.BinaryData, slices.Equal)
}

// configLabel on a ConfigMap, with the value true, has it checked.
const configLabel = "readthrough/config"

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

package inject

import (
	"fmt"
	"slices"
	"strings"
)

// Denial is why a pod cannot have the sidecar, for the person who wants the pod: what is wrong, and what to write.
type Denial struct{ Message string }

func (d *Denial) Error() string { return d.Message }

// MissingConfigMap is the denial of a pod whose ConfigMap is not there: its containers would never start.
func MissingConfigMap(namespace string, ref ConfigRef) *Denial {
	return &Denial{fmt.Sprintf("the sidecar's configuration is missing: there is no ConfigMap %s in namespace %s. Make it:\n"+
		"  kubectl -n %s create configmap %s --from-file=%s\n"+
		"or name another by the annotation %sconfig", ref.Name, namespace, namespace, ref.Name, fromFile(ref.Key), prefix)}
}

// MissingConfigKey is the denial of a pod whose ConfigMap has no such key; have are the keys that it has. Of those it names such
// as configurations have: whoever asks may not be allowed to see the ConfigMap.
func MissingConfigKey(namespace string, ref ConfigRef, have []string) *Denial {
	have = slices.DeleteFunc(slices.Sorted(slices.Values(have)), func(key string) bool {
		return !strings.HasSuffix(key, ".yaml") && !strings.HasSuffix(key, ".yml")
	})
	keys, advice := "and no other that ends in .yaml or .yml. Add it", ""
	if len(have) > 0 {
		keys = "but " + strings.Join(have, ", ")
		advice = fmt.Sprintf(". Name the key by the annotation %sconfig: %s/KEY, or add it", prefix, ref.Name)
	}
	return &Denial{fmt.Sprintf("the sidecar's configuration is missing: ConfigMap %s in namespace %s has no key %s, %s%s:\n"+
		"  kubectl -n %s edit configmap %s", ref.Name, namespace, ref.Key, keys, advice, namespace, ref.Name)}
}

// fromFile is the key, and the file that kubectl takes it from where people have it under another name.
func fromFile(key string) string {
	o, _ := findOption("config")
	if key == o.defaultKey {
		return key
	}
	return key + "=" + o.defaultKey
}

// denied joins everything that is wrong with one pod.
func denied(problems []string) *Denial {
	if len(problems) == 1 {
		return &Denial{"the sidecar cannot be injected: " + problems[0]}
	}
	return &Denial{"the sidecar cannot be injected:\n- " + strings.Join(problems, "\n- ")}
}

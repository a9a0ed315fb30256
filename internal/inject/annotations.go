package inject

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"readthrough/internal/suggest"
)

// tuning is what annotations make of settings.
type tuning struct {
	Settings
	problems []string        // what is wrong with the annotations, and what to write instead
	given    map[string]bool // keys of the settings that annotations have changed
	unread   map[string]bool // keys of the settings of which nothing is known, since the annotation is wrong
}

// tune changes the settings by the pod's annotations. Where there are problems, the settings must not be used.
func (s Settings) tune(annotations map[string]string) tuning {
	t := tuning{Settings: s, given: map[string]bool{}, unread: map[string]bool{}}
	wrong := func(format string, args ...any) { t.problems = append(t.problems, fmt.Sprintf(format, args...)) }
	for _, key := range sortedKeys(annotations) {
		word, ours := strings.CutPrefix(key, prefix)
		if !ours || key == InjectedBy {
			continue
		}
		o, known := byAnnotation(key)
		if !known {
			wrong("annotation %s %s", key, unknownAnnotation(word))
			continue
		}
		t.given[o.key] = true
		if err := o.set(&t.Settings, annotations[key]); err != nil {
			wrong("annotation %s %v", key, err)
			t.unread[o.key] = true
		}
	}
	t.problems = append(t.problems, t.mistakes(t.name)...)
	if t.Image == "" && !t.unread["image"] {
		wrong("no image is set: write annotation %simage, or give --image", prefix)
	}
	return t
}

// name says where a setting comes from; empty if it could not be read.
func (t *tuning) name(key string) string {
	o, _ := findOption(key)
	switch {
	case t.unread[key]:
		return ""
	case t.given[key]:
		return "annotation " + o.annotation()
	}
	return "the setting " + key
}

// byAnnotation gives the option that an annotation changes.
func byAnnotation(key string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.annotation() == key })
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

// unknownAnnotation says which annotation may have been meant by the word after the prefix.
func unknownAnnotation(word string) string {
	if prefix+word == InjectLabel {
		return "must be a label: write it under metadata.labels"
	}
	words := make([]string, len(options))
	for i, o := range options {
		words[i] = strings.TrimPrefix(o.annotation(), prefix)
	}
	if hint := suggest.DidYouMean(word, words); hint != "" {
		return "is not known" + strings.Replace(hint, "mean ", "mean "+prefix, 1)
	}
	return "is not known: there are " + prefix + strings.Join(words, ", "+prefix)
}

// idleLabels warns of labels that were meant as annotations. That of ConfigMaps is left out: people set it on all that they have.
func idleLabels(labels map[string]string) []string {
	var warnings []string
	for _, key := range sortedKeys(labels) {
		if o, known := byAnnotation(key); known && o.key != "config" {
			warnings = append(warnings, fmt.Sprintf("label %s does nothing: write it as an annotation", key))
		}
	}
	return warnings
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

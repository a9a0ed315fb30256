package inject

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"readthrough/internal/suggest"
)

// tune changes the settings by the pod's annotations. Problems say what to write instead; where there are any, the settings
// must not be used.
func (s Settings) tune(annotations map[string]string) (tuned Settings, problems []string) {
	given := map[string]bool{}
	for _, key := range sortedKeys(annotations) {
		word, ours := strings.CutPrefix(key, prefix)
		if !ours || key == InjectedBy {
			continue
		}
		o, known := byAnnotation(key)
		if !known {
			problems = append(problems, fmt.Sprintf("annotation %s %s", key, unknownAnnotation(word)))
			continue
		}
		given[o.key] = true
		if err := o.set(&s, annotations[key]); err != nil {
			problems = append(problems, fmt.Sprintf("annotation %s %v", key, err))
		}
	}
	if len(problems) > 0 {
		return s, problems
	}
	name := func(key string) string {
		if o, _ := findOption(key); given[key] {
			return "annotation " + o.annotation()
		}
		return "the setting " + key
	}
	problems = s.mistakes(name)
	if s.Image == "" {
		problems = append(problems, fmt.Sprintf("no image is set: write annotation %simage, or give the injector one with --image", prefix))
	}
	return s, problems
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

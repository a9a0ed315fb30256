package main

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// maxJudged bounds the values of a file that is judged, each list and mapping one, for the sake of the memory and the time of
// the injector. A file of a hundred maps has half as many.
const maxJudged = 5000

// judge says of a configuration file in a ConfigMap what `check --offline` says of it, name being that of the file. It looks at
// nothing but the content, since the pods that will use it have variables and files of their own.
func judge(name string, content []byte) (mistakes, warnings []string) {
	if larger(content, maxJudged) {
		return nil, []string{fmt.Sprintf("%s: has more than %d values, and was not checked: see sidecar check", name, maxJudged)}
	}
	config, err := ParseForElsewhere(name, content)
	if _, err := onlyUnset(err); err != nil {
		return messages(err), nil
	}
	for _, field := range []struct{ name, setting string }{{"listen", "port"}, {"admin", "admin-port"}, {"debug", "debug-port"}} {
		if config.doc.gives(field.name) {
			p := Problem{
				Line: config.doc.line(field.name), Path: field.name,
				Message: fmt.Sprintf("has no effect in injected pods: there the annotation readthrough/%s says it", field.setting),
			}
			warnings = append(warnings, p.format(name))
		}
	}
	for _, line := range doubts(config) {
		warnings = append(warnings, name+": "+line)
	}
	return nil, warnings
}

// larger reports whether the YAML has more values than most, with what aliases stand for. What cannot be read has none.
func larger(content []byte, most int) bool {
	var root yaml.Node
	if yaml.Unmarshal(content, &root) != nil {
		return false
	}
	var count func(n *yaml.Node) bool
	count = func(n *yaml.Node) bool {
		if most--; most < 0 {
			return true
		}
		if n.Kind == yaml.AliasNode {
			return count(n.Alias)
		}
		return slices.ContainsFunc(n.Content, count)
	}
	return count(&root)
}

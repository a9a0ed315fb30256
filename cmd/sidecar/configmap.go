package main

import "fmt"

// judge says of a configuration file in a ConfigMap what `check --offline` says of it, name being that of the file. It looks at
// nothing but the content, since the pods that will use it have variables and files of their own.
func judge(name string, content []byte) (mistakes, warnings []string) {
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

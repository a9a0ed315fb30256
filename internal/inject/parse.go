package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ParseSettings reads settings in YAML over the defaults. The error joins everything that is wrong, each with its line.
//
// Null is read for runAsUser only, where it means what none does.
func ParseSettings(raw []byte) (Settings, error) {
	s := DefaultSettings()
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("is not valid YAML: %w", err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return s, errors.New("holds several YAML documents: keep the first and remove the rest")
	}
	top := document.Content[0]
	if top.Kind == yaml.ScalarNode && top.ShortTag() == "!!null" {
		return s, nil
	}
	if top.Kind != yaml.MappingNode {
		return s, errors.New("is not a mapping: write key: value, such as memoryLimit: 128Mi")
	}
	var problems []error
	seen := map[string]bool{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key := top.Content[i]
		if err := readSetting(&s, key.Value, top.Content[i+1], seen); err != nil {
			problems = append(problems, fmt.Errorf("line %d: %s: %w", key.Line, key.Value, err))
		}
		seen[key.Value] = true
	}
	if len(problems) == 0 {
		for _, m := range s.mistakes(func(key string) string { return key }) {
			problems = append(problems, errors.New(m))
		}
	}
	return s, errors.Join(problems...)
}

func readSetting(s *Settings, key string, value *yaml.Node, seen map[string]bool) error {
	o, known := findOption(key)
	if !known {
		return errors.New(unknownSetting(key))
	}
	if seen[key] {
		return errors.New("given twice: keep one")
	}
	text, err := settingText(o, value)
	if err != nil {
		return err
	}
	return o.set(s, text)
}

// settingText is the value as an annotation would hold it.
func settingText(o option, n *yaml.Node) (string, error) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n.Kind == yaml.MappingNode && o.isMap():
		var items []string
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if value.Kind != yaml.ScalarNode || value.ShortTag() == "!!null" {
				return "", fmt.Errorf("%s has no text: give it one, or remove the line", key.Value)
			}
			items = append(items, joinItem(key.Value+"="+value.Value))
		}
		return strings.Join(items, ","), nil
	case n.Kind == yaml.MappingNode:
		return "", errors.New("is a mapping: write one value")
	case n.Kind == yaml.SequenceNode:
		return "", errors.New("is a list: write one value")
	case o.isMap():
		return "", errors.New("is not a mapping: write NAME: VALUE below it")
	case n.ShortTag() != "!!null":
		return n.Value, nil
	case o.nullable():
		return "none", nil
	}
	return "", errors.New("has no value: give it one, or remove the line")
}

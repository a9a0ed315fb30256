package inject

import (
	"errors"
	"slices"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds what aliases may grow to: a few lines of them can stand for billions.
const maxNodes = 1 << 20

// expand replaces aliases and merge keys by what they stand for, so that a change in one place stays in that place. A
// document without any is not changed.
func expand(root *yaml.Node) error {
	e := expander{left: maxNodes}
	if !e.any(root) {
		return nil
	}
	expanded, err := e.node(root)
	if err != nil {
		return err
	}
	*root = *expanded
	return nil
}

type expander struct{ left int }

// any reports whether there is an alias or a merge key.
func (e *expander) any(n *yaml.Node) bool {
	return n.Kind == yaml.AliasNode || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!merge" || slices.ContainsFunc(n.Content, e.any)
}

// node is a copy without anchors and aliases.
func (e *expander) node(n *yaml.Node) (*yaml.Node, error) {
	if e.left--; e.left < 0 {
		return nil, errors.New("the aliases in this document stand for too much: write it out")
	}
	if n.Kind == yaml.AliasNode {
		copied, err := e.node(n.Alias)
		if err == nil {
			inherit(copied, n)
		}
		return copied, err
	}
	copied := *n
	copied.Anchor, copied.Content = "", nil
	for _, c := range n.Content {
		c, err := e.node(c)
		if err != nil {
			return nil, err
		}
		copied.Content = append(copied.Content, c)
	}
	if n.Kind == yaml.MappingNode {
		merge(&copied)
	}
	return &copied, nil
}

// merge puts in place of merge keys what they bring: keys that are not there.
func merge(n *yaml.Node) {
	content := n.Content
	n.Content = nil
	var sources []*yaml.Node
	for i := 0; i+1 < len(content); i += 2 {
		key, value := content[i], content[i+1]
		switch {
		case key.ShortTag() != "!!merge":
			n.Content = append(n.Content, key, value)
		case value.Kind == yaml.SequenceNode:
			sources = append(sources, value.Content...)
		default:
			sources = append(sources, value)
		}
	}
	for _, source := range sources {
		for i := 0; i+1 < len(source.Content); i += 2 {
			if source.Kind == yaml.MappingNode && entry(n, source.Content[i].Value) < 0 {
				n.Content = append(n.Content, source.Content[i], source.Content[i+1])
			}
		}
	}
}

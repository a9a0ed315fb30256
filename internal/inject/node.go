package inject

import (
	"fmt"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Apply carries the patch out on a YAML mapping, whose comments, order and styles stay. Its path must not lead through an
// alias or a merge key.
func (p Patch) Apply(root *yaml.Node) error {
	for _, o := range p {
		if err := o.apply(root); err != nil {
			return fmt.Errorf("%s %s: %w", o.Op, o.Path, err)
		}
	}
	return nil
}

func (o Operation) apply(root *yaml.Node) error {
	switch o.Op {
	case "add", "replace":
		value, err := nodeOf(o.Value)
		if err != nil {
			return err
		}
		return put(root, o.Path, value, o.Op == "replace")
	case "move":
		value, err := take(root, o.From)
		if err != nil {
			return err
		}
		return put(root, o.Path, value, false)
	}
	return fmt.Errorf("%q is not an operation that is known here", o.Op)
}

// put adds the value at path. In a list, what stands there moves up, unless it is to be replaced.
func put(root *yaml.Node, path string, value *yaml.Node, replace bool) error {
	parent, last, err := parentOf(root, path, func(n *yaml.Node) {
		if value.Kind != yaml.ScalarNode {
			n.Style &^= yaml.FlowStyle // within { } all would be on one line
		}
	})
	if err != nil {
		return err
	}
	if parent.Kind == yaml.MappingNode {
		if old := entry(parent, last); old >= 0 {
			inherit(value, parent.Content[old])
			parent.Content[old] = value
			return nil
		}
		if replace {
			return fmt.Errorf("there is no %s", last)
		}
		parent.Content = append(parent.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: last}, value)
		return nil
	}
	index, err := indexOf(parent, last, !replace)
	if err != nil {
		return err
	}
	if replace {
		inherit(value, parent.Content[index])
		parent.Content[index] = value
		return nil
	}
	parent.Content = append(parent.Content, nil)
	copy(parent.Content[index+1:], parent.Content[index:])
	parent.Content[index] = value
	return nil
}

// take removes what stands at path and returns it.
func take(root *yaml.Node, path string) (*yaml.Node, error) {
	parent, last, err := parentOf(root, path, func(*yaml.Node) {})
	if err != nil {
		return nil, err
	}
	if parent.Kind == yaml.MappingNode {
		i := entry(parent, last)
		if i < 0 {
			return nil, fmt.Errorf("there is no %s", path)
		}
		value := parent.Content[i]
		parent.Content = append(parent.Content[:i-1], parent.Content[i+1:]...)
		return value, nil
	}
	index, err := indexOf(parent, last, false)
	if err != nil {
		return nil, err
	}
	value := parent.Content[index]
	parent.Content = append(parent.Content[:index], parent.Content[index+1:]...)
	return value, nil
}

// inherit gives a value the comments of the one whose place it takes.
func inherit(value, old *yaml.Node) {
	value.HeadComment, value.LineComment, value.FootComment = old.HeadComment, old.LineComment, old.FootComment
}

// parentOf finds the mapping or list that holds path, and the last part of path within it. It calls pass with each node on the
// way.
func parentOf(root *yaml.Node, path string, pass func(*yaml.Node)) (parent *yaml.Node, last string, err error) {
	steps, err := tokens(path)
	if err != nil {
		return nil, "", err
	}
	last = steps[len(steps)-1]
	parent = root
	for _, step := range steps[:len(steps)-1] {
		pass(parent)
		switch parent.Kind {
		case yaml.MappingNode:
			i := entry(parent, step)
			if i < 0 {
				return nil, "", fmt.Errorf("there is no %s", step)
			}
			parent = parent.Content[i]
		case yaml.SequenceNode:
			i, err := indexOf(parent, step, false)
			if err != nil {
				return nil, "", err
			}
			parent = parent.Content[i]
		default:
			return nil, "", fmt.Errorf("%s is not within a mapping or a list", step)
		}
	}
	if parent.Kind != yaml.MappingNode && parent.Kind != yaml.SequenceNode {
		return nil, "", fmt.Errorf("%s is not within a mapping or a list", last)
	}
	pass(parent)
	return parent, last, nil
}

// entry is the index of a key's value within a mapping's content, or -1.
func entry(mapping *yaml.Node, key string) int {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return i + 1
		}
	}
	return -1
}

// child is a key's value in a mapping, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	if i := entry(n, key); i >= 0 {
		return n.Content[i]
	}
	return nil
}

// indexOf reads an index of a list, which is that after its last item where something may be added there.
func indexOf(list *yaml.Node, step string, adding bool) (int, error) {
	limit := len(list.Content)
	if adding {
		limit++
	}
	i, err := strconv.Atoi(step)
	if err != nil || i < 0 || i >= limit {
		return 0, fmt.Errorf("%q is not an index of a list of %d", step, len(list.Content))
	}
	return i, nil
}

// nodeOf is JSON as people write YAML: in blocks, and with quotes only where they are needed.
func nodeOf(raw []byte) (*yaml.Node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(raw, &document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 {
		return nil, fmt.Errorf("%q is not a value", raw)
	}
	blocks(document.Content[0])
	return document.Content[0], nil
}

// plain is text that no version of YAML takes for anything but text. What does not match keeps its quotes.
var plain = regexp.MustCompile(`^((--)?[A-Za-z/][A-Za-z0-9/_.:=-]*[A-Za-z0-9/_=-]|[0-9]+(m|s|Mi|Gi|MiB))$`)

// words are what versions of YAML take for something else.
var words = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`)

// blocks takes the styles of JSON away.
func blocks(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode && plain.MatchString(n.Value) && !words.MatchString(n.Value) {
		n.Style = 0
	}
	for _, c := range n.Content {
		blocks(c)
	}
}

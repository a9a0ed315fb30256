package kubeapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Patch applies operations of RFC 6902: add, replace, remove and test.
func Patch(object map[string]any, operations []byte) (map[string]any, error) {
	var list []struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	if err := json.Unmarshal(operations, &list); err != nil {
		return nil, err
	}
	var patched any = object
	for _, o := range list {
		if !strings.HasPrefix(o.Path, "/") {
			return nil, fmt.Errorf("%s %q: not a path", o.Op, o.Path)
		}
		var err error
		if patched, err = apply(patched, o.Op, strings.Split(o.Path[1:], "/"), o.Value); err != nil {
			return nil, fmt.Errorf("%s %s: %w", o.Op, o.Path, err)
		}
	}
	return patched.(map[string]any), nil
}

var unescape = strings.NewReplacer("~1", "/", "~0", "~")

// apply gives a copy of node, changed at the path.
func apply(node any, op string, path []string, value any) (any, error) {
	name := unescape.Replace(path[0])
	switch node := node.(type) {
	case map[string]any:
		node = maps.Clone(node)
		child, found := node[name]
		switch {
		case len(path) == 1 && op == "remove" && found:
			delete(node, name)
			return node, nil
		case !found && (len(path) > 1 || op != "add"):
			return nil, fmt.Errorf("%s does not exist", name)
		}
		changed, err := change(child, op, path, value)
		node[name] = changed
		return node, err
	case []any:
		node = slices.Clone(node)
		if len(path) == 1 && op == "add" && name == "-" {
			return append(node, value), nil
		}
		i, err := strconv.Atoi(name)
		switch {
		case err == nil && len(path) == 1 && op == "add" && i >= 0 && i <= len(node):
			return slices.Insert(node, i, value), nil
		case err != nil || i < 0 || i >= len(node):
			return nil, fmt.Errorf("index %s of %d", name, len(node))
		case len(path) == 1 && op == "remove":
			return slices.Delete(node, i, i+1), nil
		}
		node[i], err = change(node[i], op, path, value)
		return node, err
	}
	return nil, fmt.Errorf("%s is not within an object or a list", name)
}

func change(child any, op string, path []string, value any) (any, error) {
	switch {
	case len(path) > 1:
		return apply(child, op, path[1:], value)
	case op == "test" && !reflect.DeepEqual(child, value):
		return nil, fmt.Errorf("it is %v", child)
	case op == "test":
		return child, nil
	case op == "add" || op == "replace":
		return value, nil
	}
	return nil, fmt.Errorf("unknown operation %q", op)
}

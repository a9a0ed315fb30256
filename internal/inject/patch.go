package inject

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Patch is a JSON Patch (RFC 6902). The empty one changes nothing.
type Patch []Operation

// Operation is one step of a [Patch].
type Operation struct {
	Op    string          `json:"op"`              // add, replace or move
	From  string          `json:"from,omitempty"`  // of a move
	Path  string          `json:"path"`            // where it is afterwards
	Value json.RawMessage `json:"value,omitempty"` // of an add or a replace
}

func (p *Patch) add(path string, value any) {
	*p = append(*p, Operation{Op: "add", Path: path, Value: encode(value)})
}

func (p *Patch) replace(path string, value any) {
	*p = append(*p, Operation{Op: "replace", Path: path, Value: encode(value)})
}

func (p *Patch) move(from, path string) {
	*p = append(*p, Operation{Op: "move", From: from, Path: path})
}

// addToList adds items at an index of a list that has so many. An empty list may be absent or null, where nothing can be
// added to it, so it is replaced by a new one.
func addToList[T any](p *Patch, list string, length, index int, items ...T) {
	switch {
	case len(items) == 0:
	case length == 0:
		p.add(list, items)
	default:
		for i, item := range items {
			p.add(pointer(list, strconv.Itoa(index+i)), item)
		}
	}
}

// addToMap sets keys of a map that holds what is present. An empty map may be absent or null, so it is replaced by a new one.
func addToMap(p *Patch, path string, present, entries map[string]string) {
	if len(present) == 0 {
		p.add(path, entries)
		return
	}
	for _, key := range sortedKeys(entries) {
		if old, ok := present[key]; !ok || old != entries[key] {
			p.add(pointer(path, key), entries[key])
		}
	}
}

// escaper and unescaper are those of a JSON Pointer's tokens (RFC 6901).
var (
	escaper   = strings.NewReplacer("~", "~0", "/", "~1")
	unescaper = strings.NewReplacer("~1", "/", "~0", "~")
)

// pointer appends tokens to a JSON Pointer.
func pointer(to string, tokens ...string) string {
	for _, t := range tokens {
		to += "/" + escaper.Replace(t)
	}
	return to
}

// tokens takes a JSON Pointer apart.
func tokens(path string) ([]string, error) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, fmt.Errorf("%q is not a path within an object", path)
	}
	all := strings.Split(rest, "/")
	for i, t := range all {
		all[i] = unescaper.Replace(t)
	}
	return all, nil
}

// encode is the JSON of a value that always has one: the Kubernetes types and texts of this package.
func encode(value any) json.RawMessage {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("inject: %T has no JSON: %v", value, err))
	}
	return raw
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"readthrough/internal/suggest"
)

// document reads one YAML file against the Config struct and collects what is wrong with it. A field with a problem is
// left out of what it returns, so that the rest can still be read and all problems are found at once.
type document struct {
	file     string
	outside  outside
	lines    map[string]int    // line of each field by path; lists and mappings too
	env      map[string]string // the variable that gave a field, by path
	problems []Problem
	mistakes int // of the problems, without those that another environment solves
}

// maxMistakes bounds what is noted of one file: its author starts at the top, and each one is compared with those before it.
const maxMistakes = 200

func newDocument(file string, from outside) *document {
	return &document{file: file, outside: from, lines: map[string]int{}, env: map[string]string{}}
}

// problem notes that the field at path is wrong. A field that already has a problem, or stands within one that has,
// gets no second one: it would be a consequence of the first.
func (d *document) problem(path, format string, args ...any) {
	d.add(Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// add is [document.problem] for one or more at once, which may be about the same field.
func (d *document) add(found ...Problem) {
	found = slices.DeleteFunc(found, func(p Problem) bool { return d.wrong(p.Path) })
	for i := range found {
		p := &found[i]
		if p.Env = d.env[strings.TrimRight(p.Path, "[0123456789]")]; p.Env == "" && p.Line == 0 {
			p.Line = d.line(p.Path)
		}
	}
	for _, p := range found {
		switch {
		case p.Unset:
		case d.mistakes > maxMistakes:
			continue
		case d.mistakes == maxMistakes:
			d.mistakes++
			p = Problem{Message: fmt.Sprintf("has more than %d mistakes: these are the first that were found", maxMistakes)}
		default:
			d.mistakes++
		}
		d.problems = append(d.problems, p)
	}
}

// wrong reports whether the field at path, or one around it, already has a problem.
func (d *document) wrong(path string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool {
		return p.Path != "" && (p.Path == path || strings.HasPrefix(path, p.Path+".") || strings.HasPrefix(path, p.Path+"["))
	})
}

// wrongWithin reports whether something inside the field at path has a problem.
func (d *document) wrongWithin(path string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return strings.HasPrefix(p.Path, path+"[") })
}

// line is that of the field, or of the nearest one around it that the file has.
func (d *document) line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// gives reports whether the file has the field at path, right or wrong.
func (d *document) gives(path string) bool { return d.lines[path] > 0 }

func (d *document) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	return &ConfigError{File: d.file, Problems: sorted(d.problems)}
}

var yamlErrorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// read turns the file into the values of target's fields. It returns false where there is nothing to read fields from.
func (d *document) read(raw []byte, target any) (map[string]any, bool) {
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	var root, second yaml.Node
	err := decoder.Decode(&root)
	if errors.Is(err, io.EOF) {
		d.add(Problem{Message: "is empty: start with apiVersion: readthrough/v1"})
		return nil, false
	}
	if err != nil {
		line, _ := strconv.Atoi(yamlErrorLine.FindStringSubmatch(err.Error() + "yaml: ")[1])
		d.add(Problem{Line: line, Message: "is not valid YAML: " + yamlErrorLine.ReplaceAllString(err.Error(), "")})
		return nil, false
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		d.add(Problem{Line: second.Line, Message: "holds several YAML documents: keep the first and remove the rest"})
	}
	top := resolve(root.Content[0])
	if top.Kind == yaml.ScalarNode && top.ShortTag() == "!!null" {
		d.add(Problem{Message: "is empty: start with apiVersion: readthrough/v1"})
		return nil, false
	}
	if top.Kind != yaml.MappingNode {
		d.add(Problem{Line: top.Line, Message: "is " + kindName(top) + ", not a mapping: start with apiVersion: readthrough/v1"})
		return nil, false
	}
	return d.mapping("", top, reflect.TypeOf(target).Elem(), false), true
}

// mapping reads the fields of a struct type.
func (d *document) mapping(path string, n *yaml.Node, t reflect.Type, expand bool) map[string]any {
	fields := fieldsOf(t)
	values := make(map[string]any, len(fields))
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		at := join(path, key.Value)
		if first, twice := seen[key.Value]; twice {
			d.add(Problem{Line: key.Line, Path: at, Message: fmt.Sprintf("given twice, first on line %d: keep one", first)})
			continue
		}
		seen[key.Value] = key.Line
		d.lines[at] = key.Line
		f, known := fields.find(key.Value)
		if !known {
			d.problem(at, "%s", unknownField(key.Value, fields))
			continue
		}
		if v, ok := d.value(at, value, f, expand || path == "" && expands[f.name]); ok {
			values[f.name] = v
		}
	}
	for _, f := range fields {
		at := join(path, f.name)
		if _, given := seen[f.name]; given {
			continue
		}
		switch {
		case f.fallback != "" || f.isStruct():
			values[f.name], _ = d.value(at, f.absent(), f, false)
		case f.required && d.outside.value(envName(at)) == "":
			d.problem(at, "is missing: write %s", f.want())
		}
	}
	return values
}

// value reads one field. It returns false, having noted the problem, where the node does not fit the field.
func (d *document) value(path string, n *yaml.Node, f field, expand bool) (any, bool) {
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		d.problem(path, "has no value: give it one, or remove the line")
		return nil, false
	case f.isStruct():
		if n.Kind != yaml.MappingNode {
			d.problem(path, "must be a mapping of %s, not %s", strings.Join(fieldsOf(f.typ).names(), ", "), kindName(n))
			return nil, false
		}
		return d.mapping(path, n, f.typ, expand), true
	case f.typ.Kind() == reflect.Slice:
		return d.list(path, n, f, expand)
	}
	if n.Kind != yaml.ScalarNode {
		d.problem(path, "must be %s, not %s", f.want(), kindName(n))
		return nil, false
	}
	if refersToVariable(n.Value) {
		if !expand {
			d.problem(path, "holds %s, and variables expand only under listen, admin, debug, upstream and origins: %s",
				firstReference(n.Value), "write the text itself, and in a query a named parameter (@name)")
			return nil, false
		}
		text, err := d.outside.expand(n.Value)
		if err != nil {
			d.add(Problem{Path: path, Message: err.Error(), Unset: errors.Is(err, errUnset)})
			return nil, false
		}
		if f.typ != secretType {
			n = f.node(text) // what a variable holds has no quotes of its own
		}
	}
	v, err := f.parse(n)
	if err != nil {
		d.problem(path, "%s", err)
		return nil, false
	}
	return v, true
}

// list reads a list of structs or of plain values, without those that have a problem.
func (d *document) list(path string, n *yaml.Node, f field, expand bool) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		hint := ""
		if n.Kind == yaml.ScalarNode {
			hint = ": write [" + n.Value + "]"
		}
		d.problem(path, "must be a list, not %s%s", kindName(n), hint)
		return nil, false
	}
	item := f
	item.typ = f.typ.Elem()
	values := make([]any, 0, len(n.Content))
	for i, content := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		content = resolve(content)
		d.lines[at] = content.Line
		v, ok := d.value(at, content, item, expand)
		if !ok && item.isStruct() {
			v = map[string]any{} // keeps the indexes of those that follow
		} else if !ok {
			continue
		}
		values = append(values, v)
	}
	return values, true
}

func unknownField(name string, fields fields) string {
	if name == "<<" {
		return "YAML merge keys are not read: write the fields out"
	}
	if hint := suggest.DidYouMean(name, fields.names()); hint != "" {
		return "unknown field" + hint
	}
	return "unknown field: the ones here are " + strings.Join(fields.names(), ", ")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// kindName says in a reader's words what stands in the file.
func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!str":
		return strconv.Quote(n.Value)
	}
	return n.Value
}

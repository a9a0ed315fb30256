package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"readthrough/internal/suggest"
)

// field is one configuration option as its struct tags describe it.
type field struct {
	name     string
	typ      reflect.Type
	required bool
	fallback string   // the text that an absent field stands for
	oneof    []string // the words it takes; nil for any
}

type fields []field

func fieldsOf(t reflect.Type) fields {
	var all fields
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		if tag.Get("mapstructure") == "" {
			continue
		}
		f := field{
			name:     tag.Get("mapstructure"),
			typ:      t.Field(i).Type,
			required: tag.Get("required") == "true",
			fallback: tag.Get("default"),
		}
		if words := tag.Get("oneof"); words != "" {
			f.oneof = strings.Split(words, "|")
		}
		all = append(all, f)
	}
	return all
}

func (fs fields) find(name string) (field, bool) {
	i := slices.IndexFunc(fs, func(f field) bool { return f.name == name })
	if i < 0 {
		return field{}, false
	}
	return fs[i], true
}

func (fs fields) names() []string {
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.name
	}
	return names
}

var (
	configType   = reflect.TypeFor[Config]()
	durationType = reflect.TypeFor[time.Duration]()
	percentType  = reflect.TypeFor[Percent]()
	sizeType     = reflect.TypeFor[Size]()
	secretType   = reflect.TypeFor[Secret]()
)

// isStruct reports whether the field is a group of fields rather than a value.
func (f field) isStruct() bool { return f.typ.Kind() == reflect.Struct && f.typ != secretType }

// absent is the node that an absent field stands for.
func (f field) absent() *yaml.Node {
	if f.isStruct() {
		return &yaml.Node{Kind: yaml.MappingNode}
	}
	return f.node(f.fallback)
}

// node is text as YAML: that of a default, or of an environment variable, where commas separate the items of a list.
func (f field) node(text string) *yaml.Node {
	if f.typ.Kind() == reflect.Slice {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for item := range strings.SplitSeq(text, ",") {
			list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.TrimSpace(item)})
		}
		return list
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: text}
	if f.typ.Kind() != reflect.Int && f.typ.Kind() != reflect.Bool {
		n.Tag = "!!str"
	}
	return n
}

// want says what the field takes, for error messages.
func (f field) want() string {
	switch {
	case f.oneof != nil:
		return strings.Join(f.oneof, " or ")
	case f.typ.Kind() == reflect.Slice:
		return "a list"
	case f.typ == durationType:
		return "a duration such as 250ms, 30s or 1h"
	case f.typ == percentType:
		return "a percentage such as 10%"
	case f.typ == sizeType:
		return "a size such as 8MiB or 512KiB"
	case f.typ.Kind() == reflect.Int:
		return "a whole number"
	case f.typ.Kind() == reflect.Bool:
		return "true or false"
	}
	return "text"
}

// parse gives a scalar the field's type. Errors say what to write instead and never repeat a secret.
func (f field) parse(n *yaml.Node) (any, error) {
	text, tag := n.Value, n.ShortTag()
	switch {
	case f.typ == secretType:
		return Secret{template: text}, nil
	case f.typ == durationType:
		return parseDuration(text)
	case f.typ == percentType:
		return parsePercent(text)
	case f.typ == sizeType:
		return parseSize(text)
	case f.typ.Kind() == reflect.Int:
		var v int
		if tag != "!!int" || n.Decode(&v) != nil {
			return nil, fmt.Errorf("must be a whole number, not %s", kindName(n))
		}
		return v, nil
	case f.typ.Kind() == reflect.Bool:
		var v bool
		if tag != "!!bool" || n.Decode(&v) != nil {
			return nil, fmt.Errorf("must be true or false, not %s", kindName(n))
		}
		return v, nil
	case tag != "!!str":
		return nil, fmt.Errorf("must be text, not %s: write %q", kindName(n), text)
	case f.oneof != nil && !slices.Contains(f.oneof, text):
		return nil, f.unknownWord(text)
	}
	return text, nil
}

// refusedWords are words that somebody may well write, by field.
var refusedWords = map[string]string{
	"queryMode.simple_protocol": "builds SQL text out of values and is never used: write exec behind PgBouncer",
}

func (f field) unknownWord(text string) error {
	if why, ok := refusedWords[f.name+"."+text]; ok {
		return fmt.Errorf("%s %s", text, why)
	}
	if hint := suggest.DidYouMean(text, f.oneof); hint != "" {
		return fmt.Errorf("%q is not known here%s", text, hint)
	}
	return fmt.Errorf("%q is not known here: write %s", text, strings.Join(f.oneof, " or "))
}

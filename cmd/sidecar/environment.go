package main

import (
	"iter"
	"reflect"
	"strings"
	"unicode"
)

// envPrefix begins every variable that takes the place of a field in the file.
const envPrefix = "READTHROUGH_"

// envName is the variable for the field at path: upstream.tls.caFile is READTHROUGH_UPSTREAM_TLS_CA_FILE.
func envName(path string) string {
	var b strings.Builder
	b.WriteString(envPrefix)
	for i, r := range path {
		switch {
		case r == '.':
			b.WriteByte('_')
		case unicode.IsUpper(r) && i > 0 && unicode.IsLower(rune(path[i-1])):
			b.WriteByte('_')
			b.WriteRune(r)
		default:
			b.WriteRune(unicode.ToUpper(r))
		}
	}
	return b.String()
}

// environment yields the values that READTHROUGH_… variables give to target's fields, by path. Every field outside the
// lists of structs has a variable; one that is set but empty counts as unset.
//
// A secret is not read here: its field becomes a reference to the variable. Where a variable gives a secret, or the file
// that holds it, what the configuration file says about either is taken away: the nearer of two sources wins whole.
func (d *document) environment(target any, given func(path string) bool) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		d.environmentOf("", reflect.TypeOf(target).Elem(), given, yield)
	}
}

func (d *document) environmentOf(path string, t reflect.Type, given func(string) bool, yield func(string, any) bool) bool {
	for _, f := range fieldsOf(t) {
		at := join(path, f.name)
		if f.isStruct() {
			if !d.environmentOf(at, f.typ, given, yield) {
				return false
			}
			continue
		}
		if f.typ.Kind() == reflect.Slice && f.typ.Elem().Kind() == reflect.Struct {
			continue
		}
		name := envName(at)
		if text := d.outside.value(name); text != "" {
			d.env[at] = name
			if f.typ == secretType {
				text = "${" + name + "}"
			}
			if v, ok := d.value(at, f.node(text), f, true); ok && !yield(at, v) {
				return false
			}
			continue
		}
		if twin, has := secretTwin(t, f); has && given(at) && d.outside.value(envName(join(path, twin))) != "" {
			if !yield(at, reflect.Zero(f.typ).Interface()) {
				return false
			}
		}
	}
	return true
}

// secretTwin is the other field that can give the same secret: password for passwordFile, and the reverse.
func secretTwin(t reflect.Type, f field) (string, bool) {
	name, isFile := strings.CutSuffix(f.name, "File")
	if !isFile {
		name = f.name + "File"
	}
	other, ok := fieldsOf(t).find(name)
	if !ok || f.typ != secretType && other.typ != secretType {
		return "", false
	}
	return name, true
}

package inject

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"readthrough/internal/suggest"
)

// option is one of the [Settings] as its struct tags describe it.
type option struct {
	key        string
	fallback   string
	oneof      []string
	defaultKey string // of a reference to a ConfigMap or Secret
	text       string
	field      int // in the struct
	read       reader
}

var options = readOptions()

func readOptions() []option {
	t := reflect.TypeFor[Settings]()
	all := make([]option, t.NumField())
	for i := range all {
		field := t.Field(i)
		tag := field.Tag
		all[i] = option{
			key: tag.Get("setting"), fallback: tag.Get("default"), defaultKey: tag.Get("key"), text: tag.Get("text"),
			field: i, read: readers[field.Type],
		}
		if words := tag.Get("oneof"); words != "" {
			all[i].oneof = strings.Split(words, "|")
			all[i].read = readWord(field.Type)
		}
		if all[i].key == "" || all[i].read == nil {
			panic(fmt.Sprintf("inject: %s has no key, or a type that nothing reads", field.Name))
		}
	}
	return all
}

// findOption gives the option with this key.
func findOption(key string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.key == key })
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

// set gives the option the value that text stands for. The error says what to write instead.
func (o option) set(s *Settings, text string) error {
	value := reflect.New(o.valueType()).Elem()
	if !utf8.ValidString(text) {
		return errors.New("is not text in UTF-8")
	}
	if text = strings.TrimSpace(text); text != "" {
		read, err := o.read(o, text)
		if err != nil {
			return err
		}
		value.Set(reflect.ValueOf(read))
	} else if !o.optional() {
		return fmt.Errorf("is empty: write a value such as %s", o.fallback)
	}
	reflect.ValueOf(s).Elem().Field(o.field).Set(value)
	return nil
}

// optional reports whether the empty text stands for nothing at all.
func (o option) optional() bool {
	return o.fallback == "" || o.valueType() == quantityType
}

// annotation is the name of the annotation that changes the option: readthrough/cpu-request for cpuRequest.
func (o option) annotation() string {
	var b strings.Builder
	b.WriteString(prefix)
	for _, r := range o.key {
		if unicode.IsUpper(r) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// unknownSetting says which setting may have been meant.
func unknownSetting(key string) string {
	keys := make([]string, len(options))
	for i, o := range options {
		keys[i] = o.key
	}
	if hint := suggest.DidYouMean(key, keys); hint != "" {
		return "unknown setting" + hint
	}
	return "unknown setting: there are " + strings.Join(keys, ", ")
}

// isMap reports whether YAML has a mapping for the option, where an annotation has a list.
func (o option) isMap() bool {
	t := o.valueType()
	return t == reflect.TypeFor[Variables]() || t == reflect.TypeFor[SecretVariables]()
}

// nullable reports whether the option takes null, and the word none, for leaving something to the platform.
func (o option) nullable() bool { return o.valueType() == reflect.TypeFor[*UserID]() }

func (o option) valueType() reflect.Type { return reflect.TypeFor[Settings]().Field(o.field).Type }

// Set changes the setting with this key by text such as an annotation holds. The error continues a sentence whose subject
// is the setting, and says what to write.
func (s *Settings) Set(key, text string) error {
	o, known := findOption(key)
	if !known {
		return fmt.Errorf("%s: %s", key, unknownSetting(key))
	}
	return o.set(s, text)
}

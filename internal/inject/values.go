package inject

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"readthrough/internal/suggest"
)

// Image is a reference to a container image.
type Image string

// Name is that of an object of the pod's namespace; empty for none.
type Name string

// Port is a TCP port that a process without privileges may listen on.
type Port int32

// UserID is a numeric user other than root.
type UserID int64

// LogLevel is one of those of the configuration's log.level; empty for what that says.
type LogLevel string

// Form is how the sidecar stands in the pod.
type Form string

// The forms. FormAuto is native where the cluster has it.
const (
	FormAuto     Form = "auto"
	FormNative   Form = "native"
	FormOrdinary Form = "ordinary"
)

// ConfigRef is a key of a ConfigMap.
type ConfigRef struct{ Name, Key string }

// SecretRef is a key of a Secret; the zero one is none.
type SecretRef struct{ Name, Key string }

// Variable is one that an application's container gets.
type Variable struct{ Name, Value string }

// Variables are in the order in which they were written.
type Variables []Variable

// SecretVariable is a variable of the configuration, ${Name}, that stands for a key of a Secret.
type SecretVariable struct {
	Name string
	Ref  SecretRef
}

// SecretVariables are in the order in which they were written.
type SecretVariables []SecretVariable

// reader makes a value of text that is not empty, of the type of the option's field. The error continues a sentence whose
// subject is the option, and says what to write.
type reader func(o option, text string) (any, error)

var quantityType = reflect.TypeFor[resource.Quantity]()

// readers read text by the type that it becomes.
var readers = map[reflect.Type]reader{
	reflect.TypeFor[Image]():           func(_ option, text string) (any, error) { return readImage(text) },
	reflect.TypeFor[Name]():            func(_ option, text string) (any, error) { return readName(text) },
	reflect.TypeFor[Port]():            func(_ option, text string) (any, error) { return readPort(text) },
	reflect.TypeFor[*UserID]():         func(_ option, text string) (any, error) { return readUserID(text) },
	reflect.TypeFor[Variables]():       func(_ option, text string) (any, error) { return readVariables(text) },
	reflect.TypeFor[SecretVariables](): func(_ option, text string) (any, error) { return readSecretVariables(text) },
	quantityType:                       func(_ option, text string) (any, error) { return readQuantity(text) },
	reflect.TypeFor[ConfigRef](): func(o option, text string) (any, error) {
		name, key, err := readRef(text, o.defaultKey)
		return ConfigRef{Name: name, Key: key}, err
	},
	reflect.TypeFor[SecretRef](): func(o option, text string) (any, error) {
		name, key, err := readRef(text, o.defaultKey)
		return SecretRef{Name: name, Key: key}, err
	},
}

// readWord reads one of the words that the option takes.
func readWord(t reflect.Type) reader {
	return func(o option, text string) (any, error) {
		if slices.Contains(o.oneof, text) {
			return reflect.ValueOf(text).Convert(t).Interface(), nil
		}
		if hint := suggest.DidYouMean(text, o.oneof); hint != "" {
			return nil, fmt.Errorf("is %q%s", text, hint)
		}
		return nil, fmt.Errorf("is %q: write %s", text, strings.Join(o.oneof, " or "))
	}
}

// imageForm is coarse: the node's container runtime knows better, but says it late.
var imageForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:/@\[\]-]*[A-Za-z0-9])?$`)

func readImage(text string) (Image, error) {
	if len(text) > 1024 || !imageForm.MatchString(text) {
		return "", fmt.Errorf("is %q, which is not an image: write one such as registry.example.com/readthrough:1.0.0", text)
	}
	return Image(text), nil
}

func readName(text string) (Name, error) {
	if len(validation.IsDNS1123Subdomain(text)) > 0 {
		return "", fmt.Errorf("is %q, which is not a name: write lower case letters, digits, dots and dashes", text)
	}
	return Name(text), nil
}

// readRef reads NAME or NAME/KEY.
func readRef(text, defaultKey string) (name, key string, err error) {
	name, key, given := strings.Cut(text, "/")
	if !given {
		key = defaultKey
	}
	switch {
	case key == "":
		return "", "", fmt.Errorf("is %q, which has no key: write NAME/KEY", text)
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		return "", "", fmt.Errorf("is %q, and %q is not a name: write lower case letters, digits, dots and dashes", text, name)
	case len(validation.IsConfigMapKey(key)) > 0:
		return "", "", fmt.Errorf("is %q, and %q is not a key: write letters, digits, dots, dashes and _", text, key)
	}
	return name, key, nil
}

func readPort(text string) (Port, error) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 1 || n > 65535:
		return 0, fmt.Errorf("is %q, which is not a port: write 1024 to 65535", text)
	case n < 1024:
		return 0, fmt.Errorf("is %d, and ports below 1024 need privileges that the sidecar does not have: write 1024 to 65535", n)
	}
	return Port(n), nil
}

func readUserID(text string) (*UserID, error) {
	if text == "none" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || len(validation.IsValidUserID(n)) > 0:
		return nil, fmt.Errorf("is %q, which is not a user's number: write one such as 65532, or none", text)
	case n == 0:
		return nil, errors.New("is 0, and the sidecar does not run as root: write another number such as 65532, or none")
	}
	id := UserID(n)
	return &id, nil
}

// quantityForm has the forms that [resource.ParseQuantity] takes, but no numbers beyond reason: with an exponent of a few digits
// more that would calculate for minutes.
var quantityForm = regexp.MustCompile(`^[+-]?[0-9]{1,18}(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2}|[numkMGTPE]|[KMGTPE]i)?$`)

func readQuantity(text string) (resource.Quantity, error) {
	var q resource.Quantity
	err := errors.New("not of that form")
	if quantityForm.MatchString(text) {
		q, err = resource.ParseQuantity(text)
	}
	switch {
	case err != nil:
		return q, fmt.Errorf("is %q, which is not a quantity: write one such as 20m for CPU or 128Mi for memory", text)
	case q.Sign() <= 0:
		return q, fmt.Errorf("is %q: write more than nothing, or leave it empty for none", text)
	}
	return q, nil
}

func readVariables(text string) (Variables, error) {
	var all Variables
	for _, item := range splitList(text) {
		name, value, ok := strings.Cut(item, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok:
			return nil, fmt.Errorf(`has %q, which has no =: write NAME=VALUE, and \, for a comma within a value`, item)
		case len(validation.IsEnvVarName(name)) > 0:
			return nil, fmt.Errorf("has %q, which is not a variable's name: write letters, digits and _", name)
		case slices.ContainsFunc(all, func(v Variable) bool { return v.Name == name }):
			return nil, fmt.Errorf("has %s twice: keep one", name)
		}
		all = append(all, Variable{Name: name, Value: value})
	}
	return all, nil
}

// String is what [readVariables] reads.
func (vs Variables) String() string {
	items := make([]string, len(vs))
	for i, v := range vs {
		items[i] = joinItem(v.Name + "=" + v.Value)
	}
	return strings.Join(items, ",")
}

// variableForm is what the configuration takes between ${ and }.
var variableForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func readSecretVariables(text string) (SecretVariables, error) {
	var all SecretVariables
	for _, item := range splitList(text) {
		name, ref, ok := strings.Cut(item, "=")
		name = strings.TrimSpace(name)
		switch {
		case !ok:
			return nil, fmt.Errorf("has %q, which has no =: write VAR=NAME/KEY", item)
		case !variableForm.MatchString(name):
			return nil, fmt.Errorf("has %q, which is not a variable's name: write letters, digits and _", name)
		case slices.ContainsFunc(all, func(v SecretVariable) bool { return v.Name == name }):
			return nil, fmt.Errorf("has %s twice: keep one", name)
		}
		object, key, err := readRef(strings.TrimSpace(ref), "")
		if err != nil {
			return nil, fmt.Errorf("has %s, which %w", name, err)
		}
		all = append(all, SecretVariable{Name: name, Ref: SecretRef{Name: object, Key: key}})
	}
	return all, nil
}

// splitList splits at commas; \, is a comma and \\ a backslash within an item. Blanks around items are dropped, and so
// are empty items.
func splitList(text string) []string {
	var items []string
	var item strings.Builder
	end := func() {
		if s := strings.TrimSpace(item.String()); s != "" {
			items = append(items, s)
		}
		item.Reset()
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (text[i+1] == ',' || text[i+1] == '\\'):
			i++
			item.WriteByte(text[i])
		case c == ',':
			end()
		default:
			item.WriteByte(c)
		}
	}
	end()
	return items
}

// joinItem is an item of a list as [splitList] reads it.
func joinItem(item string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(item)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// Secret is where a secret comes from, never the secret itself: text with ${VAR} references, or a file. The zero Secret
// stands for none.
type Secret struct {
	template string
	file     string
}

// SecretFile is the secret that a file holds.
func SecretFile(path string) Secret { return Secret{file: path} }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s == Secret{} }

// Read gives the secret as it is now: files are read again at each call, so that a rotated secret is found.
func (s Secret) Read(context.Context) (string, error) {
	if s.file != "" {
		return readSecretFile(s.file)
	}
	return expandVariables(s.template)
}

// String names the source, so that a Secret may be printed.
func (s Secret) String() string {
	switch {
	case s.file != "":
		return "file " + s.file
	case s.template == "":
		return "none"
	case len(reference.FindAllString(s.template, -1)) == 1 && s.literal() == "":
		return s.template
	}
	return "[secret]"
}

// GoString keeps the template out of %#v.
func (s Secret) GoString() string { return "Secret(" + s.String() + ")" }

// literal is the part of the template that is not a reference.
func (s Secret) literal() string { return reference.ReplaceAllString(s.template, "") }

// literalPassword finds a password in a connection URL or key=value string whose references are replaced by NUL.
var literalPassword = regexp.MustCompile(`(?i)://[^/?#@]*:[^/?#@]*[^/?#@:\x00][^/?#@]*@|(?:^|[\s?&])(?:ssl)?password\s*=\s*'?[^\s&'\x00]`)

// hasLiteralPassword reports whether the template of a connection string holds a password outside ${VAR}.
func (s Secret) hasLiteralPassword() bool {
	return literalPassword.MatchString(reference.ReplaceAllString(s.template, "\x00"))
}

var (
	errUnset = errors.New("is not set")

	reference    = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)
	anyReference = regexp.MustCompile(`\$\{[^}]*\}?`)
)

// refersToVariable reports whether text holds something that is, or was meant to be, a ${VAR} reference.
func refersToVariable(text string) bool { return anyReference.MatchString(text) }

func firstReference(text string) string { return anyReference.FindString(text) }

// unsetError is a reference to a variable that has no value; it is an [errUnset].
type unsetError struct{ name string }

func (e unsetError) Error() string {
	return fmt.Sprintf("${%s} is not set: set the variable %s, or %s_FILE to the path of a file that holds it", e.name, e.name, e.name)
}

func (unsetError) Is(target error) bool { return target == errUnset }

// expandVariables replaces each ${VAR} by the value of VAR or, where VAR is not set, by the trimmed content of the file
// that VAR_FILE names.
func expandVariables(text string) (string, error) {
	var failed error
	expanded := anyReference.ReplaceAllStringFunc(text, func(ref string) string {
		value, err := variable(ref)
		if failed == nil {
			failed = err
		}
		return value
	})
	if failed != nil {
		return "", failed
	}
	return expanded, nil
}

func variable(ref string) (string, error) {
	if reference.FindString(ref) != ref {
		return "", fmt.Errorf("%s is not a reference: write ${VAR}, with letters, digits and _ only; there are no defaults", ref)
	}
	name := ref[2 : len(ref)-1]
	if value, set := os.LookupEnv(name); set {
		return value, nil
	}
	file := os.Getenv(name + "_FILE")
	if file == "" {
		return "", unsetError{name}
	}
	value, err := readSecretFile(file)
	if err != nil {
		return "", fmt.Errorf("${%s} comes from %s_FILE: %w", name, name, err)
	}
	return value, nil
}

// readMounted reads a file that may be of a mounted Secret or ConfigMap. Those are replaced by turning a link, and what it has led to is removed
// right then: who has followed the link before, and opens after, finds nothing, and the next time the new file.
func readMounted(path string) (content []byte, err error) {
	for range 5 {
		if content, err = os.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return content, err
}

func readSecretFile(path string) (string, error) {
	content, err := readMounted(path)
	if err != nil {
		return "", fmt.Errorf("%s %s", path, fileProblem(err))
	}
	value := strings.TrimSpace(string(content))
	if value == "" {
		return "", fmt.Errorf("%s is empty: it must hold the secret", path)
	}
	return value, nil
}

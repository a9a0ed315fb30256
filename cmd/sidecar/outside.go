package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// outside is where a configuration looks up what does not stand in its file: variables, and files that it names.
type outside struct {
	variable func(name string) (value string, set bool)
	readFile func(path string) ([]byte, error) // nil: no file is read, and none is missed
}

var (
	// thisProcess are the variables and files that the program itself sees.
	thisProcess = outside{variable: os.LookupEnv, readFile: readMounted}

	// nowhere is for judging a file that will be used elsewhere: no variable is set, and files are taken to be as they should.
	nowhere = outside{variable: func(string) (string, bool) { return "", false }}
)

// value is that of a variable; one that is set but empty counts as unset.
func (o outside) value(name string) string {
	value, _ := o.variable(name)
	return value
}

// expand replaces each ${VAR} by the value of VAR or, where VAR is not set, by the trimmed content of the file that VAR_FILE
// names.
func (o outside) expand(text string) (string, error) {
	var failed error
	expanded := anyReference.ReplaceAllStringFunc(text, func(ref string) string {
		value, err := o.reference(ref)
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

func (o outside) reference(ref string) (string, error) {
	if reference.FindString(ref) != ref {
		return "", fmt.Errorf("%s is not a reference: write ${VAR}, with letters, digits and _ only; there are no defaults", ref)
	}
	name := ref[2 : len(ref)-1]
	if value, set := o.variable(name); set {
		return value, nil
	}
	file := o.value(name + "_FILE")
	if file == "" {
		return "", unsetError{name}
	}
	value, err := o.secretFile(file)
	if err != nil {
		return "", fmt.Errorf("${%s} comes from %s_FILE: %w", name, name, err)
	}
	return value, nil
}

// secretFile is the trimmed content of a file, which must not be empty.
func (o outside) secretFile(path string) (string, error) {
	if o.readFile == nil {
		return "", nil
	}
	content, err := o.readFile(path)
	if err != nil {
		return "", fmt.Errorf("%s %s", path, fileProblem(err))
	}
	value := strings.TrimSpace(string(content))
	if value == "" {
		return "", fmt.Errorf("%s is empty: it must hold the secret", path)
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

// check says what keeps a secret from being read.
func (o outside) check(s Secret) error {
	_, err := s.readFrom(o)
	return err
}

// Read gives the secret as it is now: files are read again at each call, so that a rotated secret is found.
func (s Secret) Read(context.Context) (string, error) { return s.readFrom(thisProcess) }

func (s Secret) readFrom(o outside) (string, error) {
	if s.file != "" {
		return o.secretFile(s.file)
	}
	return o.expand(s.template)
}

// unsetError is a reference to a variable that has no value; it is an [errUnset].
type unsetError struct{ name string }

var errUnset = errors.New("is not set")

func (e unsetError) Error() string {
	return fmt.Sprintf("${%s} is not set: set the variable %s, or %s_FILE to the path of a file that holds it", e.name, e.name, e.name)
}

func (unsetError) Is(target error) bool { return target == errUnset }

// checkPair says what keeps a client certificate from being loaded.
func (o outside) checkPair(t TLSConfig) error {
	if o.readFile == nil {
		return nil
	}
	_, err := t.certificate()
	return err
}

// checkRoots says what keeps the authorities from being loaded.
func (o outside) checkRoots(t TLSConfig) error {
	if o.readFile == nil {
		return nil
	}
	_, err := t.roots()
	return err
}

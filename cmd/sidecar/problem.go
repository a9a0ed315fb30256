package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the configuration, and what to write instead.
type Problem struct {
	Env     string // the variable that holds the value; empty where the file does
	Line    int    // in the file; 0 where the problem has no line
	Path    string // of the field, as in maps[2].ttl; empty for the file as a whole
	Message string

	// Unset marks a ${VAR} that has no value here: it may have one where the file will be used.
	Unset bool
}

// ConfigError is everything that is wrong with one configuration.
type ConfigError struct {
	File     string
	Problems []Problem // by line; those of the environment last
}

func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.format(e.File)
	}
	return strings.Join(lines, "\n")
}

// format gives `file:line: path: message`, the form that editors and CI systems recognize.
func (p Problem) format(file string) string {
	var b strings.Builder
	switch {
	case p.Env != "":
		b.WriteString(p.Env)
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d", file, p.Line)
	default:
		b.WriteString(file)
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	b.WriteString(": " + p.Message)
	return b.String()
}

// sorted brings problems into the order in which a reader of the file meets them.
func sorted(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Env, b.Env), cmp.Compare(a.Line, b.Line))
	})
	return problems
}

// onlyUnset splits off the problems that are no fault of the file: variables that are not set here.
func onlyUnset(err error) (unset []Problem, rest error) {
	var bad *ConfigError
	if !errors.As(err, &bad) {
		return nil, err
	}
	var others []Problem
	for _, p := range bad.Problems {
		if p.Unset {
			unset = append(unset, p)
		} else {
			others = append(others, p)
		}
	}
	if len(others) == 0 {
		return unset, nil
	}
	return unset, &ConfigError{File: bad.File, Problems: others}
}

// fileProblem says what is wrong with a file without repeating its name.
func fileProblem(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return "cannot be read: " + pathErr.Err.Error()
	}
	return "cannot be read: " + err.Error()
}

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// commandTimeout bounds one call of kubectl or helm; those that wait for something are given their own timeouts, which are shorter.
const commandTimeout = 5 * time.Minute

// command runs a program and gives its output. The error holds what it wrote to standard error.
func command(ctx context.Context, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Stdin = strings.NewReader(stdin)
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, strings.TrimSpace(problems.String()),
			indented(out.String()))
	}
	return out.String(), nil
}

// kubectl runs it and gives its output; an error fails the test.
func kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return kubectlInput(t, "", args...)
}

// kubectlInput is kubectl with a standard input.
func kubectlInput(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), stdin, "kubectl", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// refused runs kubectl, which must fail, and gives what it says.
func refused(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), stdin, "kubectl", args...)
	if err == nil {
		t.Fatalf("kubectl %s succeeds, and must not:\n%s", strings.Join(args, " "), out)
	}
	return err.Error()
}

// object reads one object, or a list, as the type that it has.
func object[T any](t testing.TB, args ...string) T {
	t.Helper()
	o, err := lookUp[T](t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// lookUp is object where a failure is not the end.
func lookUp[T any](ctx context.Context, args ...string) (o T, err error) {
	out, err := command(ctx, "", "kubectl", append([]string{"get", "-o", "json"}, args...)...)
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal([]byte(out), &o)
}

// apply applies objects to a namespace.
func apply(t testing.TB, namespace string, objects ...any) {
	t.Helper()
	kubectlInput(t, manifest(t, objects...), "apply", "-n", namespace, "-f", "-")
}

// manifest is the YAML of objects. A text stands for itself.
func manifest(t testing.TB, objects ...any) string {
	t.Helper()
	var documents []string
	for _, o := range objects {
		text, is := o.(string)
		if !is {
			raw, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		}
		documents = append(documents, text)
	}
	return strings.Join(documents, "\n---\n")
}

// eventually polls until ready returns nil, and fails the test with what it said last.
func eventually(t testing.TB, within time.Duration, ready func() error) {
	t.Helper()
	if err := poll(t.Context(), within, ready); err != nil {
		t.Fatal(err)
	}
}

func poll(ctx context.Context, within time.Duration, ready func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not within %v", within))
	defer cancel()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// contains is an error unless text holds all words.
func contains(text string, words ...string) error {
	var missing []error
	for _, w := range words {
		if !strings.Contains(text, w) {
			missing = append(missing, fmt.Errorf("nothing of %q in:\n%s", w, text))
		}
	}
	return errors.Join(missing...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func indented(text string) string {
	if text = strings.TrimSpace(text); text == "" {
		return ""
	}
	return "\n  " + strings.ReplaceAll(text, "\n", "\n  ")
}

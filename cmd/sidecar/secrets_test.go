package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"readthrough/test/harness"
)

// TestSecretIsReadAgain rotates the file behind each form of a secret.
func TestSecretIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, dir, "secret", " first\n")
	t.Setenv("ROTATED_FILE", file)
	for name, s := range map[string]Secret{
		"file":      SecretFile(file),
		"reference": {template: "${ROTATED}"},
		"part":      {template: "postgres://app:${ROTATED}@db"},
	} {
		t.Run(name, func(t *testing.T) {
			writeFile(t, dir, "secret", " first\n")
			for _, want := range []string{"first", "second"} {
				writeFile(t, dir, "secret", want+"\n")
				if got, err := s.Read(t.Context()); err != nil || !strings.Contains(got, want) {
					t.Errorf("%q, %v, want %s", got, err, want)
				}
			}
			writeFile(t, dir, "secret", "\n")
			if _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "is empty: it must hold the secret") {
				t.Errorf("empty file: %v", err)
			}
		})
	}
}

// TestMountedSecretIsSwapped swaps a mounted Secret, as a kubelet does it, while it is read all the time: each read finds one version whole,
// and what was read once is never older than what was read before.
func TestMountedSecretIsSwapped(t *testing.T) {
	const versions = 300
	content := func(version int) map[string]string { return map[string]string{"url": fmt.Sprintf("%d\n", version)} }
	volume := harness.NewVolume(t, t.TempDir(), content(0))
	t.Setenv("MOUNTED_FILE", volume.Path("url"))
	for name, s := range map[string]Secret{
		"VAR_FILE":     {template: "${MOUNTED}"},
		"passwordFile": SecretFile(volume.Path("url")),
	} {
		t.Run(name, func(t *testing.T) {
			volume.Update(t, content(0))
			var reader sync.WaitGroup
			reader.Go(func() {
				for last, reads := 0, 0; last < versions; reads++ {
					text, err := s.Read(t.Context())
					version, malformed := strconv.Atoi(text)
					if err != nil || malformed != nil || version < last {
						t.Errorf("read %d: %q, %v, after %d", reads, text, err, last)
						return
					}
					last = version
				}
			})
			for version := range versions {
				volume.Update(t, content(version+1))
			}
			reader.Wait()
		})
	}
}

func TestVariableGoesBeforeItsFile(t *testing.T) {
	t.Setenv("BOTH", "variable")
	t.Setenv("BOTH_FILE", writeFile(t, t.TempDir(), "secret", "file"))
	if got, err := (Secret{template: "${BOTH}"}).Read(t.Context()); err != nil || got != "variable" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSecretsDoNotPrint prints whole configurations.
func TestSecretsDoNotPrint(t *testing.T) {
	t.Setenv("PASSWORD", "hunter2")
	c, err := ParseConfig("c.yaml", []byte(`apiVersion: readthrough/v1
upstream: {addresses: ["redis:6379"], password: "${PASSWORD}"}
origins: [{name: main, url: "postgres://app:${PASSWORD}@db/shop"}]
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, value := range []any{c.Upstream, c.Origins, c.Upstream.Password} {
			if text := fmt.Sprintf(format, value); strings.Contains(text, "hunter2") {
				t.Errorf("%s: %s", format, text)
			}
		}
	}
	_, err = ParseConfig("c.yaml", []byte("apiVersion: readthrough/v1\nupstream: {addresses: [\"redis:6379\"], password: sesame}\n"))
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("error repeats a secret: %v", err)
	}
}

func TestLiteralPasswords(t *testing.T) {
	for text, want := range map[string]bool{
		"postgres://app:hunter2@db/shop":                   true,
		"postgres://app:a${B}@db/shop":                     true,
		"postgres://app:${B}c@db/shop":                     true,
		"host=db password=hunter2":                         true,
		"host=db password='hunter 2'":                      true,
		"password = hunter2":                               true,
		"postgres://db/shop?password=x":                    true,
		"postgres://db/shop?sslpassword=x":                 true,
		"postgres://app:${B}@db/shop":                      false,
		"postgres://app@db:5432/shop?application_name=a@b": false,
		"postgres://${A}:${B}@db:5432/shop":                false,
		"host=db password=${B} user=app":                   false,
		"host=db password='${B}' user=app":                 false,
		"postgres://db/shop?passfile=/run/pgpass":          false,
		"${ORIGIN_URL}":                                    false,
		"":                                                 false,
	} {
		if got := (Secret{template: text}).hasLiteralPassword(); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

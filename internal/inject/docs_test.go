package inject

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// docsTable is the page that lists the settings, between these two lines.
const (
	docsPage  = "../../docs/kubernetes.md"
	docsBegin = "<!-- settings: written by go test ./internal/inject -update -->\n"
	docsEnd   = "<!-- /settings -->\n"
)

// TestDocs holds that the documents list every setting as it is.
func TestDocs(t *testing.T) {
	raw, err := os.ReadFile(docsPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(raw), docsBegin)
	_, after, ended := strings.Cut(rest, docsEnd)
	if !found || !ended {
		t.Fatalf("%s has no table of settings between %q and %q", docsPage, docsBegin, docsEnd)
	}
	var table strings.Builder
	table.WriteString("| value `sidecar.…` | annotation | default | |\n|---|---|---|---|\n")
	for _, s := range Describe() {
		fallback := "none"
		if s.Default != "" {
			fallback = "`" + s.Default + "`"
		}
		fmt.Fprintf(&table, "| `%s` | `%s` | %s | %s |\n", s.Key, s.Annotation, fallback, strings.ReplaceAll(s.Text, "|", `\|`))
	}
	want := before + docsBegin + table.String() + docsEnd + after
	if want == string(raw) {
		return
	}
	if !*update {
		t.Fatalf("%s does not list the settings as they are: go test ./internal/inject -update writes the table", docsPage)
	}
	if err := os.WriteFile(docsPage, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

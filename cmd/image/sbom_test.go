package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// The list names every module that the program says it is made of, and a license for nearly each: some are beyond the tool.
func TestSBOM(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "bin")
	out, err := runMake(t.Context(), "../..", slices.Concat([]string{"sbom", "BIN=" + bin}, stampArgs)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(bin, "sbom.json"))
	if err != nil {
		t.Fatal(err)
	}
	type component struct {
		Name, Version string
		Evidence      struct{ Licenses []json.RawMessage }
	}
	var list struct {
		BomFormat  string
		Metadata   struct{ Component component }
		Components []component
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	if main := list.Metadata.Component; list.BomFormat != "CycloneDX" || main.Name != "readthrough" || main.Version != testStamp.version {
		t.Errorf("%s of %s %s", list.BomFormat, main.Name, main.Version)
	}
	found := map[string]string{}
	licensed := 0
	for _, c := range list.Components {
		found[c.Name] = c.Version
		licensed += min(len(c.Evidence.Licenses), 1)
	}
	info, err := buildinfo.Read(bytes.NewReader(find(t, theEntries(t, runtime.GOARCH), "sidecar")))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != len(info.Deps)+1 || found["std"] != info.GoVersion {
		t.Errorf("%d components, with the standard library %q; want %d modules and %s", len(found), found["std"], len(info.Deps), info.GoVersion)
	}
	for _, m := range info.Deps {
		if found[m.Path] != m.Version {
			t.Errorf("%s is listed as %q, want %s", m.Path, found[m.Path], m.Version)
		}
	}
	if licensed*10 < len(found)*9 {
		t.Errorf("licenses of %d out of %d", licensed, len(found))
	}
}

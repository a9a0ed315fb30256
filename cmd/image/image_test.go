package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"encoding/pem"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func TestIndex(t *testing.T) {
	index := theIndex(t)
	if err := validate.Index(index); err != nil { // every digest and size
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.MediaType != types.OCIImageIndex {
		t.Errorf("the index is a %s", manifest.MediaType)
	}
	if !maps.Equal(manifest.Annotations, labels(testStamp)) {
		t.Errorf("annotations of the index: %v", manifest.Annotations)
	}
	var found []string
	for _, m := range manifest.Manifests {
		found = append(found, m.Platform.String())
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(found, want) {
		t.Errorf("platforms %v, want %v", found, want)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	made, err := makeImage()
	if err != nil || !strings.Contains(made.output, digest.String()) || !strings.Contains(made.output, testName) {
		t.Errorf("make image does not say what %s is: %s (%v)", digest, made.output, err)
	}
}

func TestConfig(t *testing.T) {
	for _, arch := range platforms {
		image := theImage(t, arch)
		manifest, err := image.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if manifest.MediaType != types.OCIManifestSchema1 || manifest.Config.MediaType != types.OCIConfigJSON || manifest.Layers[0].MediaType != types.OCILayer {
			t.Errorf("%s: %s with %s and %s", arch, manifest.MediaType, manifest.Config.MediaType, manifest.Layers[0].MediaType)
		}
		if !maps.Equal(manifest.Annotations, labels(testStamp)) {
			t.Errorf("%s: annotations %v", arch, manifest.Annotations)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.OS != "linux" || config.Architecture != arch || !config.Created.Equal(testStamp.date) {
			t.Errorf("%s: for %s/%s, created %v", arch, config.OS, config.Architecture, config.Created)
		}
		c := config.Config
		if !slices.Equal(c.Entrypoint, []string{"/sidecar"}) || c.User != "65532:65532" || c.WorkingDir != "/" || len(c.Cmd)+len(c.Env) > 0 {
			t.Errorf("%s: %+v", arch, c)
		}
		if !maps.Equal(c.Labels, labels(testStamp)) {
			t.Errorf("%s: labels %v", arch, c.Labels)
		}
	}
}

// Docker's older store reads manifest.json alone.
func TestArchiveForDocker(t *testing.T) {
	for _, arch := range platforms {
		tag, err := name.NewTag(testName + "-" + arch)
		if err != nil {
			t.Fatal(err)
		}
		image, err := tarball.ImageFromPath(theArchive(t), &tag)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != arch || config.Config.User != "65532:65532" {
			t.Errorf("%s: for %s and user %s", tag, config.Architecture, config.Config.User)
		}
		same := theImage(t, arch)
		want, err := same.ConfigName()
		if got, err2 := image.ConfigName(); err != nil || err2 != nil || got != want {
			t.Errorf("%s is %v, want %v (%v, %v)", tag, got, want, err, err2)
		}
		layers, err := same.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			h, err := l.DiffID()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := image.LayerByDiffID(h); err != nil {
				t.Errorf("%s: layer %v: %v", tag, h, err)
			}
		}
	}
}

func TestFiles(t *testing.T) {
	for _, arch := range platforms {
		var names, licenses []string
		size := 0
		for _, e := range theEntries(t, arch) {
			h := e.header
			size += len(e.data)
			if strings.HasPrefix(h.Name, "licenses/") {
				licenses = append(licenses, h.Name)
			} else {
				names = append(names, h.FileInfo().Mode().String()+" "+h.Name)
			}
			if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(testStamp.date) {
				t.Errorf("%s: %s belongs to %d:%d and is of %v", arch, h.Name, h.Uid, h.Gid, h.ModTime)
			}
			if h.Typeflag == tar.TypeReg && h.Name != "sidecar" && h.Mode != 0o644 || h.Typeflag == tar.TypeDir && h.Mode != 0o755 {
				t.Errorf("%s: %s has the mode %o", arch, h.Name, h.Mode)
			}
			if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir {
				t.Errorf("%s: %s is a %c", arch, h.Name, h.Typeflag)
			}
		}
		if want := []string{
			"drwxr-xr-x etc/",
			"-rw-r--r-- etc/group",
			"-rw-r--r-- etc/passwd",
			"drwxr-xr-x etc/ssl/",
			"drwxr-xr-x etc/ssl/certs/",
			"-rw-r--r-- etc/ssl/certs/ca-certificates.crt",
			"-rwxr-xr-x sidecar",
		}; !slices.Equal(names, want) {
			t.Errorf("%s: files\n%s\nwant\n%s", arch, strings.Join(names, "\n"), strings.Join(want, "\n"))
		}
		if size == 0 || size > sizeLimit {
			t.Errorf("%s: %d bytes", arch, size)
		}
		checkLicenses(t, arch, licenses)
	}
}

// checkLicenses compares the licenses with the modules that the program says it is made of.
func checkLicenses(t *testing.T, arch string, licenses []string) {
	t.Helper()
	info, err := buildinfo.Read(bytes.NewReader(find(t, theEntries(t, arch), "sidecar")))
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) == 0 {
		t.Fatalf("%s: the program says that it depends on nothing", arch)
	}
	if !slices.Contains(licenses, "licenses/LICENSE") {
		t.Errorf("%s: its own license is missing in %v", arch, licenses)
	}
	for _, m := range info.Deps {
		if !slices.ContainsFunc(licenses, func(l string) bool { return strings.HasPrefix(l, "licenses/"+m.Path+"/") && !strings.HasSuffix(l, "/") }) {
			t.Errorf("%s: the license of %s is missing", arch, m.Path)
		}
	}
}

func TestProgram(t *testing.T) {
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	modules, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range platforms {
		program := find(t, theEntries(t, arch), "sidecar")
		f, err := elf.NewFile(bytes.NewReader(program))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machines[arch] || f.Class != elf.ELFCLASS64 || f.Type != elf.ET_EXEC {
			t.Errorf("%s: a program of %v, %v, %v", arch, f.Machine, f.Class, f.Type)
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("%s: the program is linked dynamically: %v", arch, p.Type)
			}
		}
		if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
			t.Errorf("%s: the program carries its symbols", arch)
		}
		for _, path := range []string{here, strings.TrimSpace(string(modules))} {
			if bytes.Contains(program, []byte(path+"/")) {
				t.Errorf("%s: the program tells of %s, where it was built", arch, path)
			}
		}
		for _, s := range []string{testStamp.version, testStamp.commit, stampArgs[2][len("DATE="):]} {
			if !bytes.Contains(program, []byte(s)) {
				t.Errorf("%s: the program does not know that it is %s", arch, s)
			}
		}
	}
}

func TestRoots(t *testing.T) {
	rest := find(t, theEntries(t, platforms[0]), "etc/ssl/certs/ca-certificates.crt")
	trusted := map[string]bool{}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if block.Type != "CERTIFICATE" || !c.IsCA {
			t.Errorf("%s (%s) is no authority's certificate", c.Subject, block.Type)
		}
		trusted[string(c.Raw)] = true
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		t.Errorf("the certificates end in %q", rest)
	}
	if len(trusted) <= 100 {
		t.Errorf("%d root certificates", len(trusted))
	}
	for root := range bundle.Roots() {
		if conditional := root.Constraint != nil; trusted[string(root.Certificate)] == conditional {
			t.Errorf("a root that is trusted under conditions (%v) is in the image (%v)", conditional, !conditional)
		}
	}
}

// The image makes the same program run in an empty root: no library, no shell, no environment.
func TestRuns(t *testing.T) {
	want := "readthrough " + testStamp.version + ", commit " + testStamp.commit + " of " + stampArgs[2][len("DATE="):]
	out, err := inRoot(t, copiedRootfs(t), "version")
	if err != nil || !strings.HasPrefix(out, want) {
		t.Errorf("version: %v\n%s\nwant %s", err, out, want)
	}
	if out, err := inRoot(t, copiedRootfs(t)); err == nil || !strings.Contains(out, "name a command") {
		t.Errorf("without a command: %v\n%s", err, out)
	}
}

// layersEqual compares a folder with the image of a platform.
func layersEqual(t *testing.T, folder, arch string) {
	t.Helper()
	want := map[string]bool{}
	for _, e := range theEntries(t, arch) {
		path := filepath.Join(folder, e.header.Name)
		want[path] = true
		info, err := os.Lstat(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode() != e.header.FileInfo().Mode() || !info.ModTime().Equal(e.header.ModTime) {
			t.Errorf("%s: %v of %v, want %v of %v", path, info.Mode(), info.ModTime(), e.header.FileInfo().Mode(), e.header.ModTime)
		}
		if info.IsDir() {
			continue
		}
		if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, e.data) {
			t.Errorf("%s differs from the image's (%v)", path, err)
		}
	}
	err := filepath.WalkDir(folder, func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != folder && !want[path] {
			t.Errorf("%s is not in the image", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// digestOf is the digest of an index.
func digestOf(t *testing.T, index v1.ImageIndex) string {
	t.Helper()
	d, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

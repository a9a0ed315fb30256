package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// bases are the folders below manifests/ that kustomize builds.
var bases = []string{"injector", "gateway", "example"}

func manifests(base string) string { return filepath.Join(root, "manifests", base) }

func kustomize(t testing.TB, folder string) string {
	t.Helper()
	out, err := runTool(t, "", "kustomize", "build", folder)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// onlyHelm matches what says that helm manages an object, which is not so for those who use the manifests.
var onlyHelm = regexp.MustCompile(`(?m)^ +(helm\.sh/chart: .*|app\.kubernetes\.io/managed-by: Helm)\n`)

// TestManifests sees that manifests/ is what the chart renders.
func TestManifests(t *testing.T) {
	for _, base := range []string{"injector", "gateway"} {
		t.Run(base, func(t *testing.T) {
			rendered := release{
				namespace: "readthrough", values: []string{filepath.Join(manifests(base), "values.yaml")}, args: []string{"--skip-tests"},
			}.mustRender(t)
			head := "# Rendered from charts/readthrough with the values beside it: `make manifests` writes it anew.\n"
			golden(t, filepath.Join(manifests(base), base+".yaml"), head+onlyHelm.ReplaceAllString(rendered, ""))
		})
	}
}

// TestManifestsForAll sees that nobody's kustomization is left out of the tests.
func TestManifestsForAll(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(root, "manifests/*/kustomization.yaml"))
	if err != nil || len(found) != len(bases) {
		t.Errorf("%v, %v; the tests know %v", found, err, bases)
	}
}

// copied is a copy of manifests/ that a test may change.
func copied(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(root, "manifests"))); err != nil {
		t.Fatal(err)
	}
	return folder
}

// TestImageFollows sets the image as the kustomization says, and sees that sidecars get it too.
func TestImageFollows(t *testing.T) {
	const image = "registry.example.com:5000/cache/readthrough:v7"
	folder := copied(t)
	for _, base := range []string{"injector", "gateway"} {
		at := filepath.Join(folder, base)
		if _, err := runTool(t, at, "kustomize", "edit", "set", "image", "readthrough="+image); err != nil {
			t.Fatal(err)
		}
		objects := decode(t, kustomize(t, at))
		for _, p := range pods(objects) {
			for _, c := range p.spec.Containers {
				if c.Image != image {
					t.Errorf("%s: %s", p.owner, c.Image)
				}
			}
		}
		if base == "injector" {
			checkSidecarImage(t, objects, image)
		}
	}
}

// TestImageFollowsInOverlay does the same in a kustomization that includes the injector's, with the replacements that it is told to
// repeat.
func TestImageFollowsInOverlay(t *testing.T) {
	const image = "registry.example.com/readthrough:v7"
	folder := copied(t)
	raw, err := os.ReadFile(filepath.Join(folder, "injector/kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, replacements, found := strings.Cut(string(raw), "\nreplacements:\n")
	if !found {
		t.Fatal("the injector's kustomization has no replacements at its end")
	}
	overlay := filepath.Join(folder, "overlay")
	content := "resources: [../injector]\nimages: [{name: readthrough, newName: registry.example.com/readthrough, newTag: v7}]\nreplacements:\n" + replacements
	if err := os.Mkdir(overlay, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	checkSidecarImage(t, decode(t, kustomize(t, overlay)), image)
}

func checkSidecarImage(t *testing.T, objects []object, want string) {
	t.Helper()
	injector := injectorContainer(t, objects)
	var got string
	for _, e := range injector.Env {
		if e.Name == "SIDECAR_IMAGE" {
			got = e.Value
		}
	}
	if got != want || injector.Image != want || injectorFlags(t, objects)["image"] != "$(SIDECAR_IMAGE)" {
		t.Errorf("the injector is %s and hands out %s by %v, want %s", injector.Image, got, injector.Args, want)
	}
}

// TestNamespaceFollows sets another namespace, in which everything is then that has one.
func TestNamespaceFollows(t *testing.T) {
	folder := copied(t)
	at := filepath.Join(folder, "injector")
	if _, err := runTool(t, at, "kustomize", "edit", "set", "namespace", "elsewhere"); err != nil {
		t.Fatal(err)
	}
	if built := kustomize(t, at); strings.Contains(built, "namespace: readthrough") {
		t.Errorf("something is left in the old namespace:\n%s", built)
	}
}

// TestExample sees that the example's parts find each other: by names, by labels, and by what is in its Secrets.
func TestExample(t *testing.T) {
	objects := decode(t, kustomize(t, manifests("example")))
	application := named[*appsv1.Deployment](t, objects, "shop")
	template := application.Spec.Template
	if template.Labels["readthrough/inject"] != "enabled" {
		t.Error("the application does not ask for a sidecar")
	}
	for _, p := range pods(objects) {
		if p.owner != "Deployment shop" && p.labels["readthrough/inject"] != "disabled" {
			t.Errorf("%s would get a sidecar of its own by `sidecar inject`", p.owner)
		}
	}
	for _, c := range template.Spec.Containers {
		for _, secret := range []string{"postgres", "redis-cluster"} {
			if text := strings.Join(c.Command, " "); strings.Contains(text, secret) {
				t.Errorf("the application knows more than localhost:6380: %s", text)
			}
		}
	}
	named[*corev1.ConfigMap](t, objects, "readthrough")
	origin := named[*corev1.Secret](t, objects, template.Annotations["readthrough/origin-secret"]).StringData["url"]
	sql := named[*corev1.ConfigMap](t, objects, "postgres").Data["shop.sql"]
	found := regexp.MustCompile(`^postgres://(\w+):([\w-]+)@(\w+):5432/shop$`).FindStringSubmatch(origin)
	if found == nil {
		t.Fatalf("the database's URL is %q", origin)
	}
	if !strings.Contains(sql, "CREATE ROLE "+found[1]+" LOGIN PASSWORD '"+found[2]+"'") {
		t.Errorf("no role %s with that password is made by\n%s", found[1], sql)
	}
	named[*corev1.Service](t, objects, found[3])
	named[*corev1.Service](t, objects, "redis-cluster") // of the configuration
	if namespace := only[*corev1.Namespace](t, objects); namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Error("the example's namespace demands nothing")
	}
}

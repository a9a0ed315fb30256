// Package imports holds the rules of who may import whom. It has no code of its own.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "readthrough/"

// rooms are the parts of the program that only the program itself joins.
var rooms = []string{module + "resp", module + "upstream", module + "origin", module + "internal/inject"}

// rule forbids packages to import others. A name stands for itself and all below it.
type rule struct {
	name      string
	importers []string // whose imports the rule is about
	except    []string // of these, who may
	forbidden []string
	reason    string
}

var rules = append([]rule{
	{
		name:      "leaves",
		importers: []string{module + "internal"},
		except:    []string{module + "internal/inject", module + "internal/webhook"},
		forbidden: append([]string{module + "internal/webhook"}, rooms...),
		reason:    "a leaf is what several rooms share: if it knew one of them, the others would depend on that one",
	},
	{
		name:      "program",
		importers: []string{module},
		except:    []string{module + "cmd"},
		forbidden: []string{module + "cmd"},
		reason:    "the program joins the rooms and is joined by nothing",
	},
	{
		name:      "test code",
		importers: []string{module},
		except:    []string{module + "test"},
		forbidden: []string{module + "test", "testing"},
		reason:    "what tests need does not belong into the product",
	},
	{
		name:      "configuration",
		importers: []string{module},
		except:    []string{module + "cmd/sidecar", module + "test"},
		forbidden: []string{"github.com/spf13/viper", "github.com/spf13/cobra"},
		reason:    "a room takes options as Go values, so that it can be used and tested without files, flags and global state",
	},
	{
		name:      "a decision without a cluster",
		importers: []string{module + "internal/inject"},
		forbidden: []string{"net", "os", "k8s.io/client-go"},
		reason:    "what a pod gets depends on the pod and the options alone, so that the webhook and the command do the same",
	},
	{
		name:      "PostgreSQL",
		importers: []string{module},
		except:    []string{module + "origin", module + "test"},
		forbidden: []string{"github.com/jackc/pgx"},
		reason:    "another kind of origin must not change anything outside origin",
	},
	{
		name:      "typed Redis client",
		importers: []string{module},
		except:    []string{module + "upstream", module + "test"},
		forbidden: []string{"github.com/redis/rueidis"},
		reason:    "rueidis decodes replies and panics on protocol surprises: only upstream knows where it may be used, and relaying may not",
	},
	{
		name:      "image",
		importers: []string{module},
		except:    []string{module + "cmd/image", module + "test"},
		forbidden: []string{"github.com/google/go-containerregistry", "golang.org/x/crypto/x509roots"},
		reason:    "what builds the image does not belong into the program, which every pod gets a copy of; its root certificates are a file of the image",
	},
	{
		name:      "webhook",
		importers: []string{module},
		except:    []string{module + "cmd", module + "internal/webhook"},
		forbidden: []string{module + "internal/webhook"},
		reason:    "the webhook is a program of its own beside the relay: only the command line joins them",
	},
	{
		name:      "webhook's imports",
		importers: []string{module + "internal/webhook"},
		forbidden: []string{module + "resp", module + "upstream", module + "origin", module + "internal/loop", module + "internal/relay"},
		reason:    "the injector knows pods, ConfigMaps and certificates, and nothing of what runs in the pods",
	},
	{
		name:      "Kubernetes client",
		importers: []string{module},
		forbidden: []string{"k8s.io/client-go", "sigs.k8s.io/controller-runtime"},
		reason:    "a full client is larger than the program, which is copied into every pod: internal/kube makes the few requests there are",
	},
	{
		name:      "Kubernetes API",
		importers: []string{module},
		except:    []string{module + "internal/kube", module + "internal/webhook", module + "cmd", module + "test"},
		forbidden: []string{module + "internal/kube"},
		reason:    "who asks the cluster is the webhook alone: a decision about a pod is made without it",
	},
}, betweenRooms()...)

// betweenRooms forbids each room the others.
func betweenRooms() []rule {
	var rules []rule
	for _, room := range rooms {
		others := slices.DeleteFunc(slices.Clone(rooms), func(r string) bool { return r == room })
		rules = append(rules, rule{
			name:      "room " + room,
			importers: []string{room},
			forbidden: others,
			reason:    "a room declares the small interface that it needs, and the program joins them: so each is read, tested and replaced alone",
		})
	}
	return rules
}

// pkg is a package and what its code, tests left out, imports.
type pkg struct {
	ImportPath string
	Imports    []string
}

// violations are the imports that break a rule, with its reason.
func violations(packages []pkg, rules []rule) []string {
	var found []string
	for _, p := range packages {
		for _, r := range rules {
			if !below(p.ImportPath, r.importers) || below(p.ImportPath, r.except) {
				continue
			}
			for _, i := range p.Imports {
				if below(i, r.forbidden) {
					found = append(found, fmt.Sprintf("%s imports %s (%s): %s", p.ImportPath, i, r.name, r.reason))
				}
			}
		}
	}
	return found
}

// below says whether an import path is one of the names or lies below one.
func below(path string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return path == name || strings.HasPrefix(path, strings.TrimSuffix(name, "/")+"/")
	})
}

func TestImports(t *testing.T) {
	var stderr bytes.Buffer
	list := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...")
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []pkg
	seen := map[string]bool{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
		seen[p.ImportPath] = true
	}
	for _, want := range []string{module + "cmd/sidecar", module + "cmd/image", module + "resp", module + "upstream", module + "origin", module + "internal/slot"} {
		if !seen[want] {
			t.Errorf("%s is not among the packages found: the rules name packages that do not exist", want)
		}
	}
	for _, v := range violations(packages, rules) {
		t.Error(v)
	}
}

func TestRulesFindViolations(t *testing.T) {
	for _, c := range []struct {
		importer, imported string
		broken             string // the rule's name; empty: allowed
	}{
		{"readthrough/resp", "readthrough/upstream", "room readthrough/resp"},
		{"readthrough/upstream/deeper", "readthrough/origin", "room readthrough/upstream"},
		{"readthrough/origin", "readthrough/resp/deeper", "room readthrough/origin"},
		{"readthrough/internal/inject", "readthrough/resp", "room readthrough/internal/inject"},
		{"readthrough/internal/frame", "readthrough/resp", "leaves"},
		{"readthrough/internal/frame", "readthrough/internal/inject", "leaves"},
		{"readthrough/resp", "readthrough/cmd/sidecar", "program"},
		{"readthrough/test/demo", "readthrough/cmd/sidecar", "program"},
		{"readthrough/resp", "readthrough/test/harness", "test code"},
		{"readthrough/cmd/sidecar", "testing", "test code"},
		{"readthrough/origin", "github.com/spf13/viper", "configuration"},
		{"readthrough/internal/inject", "github.com/spf13/cobra", "configuration"},
		{"readthrough/internal/inject", "net/http", "a decision without a cluster"},
		{"readthrough/internal/inject", "os", "a decision without a cluster"},
		{"readthrough/cmd/sidecar", "github.com/jackc/pgx/v5/pgxpool", "PostgreSQL"},
		{"readthrough/origin", "github.com/redis/rueidis", "typed Redis client"},
		{"readthrough/cmd/sidecar", "github.com/google/go-containerregistry/pkg/name", "image"},
		{"readthrough/internal/inject", "golang.org/x/crypto/x509roots/fallback", "image"},
		{"readthrough/resp", "readthrough/internal/webhook", "webhook"},
		{"readthrough/internal/webhook", "readthrough/origin", "webhook's imports"},
		{"readthrough/internal/inject", "readthrough/internal/kube", "Kubernetes API"},
		{"readthrough/internal/kube", "readthrough/internal/inject", "leaves"},
		{"readthrough/cmd/sidecar", "k8s.io/client-go/kubernetes", "Kubernetes client"},

		{"readthrough/resp", "readthrough/internal/frame", ""},
		{"readthrough/resp", "readthrough/respite", ""},
		{"readthrough/internal/webhook", "readthrough/internal/inject", ""},
		{"readthrough/internal/webhook", "readthrough/internal/kube", ""},
		{"readthrough/cmd/sidecar", "readthrough/internal/webhook", ""},
		{"readthrough/internal/relay", "readthrough/internal/frame", ""},
		{"readthrough/cmd/sidecar", "readthrough/upstream", ""},
		{"readthrough/cmd/sidecar", "github.com/spf13/viper", ""},
		{"readthrough/origin", "github.com/jackc/pgx/v5", ""},
		{"readthrough/upstream", "github.com/redis/rueidis", ""},
		{"readthrough/test/harness", "github.com/jackc/pgx/v5", ""},
		{"readthrough/test/demo", "readthrough/test/harness", ""},
		{"readthrough/cmd/image", "golang.org/x/crypto/x509roots/fallback/bundle", ""},
	} {
		got := violations([]pkg{{c.importer, []string{"fmt", c.imported}}}, rules)
		switch {
		case c.broken == "" && len(got) > 0:
			t.Errorf("%s may import %s, but: %v", c.importer, c.imported, got)
		case c.broken != "" && (len(got) != 1 || !strings.Contains(got[0], "("+c.broken+")")):
			t.Errorf("%s imports %s: found %q, want the rule %q", c.importer, c.imported, got, c.broken)
		}
	}
}

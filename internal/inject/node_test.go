package inject

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestApply(t *testing.T) {
	for _, c := range []struct {
		text string
		op   Operation
		want string // the text afterwards, or what the error says
	}{
		{"a: 1 # one\n", Operation{Op: "add", Path: "/a", Value: encode(2)}, "a: 2 # one\n"},
		{"a: 1\n", Operation{Op: "add", Path: "/b~1c~0d", Value: encode("x y")}, "a: 1\nb/c~d: \"x y\"\n"},
		{"a: {}\n", Operation{Op: "add", Path: "/a/b", Value: encode("yes")}, "a: {b: \"yes\"}\n"},
		{"a: {}\n", Operation{Op: "add", Path: "/a/b", Value: encode([]string{"on it"})}, "a:\n    b:\n        - \"on it\"\n"},
		{"a: []\n", Operation{Op: "add", Path: "/a/0", Value: encode(map[string]int{"b": 1})}, "a:\n    - \"b\": 1\n"},
		{"# first\n- a\n# second\n- b\n", Operation{Op: "add", Path: "/1", Value: encode("new")}, "# first\n- a\n- new\n# second\n- b\n"},
		{"- a # x\n- b\n", Operation{Op: "replace", Path: "/0", Value: encode("new")}, "- new # x\n- b\n"},
		{"- a\n- b\n# last\n- c\n", Operation{Op: "move", From: "/2", Path: "/0"}, "# last\n- c\n- a\n- b\n"},
		{"a: 1\nb: 2\n", Operation{Op: "move", From: "/a", Path: "/c"}, "b: 2\nc: 1\n"},

		{"a: 1\n", Operation{Op: "test", Path: "/a", Value: encode(1)}, `test /a: "test" is not an operation`},
		{"a: 1\n", Operation{Op: "add", Path: "a", Value: encode(1)}, `add a: "a" is not a path`},
		{"a: 1\n", Operation{Op: "add", Path: "/a/b", Value: encode(1)}, "add /a/b: b is not within"},
		{"a: 1\n", Operation{Op: "add", Path: "/a/b/c", Value: encode(1)}, "add /a/b/c: b is not within"},
		{"a: 1\n", Operation{Op: "add", Path: "/b/c", Value: encode(1)}, "add /b/c: there is no b"},
		{"a: 1\n", Operation{Op: "replace", Path: "/b", Value: encode(1)}, "replace /b: there is no b"},
		{"a: 1\n", Operation{Op: "move", From: "/b", Path: "/c"}, "move /c: there is no /b"},
		{"- a\n", Operation{Op: "add", Path: "/2", Value: encode(1)}, `add /2: "2" is not an index of a list of 1`},
		{"- a\n", Operation{Op: "add", Path: "/-1", Value: encode(1)}, `add /-1: "-1" is not an index`},
		{"- a\n", Operation{Op: "replace", Path: "/1", Value: encode(1)}, `replace /1: "1" is not an index`},
		{"- a\n", Operation{Op: "move", From: "/1", Path: "/0"}, `move /0: "1" is not an index`},
		{"- a\n", Operation{Op: "add", Path: "/x/b", Value: encode(1)}, `add /x/b: "x" is not an index`},
	} {
		var root yaml.Node
		if err := yaml.Unmarshal([]byte(c.text), &root); err != nil {
			t.Fatal(err)
		}
		if err := (Patch{c.op}).Apply(root.Content[0]); err != nil {
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%q: %v, want %s", c.text, err, c.want)
			}
			continue
		}
		got, err := yaml.Marshal(&root)
		if err != nil || string(got) != c.want {
			t.Errorf("%q: %s %s gives %q, %v; want %q", c.text, c.op.Op, c.op.Path, got, err, c.want)
		}
	}
}

// TestQuotes holds that text stays text for readers of every version of YAML, which take different words for something else.
func TestQuotes(t *testing.T) {
	for text, want := range map[string]string{
		"redis://localhost:6380": "redis://localhost:6380", "--admin": "--admin", "/sidecar": "/sidecar", "24s": "24s", "96MiB": "96MiB",
		"yes": `"yes"`, "Off": `"Off"`, "N": `"N"`, "null": `"null"`, "~": `"~"`, "1": `"1"`, "1:30": `"1:30"`, "0x1f": `"0x1f"`, "1e3": `"1e3"`,
		"": `""`, ":6381": `":6381"`, "a: b": `"a: b"`, "a #b": `"a #b"`, "a ": `"a "`, "- a": `"- a"`, "*a": `"*a"`, "key:": `"key:"`, ".inf": `".inf"`,
		"2026-01-02": `"2026-01-02"`, "a\nb": `"a\nb"`,
	} {
		n, err := nodeOf(encode(text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := yaml.Marshal(n)
		if err != nil || strings.TrimSuffix(string(got), "\n") != want {
			t.Errorf("%q is written %s, want %s; %v", text, got, want, err)
		}
	}
}

// TestExpandIsBounded holds that a few lines of aliases do not fill the memory.
func TestExpandIsBounded(t *testing.T) {
	text := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		a := string(rune('0' + i))
		text += "a" + string(rune('1'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.TrimSuffix(strings.Repeat("*a"+a+", ", 9), ", ") + "]\n"
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		t.Fatal(err)
	}
	if err := expand(&root); err == nil || !strings.Contains(err.Error(), "write it out") {
		t.Errorf("expanded, with %v", err)
	}
}

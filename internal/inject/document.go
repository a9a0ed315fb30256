package inject

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/json"
	sigsyaml "sigs.k8s.io/yaml"
)

// document is one of a YAML text: its body between the lines that separate it from the others.
type document struct {
	line       int // of the body, from 1
	head, tail []byte
	body       []byte
}

// text is the document as it was.
func (d document) text() []byte { return d.with(d.body) }

// with is the document with another body.
func (d document) with(body []byte) []byte {
	return bytes.Join([][]byte{d.head, body, d.tail}, nil)
}

// split takes a YAML text apart at the markers of documents, which stand at the beginning of a line and nowhere else; and JSON
// at the ends of its values, which need no marker.
func split(raw []byte) []document {
	var all []document
	current := document{line: 1}
	started := false
	end := func(next int) {
		if started {
			all = append(all, current.values()...)
		}
		current, started = document{line: next}, false
	}
	line := 0
	for text := range bytes.Lines(raw) {
		line++
		switch {
		case isMarker(text, "---"):
			end(line)
			if rest := bytes.TrimSpace(text[3:]); len(rest) == 0 || rest[0] == '#' {
				current.head, current.line = text, line+1
			} else { // the body begins behind the marker
				current.head, current.body = text[:3:3], append(current.body, text[3:]...)
			}
			started = true
		case isMarker(text, "..."):
			current.tail, started = text, true
			end(line + 1)
		default:
			current.body, started = append(current.body, text...), true
		}
	}
	end(0)
	return all
}

// values takes a document apart that is a stream of JSON values. Every other document stays one.
func (d document) values() []document {
	if body := bytes.TrimSpace(d.body); len(body) == 0 || body[0] != '{' {
		return []document{d}
	}
	var all []document
	decoder := stdjson.NewDecoder(bytes.NewReader(d.body))
	for begin := 0; ; {
		var value stdjson.RawMessage
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return []document{d} // YAML in braces, or nothing that can be read
		}
		end := int(decoder.InputOffset())
		for end < len(d.body) && strings.IndexByte(" \t\r\n", d.body[end]) >= 0 {
			end++
		}
		all = append(all, document{line: d.line + bytes.Count(d.body[:begin], []byte("\n")), body: d.body[begin:end:end]})
		begin = end
	}
	all[0].head, all[len(all)-1].tail = d.head, d.tail
	return all
}

// single makes sure that the body is one document, with nothing behind it: readers of YAML that are content with the first
// would lose the rest.
func (d document) single() error {
	decoder := yaml.NewDecoder(bytes.NewReader(d.body))
	var first, second yaml.Node
	if err := decoder.Decode(&first); err != nil {
		return fmt.Errorf("this is not valid YAML: %w", err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return errors.New("this document has something behind its end: write --- on a line of its own between two objects")
	}
	return nil
}

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || strings.IndexByte(" \t\r\n", rest[0]) >= 0)
}

// blank reports whether the body has nothing but comments and directives.
func (d document) blank() bool {
	for line := range bytes.Lines(d.body) {
		text := bytes.TrimSpace(line)
		if len(text) > 0 && text[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}

// rewrite gives the document's text with the changes carried out; object is what the text says, as JSON has it.
func (d document) rewrite(object any, changes []change) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(d.body, &root); err != nil {
		return nil, fmt.Errorf("this is not valid YAML: %w", err)
	}
	if key := repeated(&root); key != nil {
		return nil, fmt.Errorf("%s is given twice in one mapping, the second time on line %d: keep one", key.Value, d.line+key.Line-1)
	}
	if err := expand(&root); err != nil {
		return nil, err
	}
	write := layoutOf(&root).encode
	if stdjson.Valid(d.body) {
		write = func(root *yaml.Node) ([]byte, error) { return indentedJSON(root.Content[0], d.body) }
	}
	if err := faithful(&root, object, write); err != nil {
		return nil, err
	}
	for _, c := range changes {
		n := nodeAt(root.Content[0], c.path, func(n *yaml.Node) { n.Style &^= yaml.FlowStyle })
		if n == nil {
			return nil, errUnfaithful
		}
		if err := c.patch.Apply(n); err != nil {
			return nil, err
		}
	}
	text, err := write(&root)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(d.body, []byte("\r\n")) {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	}
	head := d.head
	if len(head) == 3 { // the body began behind the marker
		head = []byte("---\n")
	}
	return document{head: head, tail: d.tail}.with(text), nil
}

// repeated is a key that its mapping has twice, or nil.
func repeated(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		seen := map[string]bool{}
		for i := 0; i < len(n.Content); i += 2 {
			if key := n.Content[i]; seen[key.Value] {
				return key
			}
			seen[n.Content[i].Value] = true
		}
	}
	for _, c := range n.Content {
		if key := repeated(c); key != nil {
			return key
		}
	}
	return nil
}

var errUnfaithful = errors.New("this YAML cannot be written again without changing what it says: convert it to JSON, or write it more simply")

// faithful makes sure that the document means the same once it has been written again: what reads it next is another YAML
// library, with rules of its own.
func faithful(root *yaml.Node, object any, write func(*yaml.Node) ([]byte, error)) error {
	text, err := write(root)
	if err != nil {
		return errUnfaithful
	}
	asJSON, err := sigsyaml.YAMLToJSON(text)
	if err != nil {
		return errUnfaithful
	}
	var again any
	if err := json.Unmarshal(asJSON, &again); err != nil || !reflect.DeepEqual(object, again) {
		return errUnfaithful
	}
	return nil
}

// layout is how a text is indented.
type layout struct {
	indent  int
	compact bool // the items of a list stand below its key, not indented
}

// layoutOf finds the layout by the first places that show it.
func layoutOf(root *yaml.Node) layout {
	var l layout
	listSeen := false
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 {
			for i := 0; i+1 < len(n.Content); i += 2 {
				key, value := n.Content[i], n.Content[i+1]
				if value.Style&yaml.FlowStyle != 0 || len(value.Content) == 0 || value.Line <= key.Line {
					continue
				}
				switch deeper := value.Column - key.Column; {
				case value.Kind == yaml.MappingNode && l.indent == 0 && deeper > 1:
					l.indent = deeper
				case value.Kind == yaml.SequenceNode && !listSeen:
					l.compact, listSeen = deeper == 0, true
				}
			}
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(root)
	if l.indent == 0 || l.indent > 8 {
		l.indent = 2
	}
	return l
}

func (l layout) encode(root *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(l.indent)
	if l.compact {
		e.CompactSeqIndent()
	}
	if err := e.Encode(root); err != nil {
		return nil, err
	}
	err := e.Close()
	return out.Bytes(), err
}

// indentedJSON writes JSON that was read as YAML, on one line if it was on one.
func indentedJSON(n *yaml.Node, original []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := writeJSON(&out, n); err != nil {
		return nil, err
	}
	_, second, several := bytes.Cut(bytes.TrimSpace(original), []byte("\n"))
	if !several {
		out.WriteByte('\n')
		return out.Bytes(), nil
	}
	var indented bytes.Buffer
	err := stdjson.Indent(&indented, out.Bytes(), "", string(second[:len(second)-len(bytes.TrimLeft(second, " \t"))]))
	indented.WriteByte('\n')
	return indented.Bytes(), err
}

func writeJSON(out *bytes.Buffer, n *yaml.Node) error {
	text := func(s string) error {
		e := stdjson.NewEncoder(out)
		e.SetEscapeHTML(false)
		err := e.Encode(s)
		out.Truncate(out.Len() - 1) // its line feed
		return err
	}
	switch n.Kind {
	case yaml.MappingNode:
		out.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := text(n.Content[i].Value); err != nil {
				return err
			}
			out.WriteByte(':')
			if err := writeJSON(out, n.Content[i+1]); err != nil {
				return err
			}
		}
		out.WriteByte('}')
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeJSON(out, item); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	default:
		if n.Style&yaml.DoubleQuotedStyle == 0 && stdjson.Valid([]byte(n.Value)) && n.ShortTag() != "!!str" {
			out.WriteString(n.Value)
			return nil
		}
		return text(n.Value)
	}
	return nil
}

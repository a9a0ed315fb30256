package origin

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxCaptures bounds the captures of one pattern, so that a match needs no memory of its own.
const maxCaptures = 16

// Capture is a named part of a key pattern.
type Capture struct {
	Name string
	Type CaptureType
}

// part is a piece of a pattern: literal text, or a capture where literal is "".
type part struct {
	literal string
	capture Capture
	stop    string // of a capture: the first character of the literal that follows, "" at the end of the pattern
}

// pattern is a key pattern: literal text with captures between.
type pattern struct {
	parts []part
	count int // of captures
}

// parsePattern reads a key pattern.
//
//	usr:profile:<user_id:int>     literal text and a capture with its type
//	page:<slug>                   text where the type is omitted
//	usr:{<user_id:int>}:profile   braces are plain text, so hash tags work
//	a<<b                          << stands for one literal <
//
// A literal must stand between two captures, so that every key has one reading. The error joins all that is wrong.
func parsePattern(text string) (*pattern, error) {
	p := &pattern{}
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if text == "" {
		problem("is empty: write the key's text, with captures such as <id:int>")
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		problem("is not valid UTF-8 without NUL")
		return nil, errors.Join(errs...)
	}

	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			p.parts = append(p.parts, part{literal: literal.String()})
			literal.Reset()
		}
	}
	for rest := text; rest != ""; {
		i := strings.IndexByte(rest, '<')
		if i < 0 {
			literal.WriteString(rest)
			break
		}
		literal.WriteString(rest[:i])
		rest = rest[i+1:]
		if strings.HasPrefix(rest, "<") {
			literal.WriteByte('<')
			rest = rest[1:]
			continue
		}
		flush()
		body, after, closed := strings.Cut(rest, ">")
		if !closed {
			problem("the capture <%s has no closing >: close it, or write << for a literal <", rest)
			break
		}
		rest = after
		capture, err := parseCapture(body)
		if err != nil {
			errs = append(errs, err)
		}
		p.parts = append(p.parts, part{capture: capture})
	}
	flush()

	errs = append(errs, p.link()...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

func parseCapture(body string) (Capture, error) {
	name, typeName, typed := strings.Cut(body, ":")
	c := Capture{Name: name}
	if !isName(name) {
		return c, fmt.Errorf("<%s> has no proper name: write <name:type>, the name from letters, digits and _, not beginning with a digit", body)
	}
	if !typed {
		return c, nil
	}
	t, ok := parseCaptureType(typeName)
	if !ok {
		return c, fmt.Errorf("<%s> has the unknown type %q: write one of %s", body, typeName, captureTypeNames())
	}
	c.Type = t
	return c, nil
}

// link counts the captures, gives each its stop, and returns what is wrong with the order of the parts.
func (p *pattern) link() []error {
	var errs []error
	seen := map[string]bool{}
	for i := range p.parts {
		part := &p.parts[i]
		if part.literal != "" {
			continue
		}
		c := part.capture
		if seen[c.Name] {
			errs = append(errs, fmt.Errorf("two captures are named %s: give each a name of its own", c.Name))
		}
		seen[c.Name] = true
		p.count++
		if i+1 == len(p.parts) {
			continue
		}
		next := p.parts[i+1]
		switch {
		case c.Type == Path:
			errs = append(errs, fmt.Errorf("<%s:path> takes the rest of the key and must stand last: use text here", c.Name))
		case next.literal == "":
			errs = append(errs, fmt.Errorf("nothing separates <%s> from <%s>: write a literal between them", c.Name, next.capture.Name))
		default:
			r, size := utf8.DecodeRuneInString(next.literal)
			part.stop = next.literal[:size]
			if !c.Type.follows(r) {
				errs = append(errs, fmt.Errorf("%q cannot follow <%s:%s>, which would take it for its own: write another separator", part.stop, c.Name, c.Type))
			}
		}
	}
	if p.count > maxCaptures {
		errs = append(errs, fmt.Errorf("has %d captures: at most %d are possible", p.count, maxCaptures))
	}
	return errs
}

// captures lists the pattern's captures in their order.
func (p *pattern) captures() []Capture {
	var captures []Capture
	for _, part := range p.parts {
		if part.literal == "" {
			captures = append(captures, part.capture)
		}
	}
	return captures
}

// isName reports whether s can name a capture, and so a query parameter.
func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isNameByte(s[i], i == 0) {
			return false
		}
	}
	return s != ""
}

func isNameByte(b byte, first bool) bool {
	return b == '_' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || !first && '0' <= b && b <= '9'
}

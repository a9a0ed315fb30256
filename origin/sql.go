package origin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// statement is one SQL query with its named parameters made positional.
type statement struct {
	sql    string   // @name is $1, $2, …; no semicolon at the end
	params []string // the names, by position
}

// parseStatement finds the named parameters of a query and gives each a number; one name keeps one number. It reads SQL as
// PostgreSQL's own scanner does (strings, escape strings and their continuation lines, quoted names, dollar quotes, nested
// comments, operators), because an @ in any of these is not a parameter.
//
// Nothing is ever put into the text but the $n: values are bound.
func parseStatement(query string) (*statement, error) {
	if !utf8.ValidString(query) || strings.ContainsRune(query, 0) {
		return nil, errors.New("is not valid UTF-8 without NUL")
	}
	s := &scanner{src: query}
	if err := s.scan(); err != nil {
		return nil, err
	}
	if s.empty {
		return nil, errors.New("is empty: write one SELECT")
	}
	s.out.WriteString(query[s.copied:s.end])
	return &statement{sql: s.out.String(), params: s.params}, nil
}

// scanner reads a query token by token.
type scanner struct {
	src    string
	pos    int
	copied int             // src before this is in out
	out    strings.Builder // the rewritten query
	params []string
	end    int  // where the statement ends in src: its semicolon, else len(src)
	empty  bool // no token yet
}

const operatorBytes = "+-*/<>=~!@#%^&|`?"

func (s *scanner) scan() error {
	s.end, s.empty = len(s.src), true
	for s.pos < len(s.src) {
		start := s.pos
		c := s.src[s.pos]
		if isSpace(c) {
			s.pos++
			continue
		}
		if comment, err := s.comment(); err != nil {
			return err
		} else if comment {
			continue
		}
		if c == ';' {
			s.pos++
			s.end = min(s.end, start)
			continue
		}
		if s.end < len(s.src) {
			return s.errorf(start, "a second statement follows the semicolon: a map has one query")
		}
		s.empty = false
		if err := s.token(c); err != nil {
			return err
		}
	}
	return nil
}

// token reads one token that begins with c.
func (s *scanner) token(c byte) error {
	start := s.pos
	switch {
	case c == '\'':
		return s.quoted('\'', false)
	case c == '"':
		return s.quoted('"', false)
	case isIdentStart(c):
		s.ident()
		if word := s.src[start:s.pos]; (word == "e" || word == "E") && s.peek(0) == '\'' {
			return s.escapeString()
		}
		return nil
	case c == '$':
		return s.dollar()
	case strings.IndexByte(operatorBytes, c) >= 0:
		return s.operator()
	default:
		s.pos++
		return nil
	}
}

// comment skips a comment, and reports whether there was one.
func (s *scanner) comment() (bool, error) {
	start := s.pos
	switch {
	case strings.HasPrefix(s.src[s.pos:], "--"):
		if i := strings.IndexAny(s.src[s.pos:], "\r\n"); i >= 0 {
			s.pos += i
		} else {
			s.pos = len(s.src)
		}
		return true, nil
	case strings.HasPrefix(s.src[s.pos:], "/*"):
		for depth := 0; s.pos < len(s.src); {
			switch {
			case strings.HasPrefix(s.src[s.pos:], "/*"):
				depth++
				s.pos += 2
			case strings.HasPrefix(s.src[s.pos:], "*/"):
				depth--
				s.pos += 2
				if depth == 0 {
					return true, nil
				}
			default:
				s.pos++
			}
		}
		return false, s.errorf(start, "a comment begins here and does not end")
	}
	return false, nil
}

// quoted skips a string or quoted name; the quote doubled stands for itself.
func (s *scanner) quoted(quote byte, backslash bool) error {
	start := s.pos
	for s.pos++; s.pos < len(s.src); s.pos++ {
		switch c := s.src[s.pos]; {
		case c == '\\' && backslash:
			s.pos++
		case c == quote && s.peek(1) == quote:
			s.pos++
		case c == quote:
			s.pos++
			return nil
		}
	}
	return s.errorf(start, "a quote %c opens here and does not close", quote)
}

// escapeString skips an E'…' string from its quote on. Like every string it goes on after white space with a newline and
// another quote, and only there: the continuation has escapes too.
func (s *scanner) escapeString() error {
	for {
		if err := s.quoted('\'', true); err != nil {
			return err
		}
		after := s.pos
		newline := false
		for s.pos < len(s.src) {
			if c := s.src[s.pos]; isSpace(c) {
				newline = newline || c == '\n' || c == '\r'
				s.pos++
			} else if strings.HasPrefix(s.src[s.pos:], "--") {
				if _, err := s.comment(); err != nil {
					return err
				}
			} else {
				break
			}
		}
		if !newline || s.peek(0) != '\'' {
			s.pos = after
			return nil
		}
	}
}

// dollar skips a dollar-quoted string, and refuses $1.
func (s *scanner) dollar() error {
	start := s.pos
	if c := s.peek(1); '0' <= c && c <= '9' {
		return s.errorf(start, "$%c is a positional parameter: write @name, with the name of a capture of the key", c)
	}
	end := s.pos + 1
	for end < len(s.src) && isIdentByte(s.src[end]) && s.src[end] != '$' {
		end++
	}
	if end == len(s.src) || s.src[end] != '$' {
		s.pos++
		return nil
	}
	tag := s.src[start : end+1]
	i := strings.Index(s.src[end+1:], tag)
	if i < 0 {
		return s.errorf(start, "the quote %s opens here and does not close", tag)
	}
	s.pos = end + 1 + i + len(tag)
	return nil
}

// operator skips a run of operator characters; an @ at its end with a name right behind it is a parameter.
func (s *scanner) operator() error {
	start := s.pos
	for s.pos < len(s.src) && strings.IndexByte(operatorBytes, s.src[s.pos]) >= 0 {
		if rest := s.src[s.pos:]; s.pos > start && (strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "/*")) {
			return nil
		}
		s.pos++
	}
	run := s.src[start:s.pos]
	if run[len(run)-1] != '@' || !isIdentStart(s.peek(0)) {
		return nil
	}
	at := s.pos - 1
	s.ident()
	name := s.src[at+1 : s.pos]
	if !isName(name) {
		return s.errorf(at, "@%s is not a parameter's name: it has letters, digits and _ only", name)
	}
	// PostgreSQL's operators that end with @ (<@, @@, @-@, …) must not be mistaken for another operator before a parameter.
	if before := run[:len(run)-1]; strings.HasSuffix(before, "<") || strings.HasSuffix(before, "@") || strings.HasSuffix(before, "@-") {
		return s.errorf(start, "%s%s may be read in two ways: write a space, as in \"%s @%s\" or \"%s %s\"", run, name, before, name, run, name)
	}
	s.param(at, name)
	return nil
}

// param replaces the @name at src[at:s.pos].
func (s *scanner) param(at int, name string) {
	n := 0
	for n < len(s.params) && s.params[n] != name {
		n++
	}
	if n == len(s.params) {
		s.params = append(s.params, name)
	}
	s.out.WriteString(s.src[s.copied:at])
	if at > 0 && isIdentByte(s.src[at-1]) {
		s.out.WriteByte(' ') // else "limit@n" would become the name "limit$1"
	}
	s.out.WriteByte('$')
	s.out.WriteString(strconv.Itoa(n + 1))
	s.copied = s.pos
}

func (s *scanner) ident() {
	for s.pos < len(s.src) && isIdentByte(s.src[s.pos]) {
		s.pos++
	}
}

// peek returns the byte n places ahead, 0 past the end.
func (s *scanner) peek(n int) byte {
	if s.pos+n < len(s.src) {
		return s.src[s.pos+n]
	}
	return 0
}

func (s *scanner) errorf(at int, format string, args ...any) error {
	line := 1 + strings.Count(s.src[:at], "\n")
	column := 1 + utf8.RuneCountInString(s.src[strings.LastIndexByte(s.src[:at], '\n')+1:at])
	return fmt.Errorf("line %d, column %d: %s", line, column, fmt.Sprintf(format, args...))
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'
}

func isIdentStart(c byte) bool {
	return isNameByte(c, true) || c >= 0x80
}

func isIdentByte(c byte) bool {
	return isIdentStart(c) || '0' <= c && c <= '9' || c == '$'
}

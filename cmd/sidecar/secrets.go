package main

import "regexp"

// Secret is where a secret comes from, never the secret itself: text with ${VAR} references, or a file. The zero Secret
// stands for none.
type Secret struct {
	template string
	file     string
}

// SecretFile is the secret that a file holds.
func SecretFile(path string) Secret { return Secret{file: path} }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s == Secret{} }

// String names the source, so that a Secret may be printed.
func (s Secret) String() string {
	switch {
	case s.file != "":
		return "file " + s.file
	case s.template == "":
		return "none"
	case len(reference.FindAllString(s.template, -1)) == 1 && s.literal() == "":
		return s.template
	}
	return "[secret]"
}

// GoString keeps the template out of %#v.
func (s Secret) GoString() string { return "Secret(" + s.String() + ")" }

// literal is the part of the template that is not a reference.
func (s Secret) literal() string { return reference.ReplaceAllString(s.template, "") }

// literalPassword finds a password in a connection URL or key=value string whose references are replaced by NUL.
var literalPassword = regexp.MustCompile(`(?i)://[^/?#@]*:[^/?#@]*[^/?#@:\x00][^/?#@]*@|(?:^|[\s?&])(?:ssl)?password\s*=\s*'?[^\s&'\x00]`)

// hasLiteralPassword reports whether the template of a connection string holds a password outside ${VAR}.
func (s Secret) hasLiteralPassword() bool {
	return literalPassword.MatchString(reference.ReplaceAllString(s.template, "\x00"))
}

var (
	reference    = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)
	anyReference = regexp.MustCompile(`\$\{[^}]*\}?`)
)

// refersToVariable reports whether text holds something that is, or was meant to be, a ${VAR} reference.
func refersToVariable(text string) bool { return anyReference.MatchString(text) }

func firstReference(text string) string { return anyReference.FindString(text) }

package frame

// splitWords splits a line into words as Redis's sdssplitargs does: blanks separate, "…" takes \xHH and \n \r \t \b \a escapes,
// '…' takes \' alone, and a closing quote must be followed by a blank or the end. It is not ok when quotes are unbalanced.
func splitWords(line []byte) (words [][]byte, ok bool) {
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return words, true
		}
		word := []byte{}
		for i < len(line) && !endsWord(line[i]) {
			if c := line[i]; c == '"' || c == '\'' {
				if word, i = unquote(word, line, i); i < 0 {
					return nil, false
				}
				break // what follows a closing quote is a blank or the end
			}
			word = append(word, line[i])
			i++
		}
		words = append(words, word)
	}
}

// unquote appends the quoted text that starts at line[i] and returns the place behind its closing quote, or -1.
func unquote(word, line []byte, i int) ([]byte, int) {
	quote := line[i]
	for i++; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && quote == '"' && i+3 < len(line) && line[i+1] == 'x' && isHex(line[i+2]) && isHex(line[i+3]):
			word = append(word, hex(line[i+2])<<4|hex(line[i+3]))
			i += 3
		case c == '\\' && quote == '"' && i+1 < len(line):
			i++
			word = append(word, unescape(line[i]))
		case c == '\\' && quote == '\'' && i+1 < len(line) && line[i+1] == '\'':
			i++
			word = append(word, '\'')
		case c == quote:
			if i+1 < len(line) && !isSpace(line[i+1]) {
				return nil, -1
			}
			return word, i + 1
		default:
			word = append(word, c)
		}
	}
	return nil, -1
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

// endsWord is narrower than isSpace: a vertical tab or form feed inside a word belongs to it.
func endsWord(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// isSpace is C's isspace in the C locale.
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func hex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

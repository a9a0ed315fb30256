// Package lease is what the Redis side and the database side agree on when a missing key is loaded: who may load it, and who may
// fill it in. The protocol is described in docs/consistency.md.
package lease

import "bytes"

// Prefix begins every lease key. Clients may not name such keys.
const Prefix = "readthrough:lease:"

// AppendKey appends the lease key of a key: Prefix{tag}:key, where tag is what Redis hashes of the key, so that both have the same
// slot. ok is false, and nothing appended, for keys whose slot no other key can be given: those with a closing brace and no tag, and
// the empty one.
func AppendKey(b, key []byte) (_ []byte, ok bool) {
	tag := key
	if open := bytes.IndexByte(key, '{'); open >= 0 {
		if length := bytes.IndexByte(key[open+1:], '}'); length > 0 {
			tag = key[open+1 : open+1+length]
		}
	}
	if len(tag) == 0 || bytes.IndexByte(tag, '}') >= 0 {
		return b, false
	}
	b = append(b, Prefix...)
	b = append(b, '{')
	b = append(b, tag...)
	b = append(b, '}', ':')
	return append(b, key...), true
}

// Is tells whether a key is a lease key.
func Is(key []byte) bool { return len(key) >= len(Prefix) && string(key[:len(Prefix)]) == Prefix }

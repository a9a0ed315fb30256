package origin

import (
	"fmt"
	"strings"
	"testing"
)

// compile makes maps of patterns alone.
func compile(t testing.TB, patterns ...string) *Maps {
	t.Helper()
	maps, err := Compile(definitions(patterns...))
	if err != nil {
		t.Fatal(err)
	}
	return maps
}

func definitions(patterns ...string) []Definition {
	defs := make([]Definition, len(patterns))
	for i, p := range patterns {
		defs[i] = Definition{Name: fmt.Sprintf("m%d", i), Key: p, Query: "select 1 as one", TTL: 1e9, Timeout: 1e9}
	}
	return defs
}

func TestPatternMatches(t *testing.T) {
	const uuid = "0f8fad5b-d9cb-469f-a165-70867728950e"
	for _, test := range []struct {
		pattern, key string
		want         string // the captures joined by |, "-" for no match
	}{
		{"plain", "plain", ""},
		{"plain", "plain2", "-"},
		{"plain", "plai", "-"},
		{"plain", "", "-"},
		{"usr:profile:<user_id:int>", "usr:profile:42", "42"},
		{"usr:profile:<user_id:int>", "usr:profile:42:x", "-"},
		{"usr:{<user_id:int>}:profile", "usr:{42}:profile", "42"},
		{"usr:{<user_id:int>}:profile", "usr:{42}", "-"},
		{"<a:int>", "0", "0"},
		{"<a:int>", "-1", "-1"},
		{"<a:int>", "", "-"},
		{"<a:int>", "-", "-"},
		{"<a:int>", "-0", "-"},
		{"<a:int>", "+1", "-"},
		{"<a:int>", "01", "-"},
		{"<a:int>", "00", "-"},
		{"<a:int>", " 1", "-"},
		{"<a:int>", "1.0", "-"},
		{"<a:int>", "9223372036854775807", "9223372036854775807"},
		{"<a:int>", "9223372036854775808", "-"},
		{"<a:int>", "-9223372036854775808", "-9223372036854775808"},
		{"<a:int>", "-9223372036854775809", "-"},
		{"<a:int>", "8999999999999999999", "8999999999999999999"},
		{"<a:int>", "10000000000000000000", "-"},
		{"<a:int>-<b:int>", "-1--2", "-1|-2"},
		{"n:<a>", "n:hello world", "hello world"},
		{"n:<a>", "n:", "-"},
		{"n:<a>", "n:x:y", "-"}, // a rest with separators is a path
		{"n:<a:path>", "n:x:y", "x:y"},
		{"n:<a:path>", "n:", "-"},
		{"n:<a>", "n:żółw→", "żółw→"},
		{"n:<a>", "n:\xff", "-"},
		{"n:<a>", "n:a\x00b", "-"},
		{"n:<a:path>", "n:a\x00b", "-"},
		{"<a>/<b>", "x:y/z", "x:y|z"},
		{"<a>/<b>", "x/y/z", "x|y/z"},
		{"<a>/<b>/end", "x/y/end", "x|y"},
		{"<a>::<b>", "x::y", "x|y"},
		{"<a>::<b>", "x:y::z", "-"}, // a capture does not hold the character that follows it
		{"<a>→<b>", "“x→y", "“x|y"}, // → and “ begin with the same byte
		{"t:<a:uuid>-<b:int>", "t:" + uuid + "-7", uuid + "|7"},
		{"<a:uuid>", strings.ToUpper(uuid), "-"},
		{"<a:uuid>", uuid[:35], "-"},
		{"<a:uuid>", uuid + "0", "-"},
		{"<a:uuid>", strings.ReplaceAll(uuid, "-", ""), "-"},
		{"d:<a:date>", "d:2024-02-29", "2024-02-29"},
		{"d:<a:date>", "d:2023-02-29", "-"},
		{"d:<a:date>", "d:1900-02-29", "-"},
		{"d:<a:date>", "d:2000-02-29", "2000-02-29"},
		{"d:<a:date>", "d:0000-01-01", "-"},
		{"d:<a:date>", "d:0001-01-01", "0001-01-01"},
		{"d:<a:date>", "d:2023-04-31", "-"},
		{"d:<a:date>", "d:2023-13-01", "-"},
		{"d:<a:date>", "d:2023-00-01", "-"},
		{"d:<a:date>", "d:2023-01-00", "-"},
		{"d:<a:date>", "d:2023-1-1", "-"},
		{"d:<a:date>-<b:date>", "d:2023-01-01-2023-12-31", "2023-01-01|2023-12-31"},
		{"h:<a:hex>:<b>", "h:00ff:x", "00ff|x"},
		{"h:<a:hex>", "h:00FF", "-"},
		{"h:<a:hex>", "h:", "-"},
		{"a<<b<x:int>>", "a<b7>", "7"},
		{"a>b", "a>b", ""},
		{"*?[x]^$.<a:int>", "*?[x]^$.1", "1"},
	} {
		maps := compile(t, test.pattern)
		got := "-"
		if _, params, ok := maps.Match([]byte(test.key)); ok {
			parts := make([]string, len(params))
			for i, p := range params {
				parts[i] = string(p)
			}
			got = strings.Join(parts, "|")
		}
		if got != test.want {
			t.Errorf("pattern %q, key %q: got %q, want %q", test.pattern, test.key, got, test.want)
		}
		_, reason := maps.maps[0].pattern.fails([]byte(test.key))
		if (reason == "") != (test.want != "-") {
			t.Errorf("pattern %q, key %q: fails says %q", test.pattern, test.key, reason)
		}
	}
}

func TestPatternMistakes(t *testing.T) {
	for _, test := range []struct{ pattern, want string }{
		{"", "is empty"},
		{"a\xff", "not valid UTF-8"},
		{"a\x00", "not valid UTF-8"},
		{"a<b", "<b has no closing >: close it, or write <<"},
		{"a<>", "<> has no proper name"},
		{"a<1x>", "<1x> has no proper name"},
		{"a<x y>", "<x y> has no proper name"},
		{"a<:int>", "<:int> has no proper name"},
		{"a<x:float>", `<x:float> has the unknown type "float": write one of text, int, uuid, date, hex, path`},
		{"a<x:>", `unknown type ""`},
		{"<x><y>", "nothing separates <x> from <y>"},
		{"<x:int><y:uuid>", "nothing separates <x> from <y>"},
		{"<x:path>:y", "<x:path> takes the rest of the key and must stand last"},
		{"<x:path><y>", "<x:path> takes the rest"},
		{"<x>:<x>", "two captures are named x"},
		{"<x:int>0", `"0" cannot follow <x:int>`},
		{"<x:hex>abc", `"a" cannot follow <x:hex>`},
		{strings.Repeat("<x>:", 17), "has 17 captures: at most 16"},
	} {
		_, err := parsePattern(test.pattern)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("pattern %q: got %v, want %q", test.pattern, err, test.want)
		}
	}
	_, err := parsePattern("<a:b><1>")
	if err == nil || len(unjoin(err)) != 3 {
		t.Errorf("every mistake must be found, got %v", err)
	}
}

func TestExplain(t *testing.T) {
	maps := compile(t, "usr:<id:int>:profile", "usr:<id:int>:mail:<box>", "ord:<id:uuid>", "log:<day:date>", "page:<slug>", "img:<name>/small")
	for _, test := range []struct{ key, want string }{
		{"usr:7:profile", "m0 id=7"},
		{"usr:7:mail:in", "m1 id=7 box=in"},
		{"usr:7:settings", `near m0 at 6: expected "profile", m1 at 6: expected "mail:"`},
		{"usr:x:profile", "near m0 at 4: id is a 64-bit integer without plus sign or leading zero, m1 at 4: id is a 64-bit integer without plus sign or leading zero"},
		{"usr:7", `near m0 at 5: expected ":profile", m1 at 5: expected ":mail:"`},
		{"usr:7:profile:x", `near m0 at 13: the pattern ends here, the key goes on, m1 at 6: expected "mail:"`},
		{"log:2023-02-30", "near m3 at 4: day is a date that exists, as YYYY-MM-DD"},
		{"page:a:b", `near m4 at 5: slug is one or more characters of valid UTF-8 without NUL, without ":" at the end of a pattern: write <slug:path> to take the rest`},
		{"img:x", `near m5 at 4: name is one or more characters of valid UTF-8 without NUL, and ends before "/", which does not follow`},
		{"zzz", "near"},
	} {
		e := maps.Explain([]byte(test.key))
		var got string
		if e.Map != nil {
			got = e.Map.Name
			for _, p := range e.Params {
				got += " " + p.Name + "=" + p.Value
			}
		} else {
			var near []string
			for _, n := range e.Near {
				near = append(near, fmt.Sprintf("%s at %d: %s", n.Map, n.Position, n.Reason))
			}
			got = strings.TrimSpace("near " + strings.Join(near, ", "))
		}
		if got != test.want {
			t.Errorf("%q:\n got %s\nwant %s", test.key, got, test.want)
		}
	}
}

// FuzzPatterns compiles two patterns and holds what was reported of them against keys: those that are made from the patterns'
// own captures, and those that the fuzzer makes up.
func FuzzPatterns(f *testing.F) {
	f.Add("usr:<id:int>", "usr:<name>", "usr:7", "7", "8")
	f.Add("usr:<id>", "usr:<id>:settings", "usr:x:settings", "x", "x")
	f.Add("<t>:user:<id>", "<t>:order:<id>", "a:user:b:order:c", "a", "b")
	f.Add("<a:int>:x", "<a:hex>:x", "10:x", "10", "ff")
	f.Add("<a:date>x", "2023-02-<b>x", "2023-02-29x", "2023-02-28", "29")
	f.Add("<a:int>", "9223372036854775808", "9223372036854775808", "1", "2")
	f.Add("<a:uuid>", "<b:path>", "x", "0f8fad5b-d9cb-469f-a165-70867728950e", "y/z")
	f.Add("a<<<x>→<y>", "a<<<x>“<y>", "a<b“→c", "“", "→")
	f.Add("<x>x<y>", "<x>y<y>", "ayx", "a", "b")
	f.Fuzz(func(t *testing.T, first, second, key, v1, v2 string) {
		var parsed []*pattern
		for _, text := range []string{first, second} {
			p, err := parsePattern(text)
			if err != nil {
				return
			}
			parsed = append(parsed, p)
			roundTripPattern(t, text, p, v1, v2)
		}
		oneMatches := func(p *pattern, key string) bool {
			_, reason := p.fails([]byte(key))
			return reason == ""
		}
		root := &node{}
		a, b := &Map{}, &Map{}
		a.Name, b.Name = "a", "b"
		root.insert(parsed[0], a)
		root.insert(parsed[1], b)
		found := root.overlaps("", nil)
		for _, o := range found {
			if !oneMatches(parsed[0], o.key) || !oneMatches(parsed[1], o.key) {
				t.Fatalf("%q and %q: the example %q does not match both", first, second, o.key)
			}
		}
		keys := []string{key, build(parsed[0], v1, v2), build(parsed[0], v2, v1), build(parsed[1], v1, v2), build(parsed[1], v2, v1)}
		for _, k := range keys {
			inA, inB := oneMatches(parsed[0], k), oneMatches(parsed[1], k)
			if inA && inB && len(found) == 0 {
				t.Fatalf("%q and %q both match %q, which was not found", first, second, k)
			}
			if len(found) > 0 {
				continue
			}
			var spans [maxCaptures]span
			got := root.match([]byte(k), 0, spans[:])
			if want := map[bool]*Map{inA: a, inB: b}[true]; got != want {
				t.Fatalf("%q and %q: the trie finds %v for %q, one by one it is %v", first, second, got, k, want)
			}
		}
	})
}

// build makes a key of a pattern with the two values by turns.
func build(p *pattern, values ...string) string {
	var key strings.Builder
	n := 0
	for _, part := range p.parts {
		if part.literal != "" {
			key.WriteString(part.literal)
			continue
		}
		key.WriteString(values[n%len(values)])
		n++
	}
	return key.String()
}

// roundTripPattern demands that a key built from captures matches back to them. A value counts as a capture if it ends where it
// ends, in front of what follows it.
func roundTripPattern(t *testing.T, text string, p *pattern, values ...string) {
	n := 0
	var want []string
	for _, part := range p.parts {
		if part.literal != "" {
			continue
		}
		v := values[n%len(values)]
		n++
		if part.capture.Type.end([]byte(v+part.stop), 0, part.stop) != len(v) {
			return
		}
		want = append(want, v)
	}
	root, m := &node{}, &Map{}
	root.insert(p, m)
	key := build(p, values...)
	var spans [maxCaptures]span
	if root.match([]byte(key), 0, spans[:]) != m {
		t.Fatalf("%q does not match its own key %q", text, key)
	}
	for i, v := range want {
		if got := key[spans[i].start:spans[i].end]; got != v {
			t.Fatalf("%q, key %q: capture %d is %q, want %q", text, key, i, got, v)
		}
	}
}

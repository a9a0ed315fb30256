package command

import (
	"encoding/json"
	"fmt"
)

// Entry is one element of the reply of COMMAND, as Redis 7 gives it. A
// subcommand is an Entry too, named "config|set".
type Entry struct {
	Name  string `json:"name"`
	Arity int    `json:"arity"` // the command's name counts; negative: at least so many
	// Flags, Categories (of the ACL) and Tips are in Redis's own words.
	Flags []string `json:"flags,omitempty"`
	// FirstKey, LastKey and KeyStep are the key positions that servers older
	// than key specs give; 0, 0, 0 for none. They count only without KeySpecs.
	FirstKey    int       `json:"firstKey,omitempty"`
	LastKey     int       `json:"lastKey,omitempty"`
	KeyStep     int       `json:"keyStep,omitempty"`
	Categories  []string  `json:"categories,omitempty"`
	Tips        []string  `json:"tips,omitempty"`
	KeySpecs    []KeySpec `json:"keySpecs,omitempty"`
	Subcommands []Entry   `json:"subcommands,omitempty"`
}

// KeySpec says where keys stand among a command's arguments and what becomes of
// them: redis.io/docs, "Command key specifications".
type KeySpec struct {
	Flags []string    `json:"flags,omitempty"`
	Begin BeginSearch `json:"begin"`
	Find  FindKeys    `json:"find"`
}

// BeginSearch is where the search for keys starts.
type BeginSearch struct {
	Type      string `json:"type"`                // "index", "keyword" or "unknown"
	Index     int    `json:"index,omitempty"`     // index: the argument to start from
	Keyword   string `json:"keyword,omitempty"`   // keyword: start after this one
	StartFrom int    `json:"startFrom,omitempty"` // keyword: where to look from; negative: from the end, backwards
}

// FindKeys is how keys follow the start. Positions count from the start.
type FindKeys struct {
	Type      string `json:"type"`                // "range", "keynum" or "unknown"
	LastKey   int    `json:"lastKey,omitempty"`   // range: the last key; negative: from the end of the arguments
	Limit     int    `json:"limit,omitempty"`     // range: with LastKey -1, keys fill one Limit-th of what is left
	KeyNumIdx int    `json:"keyNumIdx,omitempty"` // keynum: the argument that holds the number of keys
	FirstKey  int    `json:"firstKey,omitempty"`  // keynum: the first key
	KeyStep   int    `json:"keyStep,omitempty"`   // both: from one key to the next
}

// Entries converts the decoded reply of COMMAND. Arrays and sets are []any,
// strings string, integers int64 (or int, float64, json.Number); the maps of
// key specs are map[string]any, or flat arrays as RESP2 has them. Elements that
// later servers add are ignored, those that earlier ones lack are left empty.
func Entries(reply any) ([]Entry, error) {
	d := decoder{}
	entries := d.entries(reply)
	if d.err != nil {
		return nil, fmt.Errorf("reply of COMMAND: %w", d.err)
	}
	return entries, nil
}

// decoder keeps the first error, so that what it decodes reads as a list of fields.
type decoder struct{ err error }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *decoder) entries(v any) []Entry {
	var entries []Entry
	for _, item := range d.list(v) {
		if item == nil { // COMMAND INFO answers null for a command it does not know
			continue
		}
		entries = append(entries, d.entry(item))
	}
	return entries
}

func (d *decoder) entry(v any) Entry {
	const required = 6 // what every Redis since 2.8.13 gives
	fields := d.list(v)
	if len(fields) < required {
		d.fail("an entry of %d elements, want at least %d", len(fields), required)
		return Entry{}
	}
	for len(fields) < 10 {
		fields = append(fields, nil)
	}
	e := Entry{
		Name:        d.string(fields[0]),
		Arity:       d.int(fields[1]),
		Flags:       d.strings(fields[2]),
		FirstKey:    d.int(fields[3]),
		LastKey:     d.int(fields[4]),
		KeyStep:     d.int(fields[5]),
		Categories:  d.strings(fields[6]),
		Tips:        d.strings(fields[7]),
		Subcommands: d.entries(fields[9]),
	}
	for _, spec := range d.list(fields[8]) {
		e.KeySpecs = append(e.KeySpecs, d.keySpec(spec))
	}
	return e
}

func (d *decoder) keySpec(v any) KeySpec {
	spec := d.dict(v)
	begin, find := d.dict(spec["begin_search"]), d.dict(spec["find_keys"])
	beginSpec, findSpec := d.dict(begin["spec"]), d.dict(find["spec"])
	return KeySpec{
		Flags: d.strings(spec["flags"]),
		Begin: BeginSearch{
			Type:      d.string(begin["type"]),
			Index:     d.int(beginSpec["index"]),
			Keyword:   d.string(beginSpec["keyword"]),
			StartFrom: d.int(beginSpec["startfrom"]),
		},
		Find: FindKeys{
			Type:      d.string(find["type"]),
			LastKey:   d.int(findSpec["lastkey"]),
			Limit:     d.int(findSpec["limit"]),
			KeyNumIdx: d.int(findSpec["keynumidx"]),
			FirstKey:  d.int(findSpec["firstkey"]),
			KeyStep:   d.int(findSpec["keystep"]),
		},
	}
}

func (d *decoder) list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	d.fail("a %T where a list should be", v)
	return nil
}

func (d *decoder) dict(v any) map[string]any {
	switch v := v.(type) {
	case nil:
		return nil
	case map[string]any:
		return v
	case []any:
		if len(v)%2 != 0 {
			break
		}
		m := make(map[string]any, len(v)/2)
		for i := 0; i < len(v); i += 2 {
			m[d.string(v[i])] = v[i+1]
		}
		return m
	}
	d.fail("a %T where a map should be", v)
	return nil
}

func (d *decoder) strings(v any) []string {
	var list []string
	for _, item := range d.list(v) {
		list = append(list, d.string(item))
	}
	return list
}

func (d *decoder) string(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	d.fail("a %T where a string should be", v)
	return ""
}

func (d *decoder) int(v any) int {
	switch v := v.(type) {
	case nil:
		return 0
	case int:
		return v
	case int64:
		return int(v)
	case float64:
		return int(v)
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			d.fail("%w", err)
		}
		return int(n)
	}
	d.fail("a %T where an integer should be", v)
	return 0
}

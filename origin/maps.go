package origin

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// ValueForm says what becomes the value of a key.
type ValueForm string

const (
	Object ValueForm = "object" // the row, as a JSON object; more than one row is an error
	Array  ValueForm = "array"  // all rows, as a JSON array of objects; no rows are no value
	// Column is the row's only column as PostgreSQL prints it, and bytea as its bytes; NULL is no value, more than one row an error.
	Column ValueForm = "column"
)

// ErrorMode says what a client gets when a load fails.
type ErrorMode string

const (
	ErrorReply ErrorMode = "error" // the error
	ErrorNil   ErrorMode = "nil"   // not found: for applications that then load by themselves
)

// Definition is one map as the configuration has it: the keys that are rows, and how to load them.
type Definition struct {
	Name    string
	Key     string        // key pattern, such as "usr:{<user_id:int>}:profile"
	Origin  string        // name of a Database; the first one where ""
	Query   string        // one SELECT, with captures as @name
	Value   ValueForm     // Object where ""
	TTL     time.Duration // of a value in Redis, at least 1 ms
	Jitter  float64       // 0 to 1: a TTL is shortened by a random part of at most this, so that keys do not expire together
	Timeout time.Duration // of one load, at least 1 ms
	OnError ErrorMode     // ErrorReply where ""

	Missing  time.Duration // for how long all pods remember that there is no row; 0: not at all
	Stale    time.Duration // for how long after its TTL a value is still served while it is loaded anew; 0: not at all
	Wait     time.Duration // bounds a GET as a whole, at least Timeout; twice that where 0
	MaxValue int           // bytes; a larger value is answered and not cached; 8 MiB where 0
	Queue    int           // loads that run or wait at a time; 256 where 0
}

// DefinitionError is one mistake in a definition.
type DefinitionError struct {
	Index   int    // of the definition, from 0
	Map     string // its name, may be ""
	Field   string // in the configuration's spelling: name, key, query, …
	Problem string // what is wrong, and what to write instead
}

func (e *DefinitionError) Error() string {
	name := e.Map
	if name == "" {
		name = fmt.Sprintf("number %d", e.Index+1)
	}
	return fmt.Sprintf("map %s: %s: %s", name, e.Field, e.Problem)
}

// Map is a definition, compiled. It never changes, but for what is counted.
type Map struct {
	Definition
	breaker *breaker     // of loads that have no answer in time
	queued  atomic.Int64 // loads that run or wait
	line    line         // of loads that wait for a connection

	index   int // of the definition
	pattern *pattern
	query   string   // the definition's, with $n for @name
	load    string   // query, wrapped so that PostgreSQL makes the value
	names   []string // of the parameters, by their number
	args    []int    // which capture each parameter is
}

// SQL returns what the origin is sent: the query with $n for @name, wrapped so that PostgreSQL makes the value.
func (m *Map) SQL() string { return m.load }

// Captures returns the captures of the key, in their order.
func (m *Map) Captures() []Capture { return m.pattern.captures() }

// Unused returns the captures that the query does not use. Nothing is wrong with one (a tenant that the table does not have, a
// version of the format), but it may be a forgotten condition.
func (m *Map) Unused() []string {
	var unused []string
	for i, c := range m.pattern.captures() {
		if !slices.Contains(m.args, i) {
			unused = append(unused, c.Name)
		}
	}
	return unused
}

// expiry returns the TTL of one value: the map's, less a random part of its jitter.
func (m *Map) expiry() time.Duration {
	return max(time.Millisecond, m.TTL-time.Duration(rand.Float64()*m.Jitter*float64(m.TTL)))
}

// Params are the values of a key's captures in the order of the pattern. They are views of the key.
type Params [][]byte

// Maps are all maps of a configuration. They never change.
type Maps struct {
	maps  []*Map
	root  *node
	stale bool // one of them has values that are refreshed
}

// All returns the maps in the order of their definitions.
func (m *Maps) All() []*Map { return slices.Clone(m.maps) }

// Match returns the map that the key belongs to. It allocates nothing but params.
func (m *Maps) Match(key []byte) (found *Map, params Params, ok bool) {
	var spans [maxCaptures]span
	found = m.match(key, &spans)
	if found == nil {
		return nil, nil, false
	}
	params = make(Params, found.pattern.count)
	for i := range params {
		params[i] = key[spans[i].start:spans[i].end]
	}
	return found, params, true
}

func (m *Maps) match(key []byte, spans *[maxCaptures]span) *Map {
	return m.root.match(key, 0, spans[:])
}

// Compile reads the definitions. The error joins a *DefinitionError for every mistake found in them.
func Compile(defs []Definition) (*Maps, error) {
	c := compiler{byName: map[string]int{}, maps: &Maps{root: &node{}}}
	for i, d := range defs {
		c.add(i, d)
	}
	for _, o := range c.maps.root.overlaps("", nil) {
		first, second := o.a, o.b
		if first.index > second.index {
			first, second = second, first
		}
		c.problem(second.index, second.Definition, "key",
			"%q and %q of map %s both match the key %q: give their captures types, or literals, that tell them apart",
			second.Key, first.Key, first.Name, o.key)
	}
	if err := errors.Join(c.errs...); err != nil {
		return nil, err
	}
	return c.maps, nil
}

type compiler struct {
	maps   *Maps
	byName map[string]int
	errs   []error
}

func (c *compiler) problem(index int, d Definition, field, format string, args ...any) {
	c.errs = append(c.errs, &DefinitionError{Index: index, Map: d.Name, Field: field, Problem: fmt.Sprintf(format, args...)})
}

func (c *compiler) add(i int, d Definition) {
	problem := func(field, format string, args ...any) { c.problem(i, d, field, format, args...) }

	first, taken := c.byName[d.Name]
	switch {
	case d.Name == "":
		problem("name", "is missing: write one, it stands in errors and metrics")
	case strings.ContainsFunc(d.Name, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar }):
		problem("name", "has white space or control characters: write a name such as user-profile")
	case taken:
		problem("name", "map number %d has the same name: give each a name of its own", first+1)
	default:
		c.byName[d.Name] = i
	}
	if d.Value == "" {
		d.Value = Object
	}
	if d.Value != Object && d.Value != Array && d.Value != Column {
		problem("value", "is %q: write object, array or column", d.Value)
	}
	if d.OnError == "" {
		d.OnError = ErrorReply
	}
	if d.OnError != ErrorReply && d.OnError != ErrorNil {
		problem("onError", "is %q: write error or nil", d.OnError)
	}
	if d.TTL < time.Millisecond {
		problem("ttl", "is %s: write at least 1ms, such as 1h", d.TTL)
	}
	if !(d.Jitter >= 0 && d.Jitter <= 1) {
		problem("jitter", "is %g%%: write a part of the TTL from 0%% to 100%%", 100*d.Jitter)
	}
	if d.Timeout < time.Millisecond || d.Timeout > maxTimeout {
		problem("timeout", "is %s: write 1ms to %s, such as 250ms", d.Timeout, maxTimeout)
	}
	if d.Missing != 0 && d.Missing < time.Millisecond || d.Missing > maxMissing {
		problem("missing", "is %s: write at most %s, such as 5s, or 0s to remember nothing", d.Missing, maxMissing)
	}
	if d.Stale != 0 && d.Stale < time.Millisecond || d.Stale > maxStale {
		problem("stale", "is %s: write at most %s, such as 10m, or 0s to serve nothing past its ttl", d.Stale, maxStale)
	}
	if d.Wait == 0 {
		d.Wait = 2 * d.Timeout
	}
	if d.Wait < d.Timeout || d.Wait > 2*maxTimeout {
		problem("wait", "is %s: write the timeout, %s, or more, up to %s", d.Wait, d.Timeout, 2*maxTimeout)
	}
	if d.MaxValue == 0 {
		d.MaxValue = defaultMapValue
	}
	if d.MaxValue < 0 || d.MaxValue > defaultMaxValue {
		problem("maxValue", "is %d bytes: write 1 to %d, such as 8MiB", d.MaxValue, defaultMaxValue)
	}
	if d.Queue == 0 {
		d.Queue = defaultMapQueue
	}
	if d.Queue < 0 || d.Queue > maxQueue {
		problem("queue", "is %d: write 1 to %d", d.Queue, maxQueue)
	}

	pattern, err := parsePattern(d.Key)
	for _, err := range unjoin(err) {
		problem("key", "%v", err)
	}
	query, queryErr := parseStatement(d.Query)
	if queryErr != nil {
		problem("query", "%v", queryErr)
	}
	if err != nil || queryErr != nil {
		return
	}
	m := &Map{Definition: d, breaker: newBreaker(mapFailures, time.Second, nil), index: i, pattern: pattern, query: query.sql, load: wrap(d.Value, query.sql), names: query.params}
	captures := pattern.captures()
	for _, name := range query.params {
		arg := slices.IndexFunc(captures, func(c Capture) bool { return c.Name == name })
		if arg < 0 {
			problem("query", "@%s is not captured by the key %q: write <%s> there, or one of %s here (for the operator @, write a space after it)",
				name, d.Key, name, atNames(captures))
		}
		m.args = append(m.args, arg)
	}
	c.maps.maps = append(c.maps.maps, m)
	c.maps.stale = c.maps.stale || m.Stale > 0
	c.maps.root.insert(pattern, m)
}

const (
	// maxTimeout keeps a timeout within PostgreSQL's statement_timeout, and within reason.
	maxTimeout = time.Hour
	// maxMissing: a row that is inserted past the sidecars shows after it.
	maxMissing = time.Hour
	maxStale   = 365 * 24 * time.Hour

	defaultMapValue = 8 << 20
	defaultMapQueue = 256
	maxQueue        = 100_000
)

// wrap lets PostgreSQL make the value of a query. The newline ends a comment at the query's end; the limit bounds what more than
// one row, an error, can cost.
func wrap(form ValueForm, query string) string {
	switch form {
	case Array:
		return "select json_agg(r)::text from (" + query + "\n) as r"
	case Column:
		return "select * from (" + query + "\n) as r limit 2"
	default:
		return "select row_to_json(r)::text from (" + query + "\n) as r limit 2"
	}
}

func atNames(captures []Capture) string {
	if len(captures) == 0 {
		return "its captures, of which there are none"
	}
	names := make([]string, len(captures))
	for i, c := range captures {
		names[i] = "@" + c.Name
	}
	return strings.Join(names, ", ")
}

// unjoin returns the errors of an errors.Join.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}

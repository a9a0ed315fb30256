package origin

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestOverlap(t *testing.T) {
	for _, test := range []struct {
		patterns []string
		want     []string // example keys
	}{
		{[]string{"a", "b"}, nil},
		{[]string{"a", "a"}, []string{"a"}},
		{[]string{"usr:<id>", "usr:<name>"}, []string{"usr:x"}},
		{[]string{"usr:<id:int>", "usr:<name>"}, []string{"usr:0"}},
		{[]string{"usr:<id:int>", "usr:<id:uuid>", "usr:<day:date>"}, nil},
		{[]string{"usr:<id:int>", "usr:<id:hex>"}, []string{"usr:0"}},
		{[]string{"usr:<id:int>", "usr:7"}, []string{"usr:7"}},
		{[]string{"usr:<id:int>", "usr:07"}, nil},
		{[]string{"usr:<id:int>", "usr:99999999999999999999"}, nil},
		{[]string{"usr:<day:date>", "usr:2023-02-29"}, nil},
		{[]string{"usr:<day:date>", "usr:2024-02-29"}, []string{"usr:2024-02-29"}},
		{[]string{"usr:<id>", "usr:<id>:settings"}, nil},
		{[]string{"usr:<id:path>", "usr:<id>:settings"}, []string{"usr:x:settings"}},
		{[]string{"<t>:user:<id>", "<t>:order:<id>"}, nil},
		{[]string{"<t>:user:<id>", "acme:user:<id:int>"}, []string{"acme:user:0"}},
		{[]string{"<t>:user:<id>", "acme:users:<id:int>"}, nil},
		{[]string{"<a>/x", "<a>:x"}, nil},
		{[]string{"<a>/x", "<a>:x/x"}, []string{"x:x/x"}},
		{[]string{"<a:hex>-<b:hex>", "<c:date>"}, nil}, // three runs of digits against two
		{[]string{"<a:hex>-<b:hex>-<d:hex>", "<c:date>"}, []string{"0001-01-01"}},
		{[]string{"k:<a:int>:p", "k:<a:int>:q", "k:<a>:r"}, nil},
		{[]string{"k:<a:path>", "k:1", "k:2"}, []string{"k:1", "k:2"}},
		{[]string{"<a>→x", "<a>“<b>"}, []string{"x“→x"}},
	} {
		_, err := Compile(definitions(test.patterns...))
		var got []string
		for _, err := range unjoin(err) {
			var problem *DefinitionError
			if !errors.As(err, &problem) || problem.Field != "key" {
				t.Fatalf("%q: %v", test.patterns, err)
			}
			_, example, _ := strings.Cut(problem.Problem, "both match the key ")
			example, _, _ = strings.Cut(example, ": give")
			var key string
			if _, err := fmt.Sscanf(example, "%q", &key); err != nil {
				t.Fatal(err)
			}
			got = append(got, key)
		}
		if strings.Join(got, " ") != strings.Join(test.want, " ") {
			t.Errorf("%q: got %q, want %q", test.patterns, got, test.want)
		}
	}
}

func TestCompileFindsEveryMistake(t *testing.T) {
	good := Definition{Name: "good", Key: "g:<id:int>", Query: "select 1 where 1 = @id", TTL: time.Hour, Timeout: time.Second}
	with := func(change func(*Definition)) Definition {
		d := good
		d.Name, d.Key = "bad", "b:<id:int>"
		change(&d)
		return d
	}
	for _, test := range []struct {
		def  Definition
		want string
	}{
		{with(func(d *Definition) { d.Name = "" }), "map number 2: name: is missing"},
		{with(func(d *Definition) { d.Name = "a\nb" }), "name: has white space or control characters"},
		{with(func(d *Definition) { d.Name = "good" }), "map good: name: map number 1 has the same name"},
		{with(func(d *Definition) { d.Value = "json" }), `map bad: value: is "json": write object, array or column`},
		{with(func(d *Definition) { d.OnError = "null" }), `map bad: onError: is "null": write error or nil`},
		{with(func(d *Definition) { d.TTL = 5 }), "map bad: ttl: is 5ns: write at least 1ms, such as 1h"},
		{with(func(d *Definition) { d.Jitter = 1.5 }), "map bad: jitter: is 150%: write a part of the TTL from 0% to 100%"},
		{with(func(d *Definition) { d.Jitter = math.NaN() }), "map bad: jitter"},
		{with(func(d *Definition) { d.Timeout = 0 }), "map bad: timeout: is 0s: write 1ms to 1h0m0s, such as 250ms"},
		{with(func(d *Definition) { d.Timeout = 2 * time.Hour }), "map bad: timeout: is 2h0m0s"},
		{with(func(d *Definition) { d.Key = "b:<id:integer>" }), `map bad: key: <id:integer> has the unknown type "integer"`},
		{with(func(d *Definition) { d.Query = " -- nothing" }), "map bad: query: is empty"},
		{with(func(d *Definition) { d.Query = "select @user" }), `map bad: query: @user is not captured by the key "b:<id:int>": write <user> there, or one of @id here`},
		{with(func(d *Definition) { d.Key = "b"; d.Query = "select @user" }), "one of its captures, of which there are none here"},
		{with(func(d *Definition) { d.Query = "select $1" }), "map bad: query: line 1, column 8: $1 is a positional parameter: write @name"},
		{with(func(d *Definition) { d.Key = "<x:path>" }), `map bad: key: "<x:path>" and "g:<id:int>" of map good both match the key "g:0"`},
	} {
		_, err := Compile([]Definition{good, test.def})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
	_, err := Compile([]Definition{{}, {Name: "x", Key: "<<", Value: "y"}})
	if got := len(unjoin(err)); got != 9 {
		t.Errorf("got %d errors, want 9:\n%v", got, err)
	}
}

func TestMapExpiryStaysWithinItsJitter(t *testing.T) {
	m := &Map{Definition: Definition{TTL: time.Hour, Jitter: 0.1}}
	seen := map[time.Duration]bool{}
	for range 1000 {
		ttl := m.expiry()
		if ttl > time.Hour || ttl < 54*time.Minute {
			t.Fatalf("%s is not within 10%% below an hour", ttl)
		}
		seen[ttl] = true
	}
	if len(seen) < 900 {
		t.Errorf("only %d different TTLs of 1000", len(seen))
	}
	m.Jitter, m.TTL = 1, time.Millisecond
	if ttl := m.expiry(); ttl != time.Millisecond {
		t.Errorf("got %s: a value must not expire at once", ttl)
	}
}

func TestUnusedCaptures(t *testing.T) {
	maps, err := Compile([]Definition{{Name: "m", Key: "<tenant>:<id:int>", Query: "select 1 where 1 = @id", TTL: 1e9, Timeout: 1e9}})
	if err != nil {
		t.Fatal(err)
	}
	if got := maps.All()[0].Unused(); len(got) != 1 || got[0] != "tenant" {
		t.Errorf("got %q", got)
	}
}

func TestMatchAllocations(t *testing.T) {
	maps := compile(t, "usr:{<id:int>}:profile", "page:<slug>→<lang>", "u/<t>/<a:uuid>/<d:date>")
	for _, key := range []string{"usr:{42}:profil", "nothing", "usr:{x}:profile", "page:some→", "u/x/y/z"} {
		key := []byte(key)
		if n := testing.AllocsPerRun(100, func() { maps.Match(key) }); n != 0 {
			t.Errorf("no match for %q costs %v allocations", key, n)
		}
	}
	key := []byte("usr:{42}:profile")
	if n := testing.AllocsPerRun(100, func() { maps.Match(key) }); n > 1 {
		t.Errorf("a match costs %v allocations, at most one is allowed", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		patterns := make([]string, n)
		for i := range patterns {
			switch i % 3 {
			case 0:
				patterns[i] = fmt.Sprintf("app:kind%d:{<id:int>}:profile", i)
			case 1:
				patterns[i] = fmt.Sprintf("app:<tenant>:kind%d:<id:uuid>", i)
			default:
				patterns[i] = fmt.Sprintf("kind%d:<slug>", i)
			}
		}
		maps := compile(b, patterns...)
		last := (n - 1) / 3 * 3
		hit, miss := fmt.Appendf(nil, "app:kind%d:{123456}:profile", last), fmt.Appendf(nil, "app:kind%d:{123456}:profil", last)
		if _, _, ok := maps.Match(hit); !ok {
			b.Fatal("no match")
		}
		b.Run(fmt.Sprintf("maps=%d/match", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				maps.Match(hit)
			}
		})
		b.Run(fmt.Sprintf("maps=%d/none", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				maps.Match(miss)
			}
		})
	}
}

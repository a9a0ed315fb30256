package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"readthrough/origin"
	"readthrough/upstream"
)

// fakeInspector answers what it is told to.
type fakeInspector struct {
	rights    upstream.Rights
	rightsErr error
	needs     []upstream.Need // that it was asked for
	key       upstream.KeyReport
	keyErr    error
	origins   origin.Report
	originErr error
}

func (f *fakeInspector) Rights(_ context.Context, needs []upstream.Need) (upstream.Rights, error) {
	f.needs = needs
	return f.rights, f.rightsErr
}

func (f *fakeInspector) Key(context.Context, []byte) (upstream.KeyReport, error) {
	return f.key, f.keyErr
}

func (f *fakeInspector) Origins(context.Context) (origin.Report, error) {
	return f.origins, f.originErr
}

const checked = minimal + `
origins: [{name: main}]
maps:
  - name: user
    key: "usr:{<user_id:int>}:profile"
    query: SELECT status FROM users WHERE user_id = @user_id
    ttl: 1h
  - name: page
    key: "page:<tenant>:<id:uuid>"
    query: SELECT body FROM pages WHERE id = @id
    value: column
    ttl: 10m
    onError: nil
`

func loaded(t *testing.T, content string) *Config {
	t.Helper()
	c, err := ParseConfig("c.yaml", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func goodInspector() *fakeInspector {
	return &fakeInspector{
		rights: upstream.Rights{User: "app", Rule: "ACL SETUSER app on ><password> -@all +get"},
		origins: origin.Report{
			Origins: []origin.OriginReport{{Origin: "main", Role: "reader", ConnectionLimit: 100}},
			Maps: []origin.MapReport{
				{Map: "user", Params: []origin.TypedName{{Name: "user_id", Type: "bigint"}}, Columns: []origin.TypedName{{Name: "status", Type: "text"}}},
				{Map: "page", Params: []origin.TypedName{{Name: "id", Type: "uuid"}}, Columns: []origin.TypedName{{Name: "body", Type: "bytea"}}},
			},
		},
	}
}

func TestCheckReports(t *testing.T) {
	var out, warnings bytes.Buffer
	ask := goodInspector()
	if err := (reporter{&out, &warnings}).check(t.Context(), loaded(t, checked), ask); err != nil {
		t.Fatal(err)
	}
	want := `c.yaml: 2 maps, 1 origin, no mistakes found in the file

MAP   KEY                          PARAMETERS       COLUMNS
user  usr:{<user_id:int>}:profile  @user_id bigint  status text
page  page:<tenant>:<id:uuid>      @id uuid         body bytea

redis: connected as app. The least rule for what the sidecar does by itself, on every node; add the password,
and the commands and keys that the application uses, which run as the same user:

  ACL SETUSER app on ><password> -@all +get
`
	if out.String() != want {
		t.Errorf("report:\n%s\nwant:\n%s", out.String(), want)
	}
	if got := warnings.String(); got != "warning: map page: the query does not use the captured tenant: is a condition missing?\n" {
		t.Errorf("warnings: %s", got)
	}
}

func TestCheckWarnsOfUnknownDenials(t *testing.T) {
	var out, warnings bytes.Buffer
	config := loaded(t, minimal+"deny: [flushall, CONFIG|SET, FLUSHAL, config|sett, json.del]\n")
	if err := (reporter{&out, &warnings}).check(t.Context(), config, goodInspector()); err != nil {
		t.Fatal(err)
	}
	want := `warning: deny: FLUSHAL is no command of Redis itself: did you mean flushall? A module's is denied all the same
warning: deny: config|sett is no command of Redis itself: did you mean config|set? A module's is denied all the same
warning: deny: json.del is no command of Redis itself. A module's is denied all the same
`
	if got := warnings.String(); got != want {
		t.Errorf("warnings:\n%s\nwant:\n%s", got, want)
	}
}

func TestCheckTellsEveryError(t *testing.T) {
	var out, warnings bytes.Buffer
	ask := goodInspector()
	ask.rights.User, ask.rights.Rule = "default", "ACL SETUSER default on"
	ask.rights.Missing = []upstream.MissingRight{{Node: "redis:6379", Command: "set", Map: "user", Reason: "NOPERM", Grant: "+set"}}
	ask.origins.Maps = ask.origins.Maps[:1]
	ask.origins.Origins[0] = origin.OriginReport{Origin: "main", Role: "app", MayWrite: []string{"may write to the table users"}, ConnectionLimit: -1}
	ask.originErr = errors.Join(
		errors.Join(&origin.DefinitionError{Index: 1, Map: "page", Field: "query", Problem: `42P01 relation "pages" does not exist`}),
		errors.New("origin second: cannot connect"))
	err := reporter{&out, &warnings}.check(t.Context(), loaded(t, checked), ask)
	want := `c.yaml:12: maps[1].query: 42P01 relation "pages" does not exist
origin second: cannot connect
redis redis:6379: user default may not set for map user (NOPERM): grant +set`
	if err == nil || err.Error() != want {
		t.Errorf("error:\n%v\nwant:\n%s", err, want)
	}
	for _, line := range []string{
		"origin main: the role app may write to the table users: give it SELECT",
		"origin main: the role app has no connection limit",
	} {
		if !strings.Contains(warnings.String(), line) {
			t.Errorf("warnings lack %q: %s", line, warnings.String())
		}
	}
	if !strings.Contains(out.String(), "page  page:<tenant>:<id:uuid>      -                -\n") {
		t.Errorf("report: %s", out.String())
	}
	// The least rule would take everything else from the default user.
	if !strings.Contains(out.String(), "ACL SETUSER readthrough on") {
		t.Errorf("report: %s", out.String())
	}
}

func TestCheckWithoutRedis(t *testing.T) {
	var out, warnings bytes.Buffer
	ask := goodInspector()
	ask.rights, ask.rightsErr = upstream.Rights{}, errors.New("connection refused")
	err := reporter{&out, &warnings}.check(t.Context(), loaded(t, checked), ask)
	if err == nil || err.Error() != "redis: connection refused" || !strings.Contains(out.String(), "@user_id bigint") {
		t.Errorf("%v; report: %s", err, out.String())
	}
}

// TestNeeds makes, for every kind of pattern, a prefix and a key that the map really has.
func TestNeeds(t *testing.T) {
	c := loaded(t, minimal+`
origins: [{name: main}]
maps:
  - {name: a, key: "usr:{<id:int>}:profile", query: SELECT 1, ttl: 1m}
  - {name: b, key: "<tenant:int>/x/<day:date>:<h:hex>:<u:uuid>", query: SELECT 1, ttl: 1m}
  - {name: c, key: "less<<than:<rest:path>", query: SELECT 1, ttl: 1m}
  - {name: d, key: "fixed", query: SELECT 1, ttl: 1m}
`)
	prefixes := map[string]string{"a": "usr:{", "b": "", "c": "less<than:", "d": "fixed"}
	all := needs(c.compiled)
	if len(all) != len(prefixes) {
		t.Fatalf("%d needs", len(all))
	}
	for _, n := range all {
		m, _, ok := c.compiled.Match(n.Example)
		if !ok || m.Name != n.Map {
			t.Errorf("map %s does not have the key %q", n.Map, n.Example)
		}
		if string(n.Prefix) != prefixes[n.Map] || !bytes.HasPrefix(n.Example, n.Prefix) {
			t.Errorf("map %s: prefix %q of %q", n.Map, n.Prefix, n.Example)
		}
	}
}

func TestExplain(t *testing.T) {
	c := loaded(t, checked)
	for name, test := range map[string]struct {
		key    string
		report upstream.KeyReport
		want   string
	}{
		"mapped": {
			"usr:{7}:profile",
			upstream.KeyReport{Node: "10.0.0.1:6379", Exists: true, Type: "string", TTL: time.Minute},
			`key        "usr:{7}:profile"
map        user
pattern    usr:{<user_id:int>}:profile
origin     main
parameter  @user_id = "7" (int)
sql        select row_to_json(r)::text from (SELECT status FROM users WHERE user_id = $1
           ) as r limit 2
value      object, for 1h0m0s less up to 10%
missing    remembered for 5s
stale      not served
timeout    250ms of a load and 500ms of a GET, then an error
slot       1716
node       10.0.0.1:6379
in redis   yes, a string that expires in 1m0s
lease      none
`,
		},
		"near": {
			"usr:{seven}:profile",
			upstream.KeyReport{Node: "10.0.0.1:6379"},
			`key       "usr:{seven}:profile"
map       none: a GET of this key is relayed and nothing more
near      map user, usr:{<user_id:int>}:profile: fits up to byte 5, "usr:{", then: user_id is a 64-bit integer without plus sign or leading zero
slot      1500
node      10.0.0.1:6379
in redis  no
lease     none
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := explainLive(t.Context(), &out, c, []byte(test.key), &fakeInspector{key: test.report}); err != nil {
				t.Fatal(err)
			}
			if out.String() != test.want {
				t.Errorf("explanation:\n%s\nwant:\n%s", out.String(), test.want)
			}
		})
	}
}

func TestExplainDetails(t *testing.T) {
	c := loaded(t, checked)
	var out bytes.Buffer
	ask := &fakeInspector{key: upstream.KeyReport{
		Exists: true, Type: "hash", TTL: upstream.NoExpiry, Lease: upstream.LeaseReport{What: upstream.LeaseMissing, Left: 4 * time.Second},
	}}
	if err := explainLive(t.Context(), &out, c, []byte("page:a:00000000-0000-0000-0000-000000000001"), ask); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`@tenant = "a" (text, not used by the query)`, "then a null", "yes, a hash that does not expire", "it is known for another 4s that there is no row"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}

// TestExplainWithoutRedis tells what the file says all the same.
func TestExplainWithoutRedis(t *testing.T) {
	var out bytes.Buffer
	err := explainLive(t.Context(), &out, loaded(t, checked), []byte("usr:{7}:profile"), &fakeInspector{keyErr: errors.New("connection refused")})
	if err == nil || err.Error() != "redis: connection refused" || !strings.Contains(out.String(), "map        user\n") {
		t.Errorf("%v:\n%s", err, out.String())
	}
}

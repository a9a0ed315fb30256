package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"readthrough/origin"
)

// TestBadConfigurations walks testdata/bad. Each file says in its first lines which errors it must give, all of them and
// in order (`# want: line: field: message`), and what its environment is (`# env: NAME=value`).
func TestBadConfigurations(t *testing.T) {
	entries, err := os.ReadDir("testdata/bad")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 {
		t.Fatal("testdata/bad is empty")
	}
	for _, entry := range entries {
		t.Run(entry.Name(), func(t *testing.T) {
			path := filepath.Join("testdata/bad", entry.Name())
			if filepath.Ext(path) != ".yaml" {
				t.Fatalf("%s is not a .yaml file", path)
			}
			content := readFile(t, path)
			var want []string
			for line := range strings.Lines(content) {
				if expected, ok := strings.CutPrefix(line, "# want: "); ok {
					want = append(want, strings.TrimSpace(expected))
				}
				if setting, ok := strings.CutPrefix(line, "# env: "); ok {
					name, value, _ := strings.Cut(strings.TrimSpace(setting), "=")
					t.Setenv(name, value)
				}
			}
			if len(want) == 0 {
				t.Fatal("the file expects no error: write `# want: line: field: message` lines at its top")
			}
			_, err := LoadConfig(path)
			if err == nil {
				t.Fatalf("loaded without an error, want:\n%s", strings.Join(want, "\n"))
			}
			var got []string
			for line := range strings.SplitSeq(err.Error(), "\n") {
				got = append(got, strings.TrimPrefix(strings.TrimPrefix(line, path+":"), " "))
			}
			if !slices.Equal(got, want) {
				t.Errorf("errors:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	_, err := LoadConfig("testdata/absent.yaml")
	if err == nil || err.Error() != "testdata/absent.yaml: cannot be read: no such file or directory" {
		t.Errorf("error: %v", err)
	}
}

// TestSampleLoads loads the sample configuration wherever it is shown.
func TestSampleLoads(t *testing.T) {
	sample := readFile(t, "testdata/sample.yaml")
	for name, content := range map[string]string{
		"testdata/sample.yaml":             sample,
		"manifests/example/configmap.yaml": configMapData(t, "../../manifests/example/configmap.yaml"),
		"README.md":                        readmeSample(t, "../../README.md"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ORIGIN_URL", "postgres://app@db/shop")
			c, err := ParseConfig(name, []byte(content))
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Maps) == 0 || len(c.Origins) == 0 {
				t.Errorf("%d maps and %d origins: the sample shows both", len(c.Maps), len(c.Origins))
			}
		})
	}
}

// TestValues reads every kind of field.
func TestValues(t *testing.T) {
	t.Setenv("ORIGIN_URL", "postgres://app@db/shop")
	c, err := LoadConfig("testdata/sample.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "localhost:6380" || c.Admin != ":6381" || c.Loops != 1 || c.ShutdownGrace != 30*time.Second || c.ShutdownDelay != 0 {
		t.Errorf("listen %q, admin %q, loops %d, shutdownGrace %s, shutdownDelay %s", c.Listen, c.Admin, c.Loops, c.ShutdownGrace, c.ShutdownDelay)
	}
	if c.CrossSlot != "split" {
		t.Errorf("crossSlot %q", c.CrossSlot)
	}
	if c.Cluster.Advertise != "sidecar" || len(c.Deny) != 0 {
		t.Errorf("cluster %+v, deny %v", c.Cluster, c.Deny)
	}
	if c.Log != (LogConfig{Level: "info", Format: "auto"}) || !slices.Equal(c.Intercept, []string{"GET"}) {
		t.Errorf("log %+v, intercept %v", c.Log, c.Intercept)
	}
	if url, err := c.Origins[0].URL.Read(t.Context()); err != nil || url != "postgres://app@db/shop" {
		t.Errorf("url %q, %v", url, err)
	}
	if c.Origins[0].Pool != (PoolConfig{Max: 2, Idle: 30 * time.Second}) || c.Origins[0].QueryMode != "auto" {
		t.Errorf("origin %+v", c.Origins[0])
	}
	if o := c.Origins[0]; o.Queue != 1024 || o.Breaker != (BreakerConfig{Failures: 5, Pause: time.Second}) || o.FailOpen.Max != 1 {
		t.Errorf("origin %+v", o)
	}
	want := MapConfig{
		Name: "user-profile", Key: "usr:profile:<user_id:int>", Origin: "main", Value: "object", OnError: "error",
		Query: "SELECT user_id, status, tier FROM users WHERE user_id = @user_id",
		TTL:   time.Hour, Jitter: 10, Timeout: 250 * time.Millisecond,
		Missing: 30 * time.Second, Stale: 10 * time.Minute, MaxValue: 8 << 20, Queue: 256,
	}
	if m := c.compiled.All()[0]; m.Wait != 500*time.Millisecond || m.MaxValue != 8<<20 || m.Missing != 30*time.Second {
		t.Errorf("compiled %+v", m.Definition)
	}
	if c.Maps[0] != want {
		t.Errorf("map %+v, want %+v", c.Maps[0], want)
	}
}

const minimal = `apiVersion: readthrough/v1
upstream: {addresses: ["redis:6379"]}
`

// TestDefaults loads the shortest configuration: a relay without maps.
func TestDefaults(t *testing.T) {
	c, err := ParseConfig("c.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "localhost:6380" || c.Debug != "localhost:6382" || c.Upstream.Database != 0 || !c.Upstream.Password.IsZero() {
		t.Errorf("config: %+v", c)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"1": 1, "4096": 4096, "10B": 10, "512KiB": 512 << 10, "8MiB": 8 << 20, "1.5 MiB": 3 << 19, "1GiB": 1 << 30,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5", "8MB", "8 mib", "1e3", "0x10", "99999999GiB", "1_000"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d", text, got)
		}
	}
}

// TestMapFields reads what a map does not need to say.
func TestMapFields(t *testing.T) {
	c, err := ParseConfig("c.yaml", []byte(minimal+`
origins: [{name: main, queue: 10, breaker: {failures: 0, pause: 2s}, failOpen: {max: 0}}]
intercept: [GET, MGET, GETEX]
maps:
  - {name: a, key: "a:<id>", query: SELECT 1, ttl: 5m}
  - {name: b, key: "b:<id>", query: SELECT 1, ttl: 5m, missing: 0s, stale: 1h, wait: 250ms, maxValue: 4096, queue: 7}
`))
	if err != nil {
		t.Fatal(err)
	}
	if o := c.databases("x")[0]; o.Queue != 10 || o.Breaker != (origin.Breaker{Pause: 2 * time.Second}) || o.FailOpen != 0 {
		t.Errorf("origin %+v", o)
	}
	a, b := c.compiled.All()[0], c.compiled.All()[1]
	if a.Missing != 5*time.Second || a.Stale != 0 || a.Wait != 500*time.Millisecond || a.MaxValue != 8<<20 || a.Queue != 256 {
		t.Errorf("defaults: %+v", a.Definition)
	}
	if b.Missing != 0 || b.Stale != time.Hour || b.Wait != 250*time.Millisecond || b.MaxValue != 4096 || b.Queue != 7 {
		t.Errorf("given: %+v", b.Definition)
	}
}

func TestMapTakesFirstOrigin(t *testing.T) {
	c, err := ParseConfig("c.yaml", []byte(minimal+`
origins: [{name: first}, {name: second}]
maps: [{name: m, key: "k:<id:int>", query: SELECT 1, ttl: 1m}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Maps[0].Origin != "first" {
		t.Errorf("origin %q, want first", c.Maps[0].Origin)
	}
}

// TestEnvironmentWins sets a variable for each kind of field; each takes the place of what the file says.
func TestEnvironmentWins(t *testing.T) {
	file := writeFile(t, t.TempDir(), "password", "from a file\n")
	t.Setenv("READTHROUGH_LISTEN", "127.0.0.1:7000")
	t.Setenv("READTHROUGH_LOOPS", "2")
	t.Setenv("READTHROUGH_SHUTDOWN_GRACE", "5s")
	t.Setenv("READTHROUGH_SHUTDOWN_DELAY", "4s")
	t.Setenv("READTHROUGH_LOG_LEVEL", "debug")
	t.Setenv("READTHROUGH_UPSTREAM_ADDRESSES", "a:1, b:2")
	t.Setenv("READTHROUGH_UPSTREAM_PASSWORD_FILE", file)
	t.Setenv("READTHROUGH_ALLOW_UNAUTHENTICATED", "true")
	t.Setenv("READTHROUGH_INTERCEPT", "") // set but empty counts as unset
	t.Setenv("REDIS_PASSWORD", "from a variable")
	c, err := ParseConfig("c.yaml", []byte(`apiVersion: readthrough/v1
listen: localhost:1
log: {level: warn}
upstream: {addresses: ["redis:6379"], password: "${REDIS_PASSWORD}"}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:7000" || c.Loops != 2 || c.ShutdownGrace != 5*time.Second || c.ShutdownDelay != 4*time.Second || c.Log.Level != "debug" || !c.AllowUnauthenticated {
		t.Errorf("config: %+v", c)
	}
	if !slices.Equal(c.Upstream.Addresses, []string{"a:1", "b:2"}) {
		t.Errorf("addresses: %q", c.Upstream.Addresses)
	}
	if password, err := c.Upstream.Password.Read(t.Context()); err != nil || password != "from a file" {
		t.Errorf("password %q, %v", password, err)
	}
}

// TestRequireAuthMayListenAnywhere holds that clients who authenticate may come from elsewhere, also where a variable says so, as a Deployment
// does that shares the file with sidecars.
func TestRequireAuthMayListenAnywhere(t *testing.T) {
	const file = "apiVersion: readthrough/v1\nupstream: {addresses: [\"redis:6379\"]}\n"
	for _, more := range []string{"requireAuth: true", "allowUnauthenticated: true", "requireAuth: true\nallowUnauthenticated: true"} {
		if _, err := ParseConfig("c.yaml", []byte(file+"listen: \":6380\"\n"+more)); err != nil {
			t.Errorf("%s: %v", more, err)
		}
	}
	t.Setenv("READTHROUGH_LISTEN", ":6380")
	if _, err := ParseConfig("c.yaml", []byte(file)); err == nil || !strings.Contains(err.Error(), "READTHROUGH_LISTEN: listen: :6380 is reachable from outside the pod") {
		t.Errorf("without authentication: %v", err)
	}
	t.Setenv("READTHROUGH_REQUIRE_AUTH", "true")
	c, err := ParseConfig("c.yaml", []byte(file))
	if err != nil || !c.RequireAuth {
		t.Errorf("%+v, %v", c.RequireAuth, err)
	}
}

// TestEnvironmentAlone gives a required field by its variable only.
func TestEnvironmentAlone(t *testing.T) {
	t.Setenv("READTHROUGH_UPSTREAM_ADDRESSES", "redis:6379")
	t.Setenv("READTHROUGH_UPSTREAM_PASSWORD", "${not} expanded")
	c, err := ParseConfig("c.yaml", []byte("apiVersion: readthrough/v1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if password, err := c.Upstream.Password.Read(t.Context()); err != nil || password != "${not} expanded" {
		t.Errorf("password %q, %v", password, err)
	}
}

// TestVariablesExpand puts references under each of the fields that take them.
func TestVariablesExpand(t *testing.T) {
	for name, value := range map[string]string{"PORT": "7000", "HOST": "redis", "DB": "3", "TLS": "false", "MAX": "4"} {
		t.Setenv(name, value)
	}
	c, err := ParseConfig("c.yaml", []byte(`apiVersion: readthrough/v1
listen: localhost:${PORT}
upstream: {addresses: ["${HOST}:6379"], database: "${DB}", tls: {enabled: "${TLS}"}}
origins:
  - name: main
    pool:
      max: ${MAX}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Upstream.Database != 3 || c.Upstream.TLS.Enabled || c.Listen != "localhost:7000" || c.Upstream.Addresses[0] != "redis:6379" || c.Origins[0].Pool.Max != 4 {
		t.Errorf("config: %+v", c)
	}
}

// TestAliases reads a value that stands in the file once and is used twice.
func TestAliases(t *testing.T) {
	c, err := ParseConfig("c.yaml", []byte(minimal+`
origins: [{name: main}]
maps:
  - {name: a, key: "a:<id>", query: SELECT 1, ttl: &ttl 5m}
  - {name: b, key: "b:<id>", query: SELECT 1, ttl: *ttl}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Maps[1].TTL != 5*time.Minute {
		t.Errorf("ttl %s", c.Maps[1].TTL)
	}
}

func TestEnvName(t *testing.T) {
	for path, want := range map[string]string{
		"listen":              "READTHROUGH_LISTEN",
		"upstream.tls.caFile": "READTHROUGH_UPSTREAM_TLS_CA_FILE",
		"shutdownGrace":       "READTHROUGH_SHUTDOWN_GRACE",
	} {
		if got := envName(path); got != want {
			t.Errorf("envName(%q) = %q, want %q", path, got, want)
		}
	}
}

// FuzzParseConfig feeds arbitrary files: whatever they hold, the answer is a configuration or an error with problems.
func FuzzParseConfig(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/sample.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(content)
		}
	}
	f.Add([]byte("maps: &a [*a]\n"))
	f.Add([]byte("upstream: &u {tls: *u}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig("fuzz.yaml", raw)
		if err == nil {
			if c.APIVersion != "readthrough/v1" || len(c.Upstream.Addresses) == 0 {
				t.Errorf("accepted: %+v", c)
			}
			return
		}
		bad, ok := err.(*ConfigError)
		if !ok || len(bad.Problems) == 0 {
			t.Errorf("error without problems: %v", err)
		}
	})
}

func configMapData(t *testing.T, path string) string {
	t.Helper()
	var manifest struct {
		Kind string            `yaml:"kind"`
		Data map[string]string `yaml:"data"`
	}
	if err := yaml.Unmarshal([]byte(readFile(t, path)), &manifest); err != nil {
		t.Fatal(err)
	}
	content, ok := manifest.Data["readthrough.yaml"]
	if manifest.Kind != "ConfigMap" || !ok {
		t.Fatalf("%s: kind %q, want a ConfigMap with the key readthrough.yaml", path, manifest.Kind)
	}
	return content
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// readmeSample is the configuration in a README's yaml blocks, alone or within a ConfigMap.
func readmeSample(t *testing.T, path string) string {
	t.Helper()
	for _, block := range yamlBlock.FindAllStringSubmatch(readFile(t, path), -1) {
		if strings.HasPrefix(block[1], "apiVersion: readthrough/") {
			return block[1]
		}
		var manifest struct {
			Data map[string]string `yaml:"data"`
		}
		if err := yaml.Unmarshal([]byte(block[1]), &manifest); err == nil && manifest.Data["readthrough.yaml"] != "" {
			return manifest.Data["readthrough.yaml"]
		}
	}
	t.Fatalf("%s shows no configuration in a yaml block", path)
	return ""
}

package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/spf13/viper"

	"readthrough/origin"
)

// Config is the configuration file with the environment applied and every default filled in.
//
// The struct is the one place where an option is declared. Its tags say the rest: `default` is the text that an absent
// field stands for, `required` demands a field, `oneof` lists the words it takes.
type Config struct {
	APIVersion string `mapstructure:"apiVersion" required:"true" oneof:"readthrough/v1"`

	// Listen, Admin and Debug are host:port; localhost means 127.0.0.1 and, where IPv6 exists, ::1. Debug may be empty: off.
	Listen string `mapstructure:"listen" default:"localhost:6380"`
	Admin  string `mapstructure:"admin" default:":6381"`
	Debug  string `mapstructure:"debug" default:"localhost:6382"`

	Loops int `mapstructure:"loops" default:"1"`
	// ShutdownDelay is within the grace: for so long clients are accepted after SIGTERM even if there is none. Behind a Service they are
	// still sent here until every node knows that this pod is no longer ready.
	ShutdownDelay time.Duration `mapstructure:"shutdownDelay" default:"0s"`
	ShutdownGrace time.Duration `mapstructure:"shutdownGrace" default:"30s"`
	Log           LogConfig     `mapstructure:"log"`

	Upstream             UpstreamConfig `mapstructure:"upstream"`
	AllowUnauthenticated bool           `mapstructure:"allowUnauthenticated" default:"false"`
	// RequireAuth has clients authenticate as users of Redis before anything else.
	RequireAuth bool `mapstructure:"requireAuth" default:"false"`

	// CrossSlot is what becomes of MGET, DEL and the like over keys of several slots: they are split, or an error as in Redis.
	CrossSlot string `mapstructure:"crossSlot" default:"split" oneof:"split|error"`
	// Deny names commands, or subcommands such as config|set, that clients may not use.
	Deny    []string      `mapstructure:"deny"`
	Cluster ClusterConfig `mapstructure:"cluster"`

	Origins   []OriginConfig `mapstructure:"origins"`
	Intercept []string       `mapstructure:"intercept" default:"GET" oneof:"GET|MGET|GETEX"`
	Maps      []MapConfig    `mapstructure:"maps"`

	// compiled is what Maps became; nil while something is wrong with them.
	compiled *origin.Maps
	// doc knows the line of every field, for errors that are found after reading.
	doc *document
	// raw is the file's content, without secrets by construction, as the state directory keeps it.
	raw []byte
}

// LogConfig says what is logged and how it looks.
type LogConfig struct {
	Level  string `mapstructure:"level" default:"info" oneof:"debug|info|warn|error"`
	Format string `mapstructure:"format" default:"auto" oneof:"auto|json|console"`
}

// UpstreamConfig is the Redis that commands are relayed to.
type UpstreamConfig struct {
	Addresses []string `mapstructure:"addresses" required:"true"`

	// Username and Password are the effective secrets; where the file names usernameFile or passwordFile instead, they
	// read that file.
	Username     Secret `mapstructure:"username"`
	UsernameFile string `mapstructure:"usernameFile"`
	Password     Secret `mapstructure:"password"`
	PasswordFile string `mapstructure:"passwordFile"`

	Database int       `mapstructure:"database" default:"0"`
	TLS      TLSConfig `mapstructure:"tls"`
}

// ClusterConfig is what clients see of a Redis Cluster.
type ClusterConfig struct {
	// Advertise is whom CLUSTER SLOTS and the like describe: the sidecar as one node with every slot, or the real nodes, to which
	// cluster clients then go by themselves.
	Advertise string `mapstructure:"advertise" default:"sidecar" oneof:"sidecar|upstream"`
}

// TLSConfig holds paths of PEM files; empty ones stand for the system's roots and for no client certificate.
type TLSConfig struct {
	Enabled    bool   `mapstructure:"enabled" default:"false"`
	CAFile     string `mapstructure:"caFile"`
	CertFile   string `mapstructure:"certFile"`
	KeyFile    string `mapstructure:"keyFile"`
	ServerName string `mapstructure:"serverName"`
}

// OriginConfig is one database. What url leaves out is taken from PG* variables by the driver.
type OriginConfig struct {
	Name string `mapstructure:"name" required:"true"`
	URL  Secret `mapstructure:"url"`

	// Password is the effective secret, from passwordFile where the file names that; it takes the place of the url's.
	Password     Secret `mapstructure:"password"`
	PasswordFile string `mapstructure:"passwordFile"`

	Pool PoolConfig `mapstructure:"pool"`

	// QueryMode is how queries are sent; auto lets the driver choose. Behind PgBouncer it is exec or cache_describe.
	QueryMode string `mapstructure:"queryMode" default:"auto" oneof:"auto|cache_statement|cache_describe|exec"`

	// Queue bounds the loads that run or wait at a time.
	Queue    int            `mapstructure:"queue" default:"1024"`
	Breaker  BreakerConfig  `mapstructure:"breaker"`
	FailOpen FailOpenConfig `mapstructure:"failOpen"`
}

// BreakerConfig says when an origin that fails is left alone for a while: after so many failures in a row; 0 is never.
type BreakerConfig struct {
	Failures int           `mapstructure:"failures" default:"5"`
	Pause    time.Duration `mapstructure:"pause" default:"1s"` // the first one; they grow
}

// FailOpenConfig bounds the loads that run at a time while Redis fails, when nothing coalesces those of many pods; 0 is none.
type FailOpenConfig struct {
	Max int `mapstructure:"max" default:"1"`
}

// PoolConfig bounds the connections to one origin.
type PoolConfig struct {
	Max  int           `mapstructure:"max" default:"2"`
	Idle time.Duration `mapstructure:"idle" default:"30s"`
}

// MapConfig binds a key pattern to a query.
type MapConfig struct {
	Name    string        `mapstructure:"name" required:"true"`
	Key     string        `mapstructure:"key" required:"true"`
	Origin  string        `mapstructure:"origin"` // the first origin's name where the file omits it
	Query   string        `mapstructure:"query" required:"true"`
	Value   string        `mapstructure:"value" default:"object" oneof:"object|array|column"`
	TTL     time.Duration `mapstructure:"ttl" required:"true"`
	Jitter  Percent       `mapstructure:"jitter" default:"10%"`
	Timeout time.Duration `mapstructure:"timeout" default:"250ms"`
	OnError string        `mapstructure:"onError" default:"error" oneof:"error|nil"`

	Missing  time.Duration `mapstructure:"missing" default:"5s"`
	Stale    time.Duration `mapstructure:"stale" default:"0s"`
	Wait     time.Duration `mapstructure:"wait"` // twice the timeout where the file omits it
	MaxValue Size          `mapstructure:"maxValue" default:"8MiB"`
	Queue    int           `mapstructure:"queue" default:"256"`
}

// expands names the fields under which ${VAR} stands for an environment variable.
var expands = map[string]bool{"listen": true, "admin": true, "debug": true, "upstream": true, "origins": true}

// LoadConfig reads the file at path and applies the READTHROUGH_… variables. The error is a *ConfigError holding
// everything that is wrong, not only the first thing; the Config that comes with it then holds what could be read and
// must not be served.
func LoadConfig(path string) (*Config, error) {
	raw, err := readMounted(path)
	if err != nil {
		return &Config{}, &ConfigError{File: path, Problems: []Problem{{Message: fileProblem(err)}}}
	}
	return ParseConfig(path, raw)
}

// ParseConfig is [LoadConfig] for content already read; file is the name that errors give.
func ParseConfig(file string, raw []byte) (*Config, error) {
	return parseConfig(file, raw, thisProcess)
}

// ParseForElsewhere is [ParseConfig] for content that another process will use: neither this one's variables nor its files
// are looked at. A ${VAR} is then a problem marked Unset.
func ParseForElsewhere(file string, raw []byte) (*Config, error) {
	return parseConfig(file, raw, nowhere)
}

func parseConfig(file string, raw []byte, from outside) (*Config, error) {
	doc := newDocument(file, from)
	config := &Config{doc: doc, raw: bytes.Clone(raw)}
	values, ok := doc.read(raw, config)
	if !ok {
		return config, doc.err()
	}

	v := viper.New()
	if err := v.MergeConfigMap(values); err != nil {
		return config, fmt.Errorf("merge %s: %w", file, err)
	}
	for path, value := range doc.environment(config, v.IsSet) {
		v.Set(path, value)
	}
	if err := v.UnmarshalExact(config); err != nil {
		return config, fmt.Errorf("decode %s: %w", file, err)
	}
	config.settleOrigins()
	config.validate(doc)
	config.settleSecrets()
	return config, doc.err()
}

// settleOrigins fills in the origin of maps that name none.
func (c *Config) settleOrigins() {
	for i := range c.Maps {
		if c.Maps[i].Origin == "" && len(c.Origins) > 0 {
			c.Maps[i].Origin = c.Origins[0].Name
		}
	}
}

// settleSecrets turns each …File field into the secret that it stands for.
func (c *Config) settleSecrets() {
	settle := func(secret *Secret, file string) {
		if file != "" {
			*secret = SecretFile(file)
		}
	}
	settle(&c.Upstream.Username, c.Upstream.UsernameFile)
	settle(&c.Upstream.Password, c.Upstream.PasswordFile)
	for i := range c.Origins {
		settle(&c.Origins[i].Password, c.Origins[i].PasswordFile)
	}
}

// definitions are the maps as the origin package takes them.
func (c *Config) definitions() []origin.Definition {
	definitions := make([]origin.Definition, len(c.Maps))
	for i, m := range c.Maps {
		definitions[i] = origin.Definition{
			Name: m.Name, Key: m.Key, Origin: m.Origin, Query: m.Query, Value: origin.ValueForm(m.Value),
			TTL: m.TTL, Jitter: float64(m.Jitter) / 100, Timeout: m.Timeout, OnError: origin.ErrorMode(m.OnError),
			Missing: m.Missing, Stale: m.Stale, Wait: m.Wait, MaxValue: int(m.MaxValue), Queue: m.Queue,
		}
	}
	return definitions
}

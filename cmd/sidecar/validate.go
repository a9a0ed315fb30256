package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"readthrough/internal/suggest"
	"readthrough/origin"
)

// validate finds what no single value shows: bounds, fields that contradict each other, and mistakes in key patterns and
// queries.
func (c *Config) validate(d *document) {
	c.validateAddresses(d)
	if c.Loops < 1 || c.Loops > 64 {
		d.problem("loops", "%d is out of bounds: write 1 to 64", c.Loops)
	}
	if c.ShutdownGrace < 0 {
		d.problem("shutdownGrace", "%s is negative: write 0s to end at once, or a duration such as 30s", c.ShutdownGrace)
	}
	switch {
	case d.wrong("shutdownDelay") || d.wrong("shutdownGrace") || c.ShutdownGrace < 0:
	case c.ShutdownDelay < 0:
		d.problem("shutdownDelay", "%s is negative: write 0s to end with the last client, or a duration such as 5s", c.ShutdownDelay)
	case c.ShutdownDelay > c.ShutdownGrace:
		d.problem("shutdownDelay", "%s is longer than shutdownGrace, of which it is a part: write at most %s, or a longer shutdownGrace",
			c.ShutdownDelay, c.ShutdownGrace)
	}
	c.validateUpstream(d)
	c.validateDeny(d)
	c.validateOrigins(d)
	c.validateMaps(d)
}

func (c *Config) validateAddresses(d *document) {
	for _, a := range []struct{ path, address string }{{"listen", c.Listen}, {"admin", c.Admin}, {"debug", c.Debug}} {
		if a.path == "debug" && a.address == "" {
			continue
		}
		if err := checkListen(a.address); err != nil && !d.wrong(a.path) {
			d.problem(a.path, "%s", err)
		}
	}
	if !c.RequireAuth && !c.AllowUnauthenticated && !d.wrong("listen") && !isLoopback(c.Listen) {
		d.problem("listen", "%s is reachable from outside the pod, and clients are not authenticated: write localhost:%s, "+
			"or set requireAuth: true, or allowUnauthenticated: true where whoever gets there may do everything", c.Listen, portOf(c.Listen))
	}
	if c.Debug != "" && !d.wrong("debug") && !isLoopback(c.Debug) {
		d.problem("debug", "%s is reachable from outside the pod, and profiles tell secrets: write localhost:%s and use "+
			"kubectl port-forward", c.Debug, portOf(c.Debug))
	}
	for i, a := range []struct{ path, address string }{{"admin", c.Admin}, {"debug", c.Debug}} {
		others := []struct{ path, address string }{{"listen", c.Listen}, {"admin", c.Admin}}[:i+1]
		for _, other := range others {
			if port := portOf(a.address); port != "" && port != "0" && port == portOf(other.address) {
				d.problem(a.path, "port %s is taken by %s: write another", port, other.path)
			}
		}
	}
}

// commandName is a command, or one and its subcommand.
var commandName = regexp.MustCompile(`^[^\s|"'${}]+(\|[^\s|"'${}]+)?$`)

func (c *Config) validateDeny(d *document) {
	for i, name := range c.Deny {
		if at := fmt.Sprintf("deny[%d]", i); !commandName.MatchString(name) && !d.wrong(at) {
			d.problem(at, "%q is not the name of a command: write one such as FLUSHALL, or with its subcommand config|set", name)
		}
	}
}

func (c *Config) validateUpstream(d *document) {
	u := c.Upstream
	if len(u.Addresses) == 0 && !d.wrongWithin("upstream.addresses") {
		d.problem("upstream.addresses", "is empty: write host:port of one Redis node or more")
	}
	for i, address := range u.Addresses {
		if err := checkDial(address); err != nil {
			d.problem(fmt.Sprintf("upstream.addresses[%d]", i), "%s", err)
		}
	}
	checkSecret(d, "upstream.username", u.Username, u.UsernameFile)
	checkSecret(d, "upstream.password", u.Password, u.PasswordFile)
	if u.Password.literal() != "" {
		d.problem("upstream.password", "%s", literalSecret)
	}
	named, proven := !u.Username.IsZero() || u.UsernameFile != "", !u.Password.IsZero() || u.PasswordFile != ""
	if named && !proven && !d.wrong("upstream.password") && !d.wrong("upstream.passwordFile") {
		// Where the file will be used, a variable may name it, as it does in a pod with the setting redisSecret.
		message := "has no password: add password: ${VAR} or passwordFile, or set READTHROUGH_UPSTREAM_PASSWORD_FILE"
		d.add(Problem{Path: "upstream.username", Message: message, Unset: true})
	}
	if u.Database < 0 {
		d.problem("upstream.database", "%d is negative: write 0 or more", u.Database)
	}
	u.TLS.validate(d, "upstream.tls")
}

func (c *Config) validateOrigins(d *document) {
	seen := map[string]int{}
	for i, o := range c.Origins {
		at := fmt.Sprintf("origins[%d].", i)
		if d.wrong(fmt.Sprintf("origins[%d]", i)) {
			continue
		}
		checkName(d, at+"name", o.Name, seen, i)
		if o.URL.hasLiteralPassword() {
			d.problem(at+"url", "holds a password: %s", literalSecretInURL)
		}
		checkSecret(d, at+"url", o.URL, "")
		checkSecret(d, at+"password", o.Password, o.PasswordFile)
		if o.Password.literal() != "" {
			d.problem(at+"password", "%s", literalSecret)
		}
		if o.Pool.Max < 1 || o.Pool.Max > 1000 {
			d.problem(at+"pool.max", "%d is out of bounds: write 1 to 1000", o.Pool.Max)
		}
		if o.Pool.Idle <= 0 {
			d.problem(at+"pool.idle", "%s is too short: write a duration such as 30s", o.Pool.Idle)
		}
		o.validateBounds(d, at)
	}
}

// validateBounds checks what keeps an origin from being overrun.
func (o OriginConfig) validateBounds(d *document, at string) {
	if o.Queue < 1 || o.Queue > 100_000 {
		d.problem(at+"queue", "%d is out of bounds: write 1 to 100000", o.Queue)
	}
	if o.Breaker.Failures < 0 || o.Breaker.Failures > 1000 {
		d.problem(at+"breaker.failures", "%d is out of bounds: write 1 to 1000, or 0 to try every time", o.Breaker.Failures)
	}
	if o.Breaker.Pause < time.Millisecond || o.Breaker.Pause > origin.MaxPause {
		d.problem(at+"breaker.pause", "%s is out of bounds: write 1ms to %s", o.Breaker.Pause, origin.MaxPause)
	}
	if o.FailOpen.Max < 0 || o.FailOpen.Max > 1000 {
		d.problem(at+"failOpen.max", "%d is out of bounds: write 1 to 1000, or 0 to load nothing while Redis fails", o.FailOpen.Max)
	}
}

const (
	literalSecret      = "secrets never stand in this file: write ${VAR}, or use passwordFile"
	literalSecretInURL = "secrets never stand in this file: put ${VAR} in its place, or use passwordFile"
)

// validateMaps compiles the maps, which finds what is wrong with each and between them, and looks up their origins.
func (c *Config) validateMaps(d *document) {
	seen := map[string]int{}
	for i, m := range c.Maps {
		if first, twice := seen[m.Name]; twice && m.Name != "" {
			d.problem(fmt.Sprintf("maps[%d].name", i), "%q is taken by maps[%d]: names are unique", m.Name, first)
		} else {
			seen[m.Name] = i
		}
		c.validateMapOrigin(d, fmt.Sprintf("maps[%d].origin", i), m.Origin)
	}
	for i, m := range c.Maps {
		// Zero stands for the default in what is compiled, and is none of the values that these fields take.
		at := fmt.Sprintf("maps[%d].", i)
		if m.Wait == 0 && d.gives(at+"wait") {
			d.problem(at+"wait", "is 0s: write the timeout, %s, or more, up to 2h", m.Timeout)
		}
		if m.MaxValue == 0 && d.gives(at+"maxValue") {
			d.problem(at+"maxValue", "is 0: write 1 byte or more, such as 8MiB")
		}
		if m.Queue == 0 && d.gives(at+"queue") {
			d.problem(at+"queue", "is 0: write 1 or more")
		}
	}
	compiled, err := origin.Compile(c.definitions())
	var found []Problem
	for _, err := range unjoin(err) {
		p := Problem{Path: "maps", Message: err.Error()}
		if mistake, ok := errors.AsType[*origin.DefinitionError](err); ok {
			p = Problem{Path: fmt.Sprintf("maps[%d].%s", mistake.Index, mistake.Field), Message: mistake.Problem}
		}
		found = append(found, p)
	}
	d.add(found...)
	c.compiled = compiled
}

// unjoin takes apart what errors.Join made, however often.
func unjoin(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, unjoin(err)...)
	}
	return all
}

func (c *Config) validateMapOrigin(d *document, at, name string) {
	if d.wrong(at) || d.wrong(strings.TrimSuffix(at, ".origin")) || name == "" && len(c.Origins) > 0 {
		return
	}
	names := make([]string, len(c.Origins))
	for i, o := range c.Origins {
		if o.Name == name {
			return
		}
		names[i] = o.Name
		if d.wrong(fmt.Sprintf("origins[%d].name", i)) {
			return // the name meant may be that one
		}
	}
	switch {
	case d.wrong("origins"):
	case len(names) == 0:
		d.problem("origins", "is missing: the maps load from a database, so name one: [{name: main, url: \"${ORIGIN_URL}\"}]")
	case suggest.DidYouMean(name, names) != "":
		d.problem(at, "no origin has the name %q%s", name, suggest.DidYouMean(name, names))
	default:
		d.problem(at, "no origin has the name %q: write %s", name, strings.Join(names, " or "))
	}
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// checkName checks the name of an origin: it stands in errors that clients see and in metric labels.
func checkName(d *document, at, name string, seen map[string]int, i int) {
	if d.wrong(at) {
		return
	}
	if !nameForm.MatchString(name) {
		d.problem(at, "%q is not a name: write up to 63 letters, digits, _, . or -", name)
		return
	}
	if first, twice := seen[name]; twice {
		list, _, _ := strings.Cut(at, "[")
		d.problem(at, "%q is taken by %s[%d]: names are unique", name, list, first)
		return
	}
	seen[name] = i
}

// checkSecret demands that a secret has one source at most, its own field or the one named …File, and can be read.
func checkSecret(d *document, at string, s Secret, file string) {
	if file != "" && !s.IsZero() {
		d.problem(at, "stands beside %sFile: keep one of them", at[strings.LastIndexByte(at, '.')+1:])
		return
	}
	if file != "" {
		s, at = SecretFile(file), at+"File"
	}
	if s.IsZero() || d.wrong(at) {
		return
	}
	if err := d.outside.check(s); err != nil {
		d.add(Problem{Path: at, Message: err.Error(), Unset: errors.Is(err, errUnset)})
	}
}

func (t TLSConfig) validate(d *document, at string) {
	if !t.Enabled {
		for _, f := range []struct{ name, value string }{
			{"caFile", t.CAFile}, {"certFile", t.CertFile}, {"keyFile", t.KeyFile}, {"serverName", t.ServerName},
		} {
			if f.value != "" && !d.wrong(at+".enabled") {
				d.problem(at+"."+f.name, "is given while TLS is off: set enabled: true, or remove it")
			}
		}
		return
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		d.problem(at+".certFile", "has no key: add keyFile")
	case t.KeyFile != "" && t.CertFile == "":
		d.problem(at+".keyFile", "has no certificate: add certFile")
	case t.CertFile != "":
		if err := d.outside.checkPair(t); err != nil {
			d.problem(at+".certFile", "%s", err)
		}
	}
	if t.CAFile != "" {
		if err := d.outside.checkRoots(t); err != nil {
			d.problem(at+".caFile", "%s", err)
		}
	}
}

// splitAddress takes host:port apart; the host may be empty.
func splitAddress(address string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(address)
	if err != nil {
		return "", "", fmt.Errorf("%q is not host:port: write one such as localhost:6380, and an IPv6 address in brackets", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", "", fmt.Errorf("port %q is not a number up to 65535", port)
	}
	return host, port, nil
}

// checkListen checks an address to listen on.
func checkListen(address string) error {
	host, _, err := splitAddress(address)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return fmt.Errorf("%q is neither localhost nor an IP address: write one of those before the port", host)
	}
	return nil
}

// checkDial checks an address to connect to.
func checkDial(address string) error {
	if scheme, _, isURL := strings.Cut(address, "://"); isURL {
		return fmt.Errorf("is a %s URL: write host:port alone; username, password, database and tls have fields of their own", scheme)
	}
	host, port, err := splitAddress(address)
	switch {
	case err != nil:
		return err
	case host == "":
		return fmt.Errorf("%q has no host: write one before the port", address)
	case port == "0":
		return fmt.Errorf("%q: nothing listens on port 0", address)
	}
	return nil
}

// isLoopback reports whether only this host, in a pod only its containers, can reach a checked listen address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}

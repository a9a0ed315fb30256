package harness

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// RedisOptions describes a Redis server, alone or as a node of a cluster.
type RedisOptions struct {
	IPv6     bool   // listen on ::1 instead of 127.0.0.1
	Password string // of the user "default"; also used between the nodes

	// CA makes the server speak TLS alone, with a certificate of this authority; also between the nodes.
	CA          *CA
	ClientCerts bool // with CA: refuse clients without a certificate of it

	// Config holds more lines of redis.conf, such as "maxmemory 10mb" or "user app on >secret ~app:* +@read". They win over the
	// harness's own: nothing is saved, replication starts without delay.
	Config []string
}

// Redis is one Redis server.
type Redis struct {
	*Process // replaced by Restart

	options RedisOptions
	addr    string
	port    port
	busPort port // of a cluster node
	dir     folder
	client  *tls.Config // nil without TLS
	id      string      // of a cluster node
}

// StartRedis starts a standalone Redis.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	r, err := newRedis(o)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(r.writeConfig(nil), r.start(ctx)); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// NewRedis is StartRedis for tests.
func NewRedis(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	r, err := StartRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		showOutput(t, "redis "+r.addr, r.Output())
	})
	return r
}

// newRedis reserves what a server needs: ports, a folder and, with TLS, certificates.
func newRedis(o RedisOptions) (_ *Redis, err error) {
	r := &Redis{options: o}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.port, err = reservePort(); err != nil {
		return nil, err
	}
	r.addr = net.JoinHostPort(r.host(), r.port.String())
	if r.dir, err = newFolder(nil); err != nil {
		return nil, err
	}
	if o.CA != nil {
		if r.client, err = o.CA.ClientConfig(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Addr is host:port, with brackets around an IPv6 address.
func (r *Redis) Addr() string { return r.addr }

// Host is the address without the port.
func (r *Redis) host() string {
	if r.options.IPv6 {
		return "::1"
	}
	return "127.0.0.1"
}

// ID is a cluster node's id; empty for a standalone Redis.
func (r *Redis) ID() string { return r.id }

// Dir is the server's working directory.
func (r *Redis) Dir() string { return r.dir.path }

// TLSConfig is what a client needs to connect; nil without TLS.
func (r *Redis) TLSConfig() *tls.Config { return r.client }

// Dial opens a raw connection, over TLS if the server wants it, and authenticates as "default" if it has a password.
func (r *Redis) Dial(ctx context.Context) (*Conn, error) {
	c, err := Dial(ctx, r.addr, r.client)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	if r.options.Password != "" {
		if _, err := c.do("AUTH", r.options.Password); err != nil {
			return nil, errors.Join(fmt.Errorf("redis %s: AUTH failed", r.addr), c.Close())
		}
	}
	return c, nil
}

// Do runs one command on a connection of its own. An error reply is a [ReplyError].
func (r *Redis) Do(ctx context.Context, args ...string) (Value, error) {
	if !r.answers() {
		return Value{}, fmt.Errorf("redis %s is killed or paused", r.addr)
	}
	c, err := r.Dial(ctx)
	if err != nil {
		return Value{}, err
	}
	defer c.Close()
	v, err := c.do(args...)
	if err != nil {
		return v, fmt.Errorf("redis %s: %w", r.addr, err)
	}
	return v, nil
}

// MustDo is Do for tests: any error fails the test.
func (r *Redis) MustDo(t testing.TB, args ...string) Value {
	t.Helper()
	v, err := r.Do(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Restart kills the server if it runs and starts it again at the same address. Unless the options say otherwise its keys are
// gone; a cluster node keeps its id and what it knew of the cluster.
func (r *Redis) Restart(ctx context.Context) error {
	r.Kill()
	return r.start(ctx)
}

// Close ends the server and removes its folder.
func (r *Redis) Close() {
	if r.Process != nil {
		r.Kill()
	}
	r.port.release()
	r.busPort.release()
	r.dir.remove()
}

// writeConfig writes redis.conf; extra are lines between the harness's own and those of the options.
func (r *Redis) writeConfig(extra []string) error {
	lines := []string{
		"bind " + r.host(),
		`save ""`,
		"appendonly no",
		"repl-diskless-sync-delay 0",
		"repl-ping-replica-period 1",
	}
	if ca := r.options.CA; ca != nil {
		cert, err := ca.Server()
		if err != nil {
			return err
		}
		caFile, certFile, keyFile, err := ca.WriteFiles(r.dir.path, "redis", cert)
		if err != nil {
			return err
		}
		auth := "no"
		if r.options.ClientCerts {
			auth = "yes"
		}
		lines = append(lines, "port 0", "tls-port "+r.port.String(), "tls-replication yes", "tls-cluster yes",
			"tls-ca-cert-file "+caFile, "tls-cert-file "+certFile, "tls-key-file "+keyFile, "tls-auth-clients "+auth)
	} else {
		lines = append(lines, "port "+r.port.String())
	}
	if pw := r.options.Password; pw != "" {
		lines = append(lines, "requirepass "+pw, "masterauth "+pw)
	}
	lines = append(append(lines, extra...), r.options.Config...)
	return os.WriteFile(r.configFile(), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

func (r *Redis) configFile() string { return r.dir.join("redis.conf") }

// start runs the server and waits until it answers.
func (r *Redis) start(ctx context.Context) error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return errMissing("redis-server", "redis-server")
	}
	p, err := StartProcess(ProcessOptions{Path: path, Args: []string{r.configFile()}, Dir: r.dir.path})
	if err != nil {
		return err
	}
	r.Process = p
	return awaitReady(ctx, p, func() error {
		_, err := r.Do(ctx, "PING")
		return err
	})
}

// errMissing says which Debian package has a program.
func errMissing(program, pkg string) error {
	return fmt.Errorf("%s is not installed: on Debian or Ubuntu, apt-get install %s", program, pkg)
}

// showOutput logs the end of a server's output if the test failed.
func showOutput(t testing.TB, name, output string) {
	const most = 16 << 10
	if !t.Failed() {
		return
	}
	if len(output) > most {
		output = "…" + output[len(output)-most:]
	}
	t.Logf("output of %s:\n%s", name, output)
}

package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
)

// Options say how Redis is reached. They are read only.
type Options struct {
	// Addresses are the seeds, host:port, IPv6 in brackets: any nodes of the cluster, or the standalone Redis. Names are
	// resolved again for every connection.
	Addresses []string
	// Credentials is asked for every new connection, and regularly for whether they changed: what it reads may be rotated.
	// An empty password with an empty user means no authentication, an empty user the default user. Nil: none.
	Credentials func(ctx context.Context) (user, password string, err error)
	// TLS is asked for every new connection. An empty ServerName stands for the host that is dialled. Nil: plain TCP.
	TLS func() (*tls.Config, error)
	// Database is selected on every connection; a Redis Cluster has 0 only.
	Database int
	// Silence is how long a node may owe a reply, or the taking of a command, without sending or taking a byte before the
	// connection counts as lost. Zero stands for 15s, which is well over Redis's busy-reply-threshold of five seconds, after
	// which even a node in a slow script answers.
	Silence time.Duration
	// ClientName is what CLIENT LIST shows, without blanks; empty for none.
	ClientName string
	// Logger gets topology changes and failures, never keys, values or secrets. Nil: nothing is logged.
	Logger *zap.Logger
}

// silence is what Silence is when it is zero.
const silence = 15 * time.Second

const (
	// suspicion is how long a node may owe a reply before the topology is looked at: the cluster may know that it hangs.
	suspicion = time.Second
	// silenceReplaced stands for Silence where the cluster has put another node in the place of this one.
	silenceReplaced = 2 * time.Second
)

// dialTimeout bounds name resolution, TCP and TLS handshake of one connection.
const dialTimeout = 2 * time.Second

// Validate reports every mistake that can be seen without a connection.
func (o *Options) Validate() error {
	var errs []error
	if len(o.Addresses) == 0 {
		errs = append(errs, errors.New("no Redis address: give at least one host:port"))
	}
	for _, addr := range o.Addresses {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || port == "" {
			errs = append(errs, fmt.Errorf("Redis address %q: write host:port, an IPv6 address in brackets", addr))
		}
	}
	if o.Database < 0 {
		errs = append(errs, fmt.Errorf("Redis database %d: it must not be negative", o.Database))
	}
	if o.Silence < 0 {
		errs = append(errs, fmt.Errorf("Redis silence %v: it must not be negative", o.Silence))
	}
	return errors.Join(errs...)
}

func (o *Options) silence() time.Duration {
	if o.Silence == 0 {
		return silence
	}
	return o.Silence
}

func (o *Options) logger() *zap.Logger {
	if o.Logger == nil {
		return zap.NewNop()
	}
	return o.Logger
}

// credentials are a user and a password, unless none are given. Those that a client gives may be empty: Redis refuses them.
type credentials struct {
	given          bool
	user, password string
}

func (o *Options) credentials(ctx context.Context) (credentials, error) {
	if o.Credentials == nil {
		return credentials{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	user, password, err := o.Credentials(ctx)
	if err != nil {
		return credentials{}, fmt.Errorf("Redis credentials: %w", err)
	}
	return credentials{user != "" || password != "", user, password}, nil
}

// auth returns the AUTH command for c, nil where there is nothing to say.
func (c credentials) auth() []string {
	switch {
	case !c.given:
		return nil
	case c.user == "":
		return []string{"AUTH", c.password}
	}
	return []string{"AUTH", c.user, c.password}
}

// connect dials addr, with TLS where configured. It neither authenticates nor selects.
func (o *Options) connect(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialer := net.Dialer{KeepAlive: pingInterval}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil || o.TLS == nil {
		return conn, err
	}
	secure, err := o.secure(ctx, conn, addr)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", addr, err)
	}
	return secure, nil
}

func (o *Options) secure(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	config, err := o.TLS()
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		config = config.Clone()
		if config.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			return nil, err
		}
	}
	secure := tls.Client(conn, config)
	return secure, secure.HandshakeContext(ctx)
}

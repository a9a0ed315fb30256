package main

import (
	"context"

	"go.uber.org/zap"

	"readthrough/origin"
	"readthrough/upstream"
)

// upstreamOptions say to the upstream package how Redis is reached. Secrets and TLS files are read for each connection.
func (c *Config) upstreamOptions(clientName string, log *zap.Logger) upstream.Options {
	u := c.Upstream
	options := upstream.Options{Addresses: u.Addresses, Database: u.Database, ClientName: clientName, Logger: log}
	if !u.Password.IsZero() {
		options.Credentials = func(ctx context.Context) (user, password string, err error) {
			if user, err = u.Username.Read(ctx); err != nil {
				return "", "", err
			}
			password, err = u.Password.Read(ctx)
			return user, password, err
		}
	}
	if u.TLS.Enabled {
		options.TLS = u.TLS.Build
	}
	return options
}

// databases say to the origin package how the origins are reached. Secrets are read for each connection.
func (c *Config) databases(clientName string) []origin.Database {
	databases := make([]origin.Database, len(c.Origins))
	for i, o := range c.Origins {
		databases[i] = origin.Database{
			Name: o.Name, URL: o.URL.Read, ApplicationName: clientName,
			MaxConns: int32(o.Pool.Max), MaxIdle: o.Pool.Idle,
			Queue: o.Queue, Breaker: origin.Breaker{Failures: o.Breaker.Failures, Pause: o.Breaker.Pause}, FailOpen: o.FailOpen.Max,
		}
		if !o.Password.IsZero() {
			databases[i].Password = o.Password.Read
		}
		if o.QueryMode != "auto" {
			databases[i].QueryMode = origin.QueryMode(o.QueryMode)
		}
	}
	return databases
}

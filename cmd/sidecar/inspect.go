package main

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"readthrough/origin"
	"readthrough/upstream"
)

// inspectTimeout bounds what check and explain ask.
const inspectTimeout = 10 * time.Second

// inspector asks the systems behind a configuration what only they know. Nothing is changed in them.
type inspector interface {
	// Rights finds out what the sidecar's Redis user may do, and what it lacks.
	Rights(ctx context.Context, needs []upstream.Need) (upstream.Rights, error)
	// Key finds a key in Redis.
	Key(ctx context.Context, key []byte) (upstream.KeyReport, error)
	// Origins prepares every map's query. The report holds what went well, the error joins what did not.
	Origins(ctx context.Context) (origin.Report, error)
}

// liveInspector is the inspector of a configuration, under the name that a running sidecar has.
type liveInspector struct{ config *Config }

func (i liveInspector) Rights(ctx context.Context, needs []upstream.Need) (upstream.Rights, error) {
	options := i.config.upstreamOptions(clientName(), zap.NewNop())
	return upstream.CheckRights(ctx, &options, needs)
}

func (i liveInspector) Key(ctx context.Context, key []byte) (upstream.KeyReport, error) {
	options := i.config.upstreamOptions(clientName(), zap.NewNop())
	return upstream.Inspect(ctx, &options, key)
}

func (i liveInspector) Origins(ctx context.Context) (report origin.Report, err error) {
	if len(i.config.Origins) == 0 {
		return origin.Report{}, nil
	}
	resolver, err := origin.NewResolver(origin.Options{Databases: i.config.databases(clientName()), Maps: i.config.compiled})
	if err != nil {
		return origin.Report{}, err
	}
	defer func() { err = errors.Join(err, resolver.Close(ctx)) }()
	return resolver.Prepare(ctx)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"readthrough/internal/loop"
	wire "readthrough/internal/relay"
	"readthrough/origin"
	"readthrough/resp"
	"readthrough/upstream"
)

// product is the relay: the clients' side, Redis and the origins on their loops.
type product struct {
	config   atomic.Pointer[Config]
	log      *zap.Logger
	loops    []*loop.Loop
	upstream *upstream.Upstream
	resolver *origin.Resolver // nil where no command reads through
	server   *resp.Server
}

// newRelay opens the listeners. It waits for neither Redis nor an origin.
func newRelay(d relayDeps) (_ relay, err error) {
	p := &product{log: d.log}
	p.config.Store(d.config)
	for range d.config.Loops {
		l, err := loop.New()
		if err != nil {
			return nil, err
		}
		p.loops = append(p.loops, l)
	}
	if p.upstream, err = upstream.New(d.config.upstreamOptions(d.clientName, d.log.Named("upstream")), p.loops); err != nil {
		return nil, err
	}
	m := newMetrics(p)
	options := resp.Options{
		Loops: p.loops, Intercept: d.config.Intercept, FailOpen: d.config.failsOpen(), Database: d.config.Upstream.Database, CrossSlot: d.config.CrossSlot == "error",
		Deny: d.config.Deny, RequireAuth: d.config.RequireAuth, AdvertiseUpstream: d.config.Cluster.Advertise == "upstream", Logger: d.log.Named("resp"),
	}
	for i := range p.loops {
		options.Upstreams = append(options.Upstreams, p.upstream.Side(i))
	}
	if len(d.config.Origins) > 0 && len(d.config.Intercept) > 0 {
		p.resolver, err = origin.NewResolver(origin.Options{
			Databases: d.config.databases(d.clientName), Maps: d.config.compiled,
			Leases: p.upstream.Leases(), Log: d.log.Named("origin"), Observer: m,
		})
		if err != nil {
			return nil, err
		}
		options.Resolver = missResolver{p.resolver}
	}
	if options.Listeners, err = listenTCP(d.config.Listen); err != nil {
		return nil, err
	}
	p.server = resp.New(options)
	d.registry.MustRegister(m)
	return p, nil
}

// missResolver is the origin's resolver as the clients' side takes it.
type missResolver struct{ *origin.Resolver }

func (r missResolver) Resolve(keys [][]byte, how resp.How, done func([]resp.Answer)) {
	r.Resolver.Resolve(keys, hows[how], func(found []origin.Answer) {
		answers := make([]resp.Answer, len(found))
		for i, a := range found {
			answers[i] = resp.Answer{Value: a.Value, Found: a.Found, Err: replyError(a.Err)}
		}
		done(answers)
	})
}

var hows = [...]origin.How{resp.WithLease: origin.WithLease, resp.WithoutFill: origin.WithoutFill, resp.FailOpen: origin.FailOpen}

// failsOpen tells whether any origin may be asked while Redis does not answer.
func (c *Config) failsOpen() bool {
	return slices.ContainsFunc(c.Origins, func(o OriginConfig) bool { return o.FailOpen.Max > 0 })
}

// replyError is an origin's error as the text of a RESP error, with its own prefix.
func replyError(err error) error {
	if err == nil {
		return nil
	}
	return wire.Error(err.Error())
}

func (p *product) Serve() error {
	p.upstream.Start()
	ended := make(chan error, len(p.loops))
	for _, l := range p.loops {
		go func() { ended <- l.Run() }()
	}
	var errs []error
	for range p.loops {
		errs = append(errs, <-ended)
		p.stop() // one loop without the others serves nobody well
	}
	p.upstream.Close()
	return errors.Join(errs...)
}

func (p *product) stop() {
	for _, l := range p.loops {
		l.Stop()
	}
}

func (p *product) Addrs() []net.Addr { return p.server.Addrs() }

func (p *product) Clients() int { return p.server.Clients() }

func (p *product) Shutdown(ctx context.Context) error {
	err := p.server.Close(ctx)
	if p.resolver != nil {
		err = errors.Join(err, p.resolver.Close(ctx))
	}
	p.stop()
	return err
}

// Live has each loop answer.
func (p *product) Live(ctx context.Context) error {
	for i, l := range p.loops {
		answered := make(chan struct{})
		if !l.Post(func() { close(answered) }) {
			return fmt.Errorf("loop %d has stopped", i)
		}
		select {
		case <-answered:
		case <-ctx.Done():
			return fmt.Errorf("loop %d does not turn: %w", i, ctx.Err())
		}
	}
	return nil
}

func (p *product) Checks() []healthCheck {
	checks := []healthCheck{{"upstream", func(context.Context) error {
		state := p.upstream.State()
		switch {
		case state.LastError != nil:
			return state.LastError
		case state.Topology == nil:
			return errors.New("Redis has not answered yet")
		}
		return nil
	}}}
	if p.resolver == nil {
		return checks
	}
	for _, o := range p.config.Load().Origins {
		checks = append(checks, healthCheck{"origin " + o.Name, func(context.Context) error {
			for _, state := range p.resolver.States() {
				if state.Name == o.Name {
					return state.Down
				}
			}
			return nil
		}})
	}
	return checks
}

func (p *product) SetMaps(c *Config) error {
	if p.resolver == nil && len(c.Maps) > 0 {
		return errors.New("maps need an origin, and a command to intercept, which need a restart")
	}
	if p.resolver != nil {
		if err := p.resolver.SetMaps(c.compiled); err != nil {
			return err
		}
	}
	p.config.Store(c)
	return nil
}

func (p *product) Explain(ctx context.Context, w io.Writer, key string) error {
	config := p.config.Load()
	return explainLive(ctx, w, config, []byte(key), liveInspector{config})
}

func (p *product) Status() any {
	state := p.upstream.State()
	status := struct {
		Redis     string   `json:"redisVersion"`
		Cluster   bool     `json:"cluster"`
		Nodes     []string `json:"nodes"`
		LastError string   `json:"lastError,omitempty"`
	}{Redis: state.Version, Nodes: []string{}}
	if state.Topology != nil {
		status.Cluster = state.Topology.Cluster
		for _, n := range state.Topology.Nodes {
			status.Nodes = append(status.Nodes, n.Addr)
		}
	}
	if state.LastError != nil {
		status.LastError = state.LastError.Error()
	}
	return status
}

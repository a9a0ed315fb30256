// Package resp is the client side: it listens, and holds with each client a session in which its commands are answered in
// their order, by Redis, by the origin or here.
package resp

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"readthrough/internal/loop"
)

// Options say what is served, and over what.
type Options struct {
	// Listeners accept the clients. The server closes them.
	Listeners []net.Listener
	// Loops and, for each, its Upstream.
	Loops     []*loop.Loop
	Upstreams []Upstream
	// Resolver answers misses of the commands that Intercept names - GET, MGET, GETEX - in Database; nil relays everything.
	Resolver  Resolver
	Intercept []string
	Database  int
	// FailOpen has it also answer them, for clients without a user of their own, when Redis does not.
	FailOpen bool
	// RequireAuth has clients authenticate before anything else, as a Redis does whose user default has a password. AuthTimeout is how
	// long they may take; 0: DefaultAuthTimeout.
	RequireAuth bool
	AuthTimeout time.Duration
	// CrossSlot has Redis refuse MGET, DEL and the like over keys of several slots, instead of splitting them.
	CrossSlot bool
	// Deny names commands, or subcommands such as config|set, that are refused.
	Deny []string
	// AdvertiseUpstream has CLUSTER SLOTS and the like show the real nodes instead of the sidecar.
	AdvertiseUpstream bool
	Logger            *zap.Logger
}

// Server serves clients.
type Server struct {
	log         *zap.Logger
	seldom      *zap.Logger // one line a minute for each message: clients can cause as many as they like
	fronts      []*front
	listeners   []net.Listener
	accepting   sync.WaitGroup
	nodeID      string // that the sidecar has as a cluster's one node
	ids         atomic.Int64
	clients     atomic.Int64
	authTimeout time.Duration
	voidRefused sync.Once      // said in the log
	ending      sync.Once      // has the fronts end
	ended       sync.WaitGroup // fronts whose sessions have not all left
}

// firstID is where the clients' ids begin: far from those of the connections to Redis.
const firstID = 1 << 40

// New begins to accept clients. They are served once the loops run.
func New(opts Options) *Server {
	s := &Server{log: opts.Logger, listeners: opts.Listeners, authTimeout: cmp.Or(opts.AuthTimeout, DefaultAuthTimeout)}
	s.seldom = opts.Logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Minute, 1, 0)
	}))
	s.ids.Store(firstID)
	s.nodeID = newNodeID()
	for i, l := range opts.Loops {
		f := &front{
			server: s, loop: l, side: opts.Upstreams[i], resolver: opts.Resolver, database: opts.Database, splits: !opts.CrossSlot, log: opts.Logger,
			advertiseUpstream: opts.AdvertiseUpstream, denials: newDenials(opts.Deny), failOpen: opts.FailOpen && opts.Resolver != nil,
			requireAuth: opts.RequireAuth,
			sessions:    map[*session]struct{}{}, apart: map[string]bool{}, limit: maxHeld / len(opts.Loops), allowed: &ample,
		}
		if f.resolver != nil {
			f.intercept = opts.Intercept
			l.EachTurn(func() { f.refreshes = f.resolver.Refreshes() })
		}
		l.EachTurn(f.relieve)
		l.EachTurn(f.followMasters)
		f.renew(f.side.Table())
		if f.requireAuth {
			l.Post(f.expire)
		}
		s.fronts = append(s.fronts, f)
	}
	for _, l := range s.listeners {
		s.accepting.Go(func() { s.accept(l) })
	}
	return s
}

// Addrs are the addresses that are listened on.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Clients is the number of clients now.
func (s *Server) Clients() int { return int(s.clients.Load()) }

// Close stops accepting, has every session answer what it has been sent, and waits for them to leave, or for ctx. What is left
// then goes when the loops stop. It may be called again.
func (s *Server) Close(ctx context.Context) error {
	for _, l := range s.listeners {
		l.Close()
	}
	s.accepting.Wait()
	s.ending.Do(func() {
		for _, f := range s.fronts {
			s.ended.Add(1)
			if !f.loop.Post(f.end) {
				s.ended.Done()
			}
		}
	})
	all := make(chan struct{})
	go func() {
		s.ended.Wait()
		close(all)
	}()
	select {
	case <-all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d clients left: %w", s.Clients(), ctx.Err())
	}
}

// Stats returns the figures of the i-th loop up to now. It must be called on that loop.
func (s *Server) Stats(i int) Stats {
	f := s.fronts[i]
	st := f.stats.snapshot()
	st.Clients = len(f.sessions)
	return st
}

// newNodeID makes the name of a cluster's node: 40 hexadecimal digits.
func newNodeID() string {
	var id [20]byte
	_, _ = rand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:])
}

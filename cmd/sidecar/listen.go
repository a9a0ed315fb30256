package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

// listenTCP opens the listeners of an address: one, or for localhost 127.0.0.1 and, where IPv6 exists, ::1 on the same
// port.
func listenTCP(address string) ([]net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host != "localhost" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	v4, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, err
	}
	_, port, _ = net.SplitHostPort(v4.Addr().String()) // the one chosen, where port is 0
	v6, err := net.Listen("tcp6", net.JoinHostPort("::1", port))
	switch {
	case err == nil:
		return []net.Listener{v4, v6}, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, errors.Join(err, v4.Close())
	}
	return []net.Listener{v4}, nil // no IPv6 here
}

// httpServer serves one handler on one address.
type httpServer struct {
	server    *http.Server
	listeners []net.Listener
	done      chan error // one result per listener
}

// serveHTTP serves until Close. No request may take longer than write; the other bounds keep a slow or idle client from
// holding a connection.
func serveHTTP(address string, handler http.Handler, write time.Duration, log *zap.Logger) (*httpServer, error) {
	return serveHTTPS(address, handler, write, nil, log)
}

// maxSecure bounds the connections of a server over TLS, each of which takes some tens of KiB. Further ones wait to be accepted. An
// API server has one for each review under way.
const maxSecure = 256

// serveHTTPS is [serveHTTP] over TLS; without TLS where there is no configuration for it. It speaks HTTP/1.1 alone, as API servers
// do with webhooks: HTTP/2 would take in up to a MiB of each request before the handler asks for it, and have what a connection
// may send used up by a request that waits, so that those beside it wait as well.
func serveHTTPS(address string, handler http.Handler, write time.Duration, secure *tls.Config, log *zap.Logger) (*httpServer, error) {
	listeners, err := listenTCP(address)
	if err != nil {
		return nil, err
	}
	s := &httpServer{
		server: &http.Server{
			Handler:           handler,
			TLSConfig:         secure,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       10 * time.Second,
			WriteTimeout:      write,
			IdleTimeout:       2 * time.Minute, // longer than API servers keep a connection (90 s): a request may meet the end of one
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          zap.NewStdLog(log),
		},
		listeners: listeners,
		done:      make(chan error, len(listeners)),
	}
	serve := s.server.Serve
	if secure != nil {
		s.server.Protocols = new(http.Protocols)
		s.server.Protocols.SetHTTP1(true)
		for i, l := range listeners {
			listeners[i] = netutil.LimitListener(l, maxSecure)
		}
		serve = func(l net.Listener) error { return s.server.ServeTLS(l, "", "") } // the certificate is the configuration's
	}
	for _, l := range listeners {
		go func() { s.done <- serve(l) }()
	}
	return s, nil
}

// Addr is the first address that is listened on.
func (s *httpServer) Addr() net.Addr { return s.listeners[0].Addr() }

// Close answers what has been asked, within ctx, and waits for the listeners' goroutines.
func (s *httpServer) Close(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	for range s.listeners {
		if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}

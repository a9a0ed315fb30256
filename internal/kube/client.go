// Package kube is a client for the few requests that the injector makes of the Kubernetes API. It reads and writes the types of
// k8s.io/api over net/http; caches, watches and the rest of a full client are not needed here, and would weigh more than the
// whole program.
package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// serviceAccount is where the kubelet mounts what a pod needs to speak to the API.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// Timeout bounds each request whose context ends no earlier.
const Timeout = 10 * time.Second

// Config says where the API is and who asks.
type Config struct {
	URL       string // such as https://10.0.0.1:443
	TokenFile string // holds the bearer token, read again as it rotates; none if empty
	CAFile    string // PEM, read for each new connection; the system's roots if empty
	UserAgent string

	// Transport carries the requests in place of the network; nil but in tests.
	Transport http.RoundTripper
}

// InCluster is the configuration of a pod's service account.
func InCluster() (Config, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return Config{}, errors.New("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this runs in a pod of Kubernetes")
	}
	token := filepath.Join(serviceAccount, "token")
	if _, err := os.Stat(token); err != nil {
		return Config{}, fmt.Errorf("no service account token: %w: does the pod say automountServiceAccountToken: false?", err)
	}
	return Config{
		URL:       "https://" + net.JoinHostPort(host, port),
		TokenFile: token,
		CAFile:    filepath.Join(serviceAccount, "ca.crt"),
	}, nil
}

// Client asks one API server. It may be used by many goroutines.
type Client struct {
	base      *url.URL
	token     *tokenFile
	userAgent string
	http      *http.Client
}

// New makes a client; it connects with the first request.
func New(c Config) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(c.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("%q is not the URL of a Kubernetes API: write one such as https://10.0.0.1:443", c.URL)
	}
	transport := c.Transport
	if transport == nil {
		transport = newTransport(c.CAFile)
	}
	return &Client{
		base: base, token: &tokenFile{path: c.TokenFile}, userAgent: c.UserAgent,
		http: &http.Client{
			Transport: transport,
			// The API redirects nobody, and the token is for nobody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// newTransport speaks HTTP/1.1: a request that times out closes its connection, so that a dead one is not met again.
func newTransport(caFile string) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		DialContext: dialer.DialContext,
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			roots, err := readRoots(caFile)
			if err != nil {
				return nil, err
			}
			secure := tls.Dialer{NetDialer: dialer, Config: &tls.Config{
				RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			}}
			return secure.DialContext(ctx, network, address)
		},
		MaxIdleConns:           8,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  Timeout,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return roots, nil
}

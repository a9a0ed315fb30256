package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Build gives the client configuration for one dial, or nil where TLS is off. The files are read at each call: build one
// for each new connection, and a rotated certificate or CA is used from then on. (One lasting configuration cannot verify
// a server by roots of the moment and by IP address: VerifyConnection is not told the address.)
func (t TLSConfig) Build() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	config := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		roots, err := t.roots()
		if err != nil {
			return nil, err
		}
		config.RootCAs = roots
	}
	if t.CertFile != "" {
		certificate, err := t.certificate()
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

func (t TLSConfig) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%s %s", t.CAFile, fileProblem(err))
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", t.CAFile)
	}
	return roots, nil
}

func (t TLSConfig) certificate() (tls.Certificate, error) {
	certificate, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s with %s: %w", t.CertFile, t.KeyFile, err)
	}
	return certificate, nil
}

package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
)

// filesInterval is how often files are read: reading finds every way in which they are replaced.
const filesInterval = time.Second

// Files serve a certificate that somebody else makes and renews, such as cert-manager by a mounted Secret: tls.crt and tls.key
// in a directory.
type Files struct {
	dir     string
	log     *zap.Logger
	metrics *Metrics

	served atomic.Pointer[pair]
	failed atomic.Pointer[string] // what is wrong with the files

	logged string // belongs to Run
}

// NewFiles reads nothing until Run.
func NewFiles(dir string, log *zap.Logger, metrics *Metrics) *Files {
	f := &Files{dir: dir, log: log, metrics: metrics}
	f.failed.Store(ptr("the files have not been read yet"))
	return f
}

// Run follows the files until ctx ends. What cannot be used is left alone, and what is served stays: while files are being
// replaced, key and certificate may not belong together for a moment.
func (f *Files) Run(ctx context.Context) {
	for {
		f.look()
		if !pause(ctx, jittered(filesInterval), nil) {
			return
		}
	}
}

func (f *Files) look() {
	p, err := f.read()
	if err != nil {
		message := err.Error()
		if last := f.failed.Swap(&message); last != nil && *last == message && f.logged != message {
			f.logged = message // it has lasted for two looks
			f.log.Error("the certificate cannot be read; what is served stays", zap.String("dir", f.dir), zap.Error(err))
		}
		return
	}
	f.failed.Store(nil)
	f.logged = ""
	if served := f.served.Load(); served != nil && bytes.Equal(served.certPEM, p.certPEM) && bytes.Equal(served.keyPEM, p.keyPEM) {
		return
	}
	f.served.Store(p)
	f.metrics.expiry.Set(float64(p.leaf.NotAfter.Unix()))
	f.log.Info("certificate in use", zap.Time("expires", p.leaf.NotAfter), zap.Strings("names", p.leaf.DNSNames))
}

func (f *Files) read() (*pair, error) {
	cert, err := os.ReadFile(filepath.Join(f.dir, corev1.TLSCertKey))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(f.dir, corev1.TLSPrivateKeyKey))
	if err != nil {
		return nil, err
	}
	p, err := parsePair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.dir, err)
	}
	return p, nil
}

// GetCertificate gives the certificate to serve, for a tls.Config.
func (f *Files) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p := f.served.Load()
	if p == nil {
		return nil, errors.New("no certificate has been read yet")
	}
	return p.tls, nil
}

// Ready returns nil once there is a certificate to serve.
func (f *Files) Ready() error {
	if f.served.Load() != nil {
		return nil
	}
	if why := f.failed.Load(); why != nil {
		return errors.New("certificate: " + *why)
	}
	return nil
}

package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// authorityName is the common name of every authority made here, by which one is known in a bundle.
const authorityName = "readthrough webhook"

// backdated is how far before now a certificate begins, so that it is valid for an API server whose clock is behind.
const backdated = time.Hour

// pair is a serving certificate with its key, and the authority that signed it where that is known.
type pair struct {
	certPEM, keyPEM []byte
	leaf            *x509.Certificate
	tls             *tls.Certificate
}

// issue makes an authority and a certificate of it for the names. The authority's key is thrown away: it signs nothing else.
func issue(names []string, now time.Time, lifetime time.Duration) (*pair, *x509.Certificate, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	// Without a serial number of the template, a random one is made.
	template := x509.Certificate{
		Subject:               pkix.Name{CommonName: authorityName},
		NotBefore:             now.Add(-backdated),
		NotAfter:              now.Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	authority, err := sign(&template, &template, caKey.Public(), caKey)
	if err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		DNSNames:    names,
		NotBefore:   template.NotBefore,
		NotAfter:    template.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, authority, key.Public(), caKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	p, err := parsePair(encodeCertificates(leaf), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return p, authority, err
}

func sign(template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// parsePair reads a certificate, chain included, and its key, both PEM.
func parsePair(certPEM, keyPEM []byte) (*pair, error) {
	certificate, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	if certificate.Leaf == nil {
		if certificate.Leaf, err = x509.ParseCertificate(certificate.Certificate[0]); err != nil {
			return nil, err
		}
	}
	return &pair{certPEM: certPEM, keyPEM: keyPEM, leaf: certificate.Leaf, tls: &certificate}, nil
}

// verify says what is wrong with the pair for a server of the names, to a client that trusts the bundle.
func (p *pair) verify(bundle []*x509.Certificate, names []string, now time.Time) error {
	if p == nil {
		return errors.New("there is none")
	}
	_, err := p.leaf.Verify(x509.VerifyOptions{Roots: pool(bundle), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.leaf.VerifyHostname(name); err != nil {
			return err
		}
	}
	return nil
}

// due is when the pair is to be replaced: after two thirds of its life, so that there is time for what may go wrong. A lifetime
// that has been made shorter since counts for it too.
func (p *pair) due(lifetime time.Duration) time.Time {
	begin := p.leaf.NotBefore.Add(backdated)
	return begin.Add(min(p.leaf.NotAfter.Sub(begin), lifetime) * 2 / 3)
}

// sameAs reports whether both are the same certificate.
func (p *pair) sameAs(other *pair) bool {
	return p != nil && other != nil && p.leaf.Equal(other.leaf)
}

// authorityOf is the certificate of the bundle that signed the pair's, or nil.
func (p *pair) authorityOf(bundle []*x509.Certificate) *x509.Certificate {
	i := slices.IndexFunc(bundle, func(ca *x509.Certificate) bool { return p.leaf.CheckSignatureFrom(ca) == nil })
	if i < 0 {
		return nil
	}
	return bundle[i]
}

func pool(bundle []*x509.Certificate) *x509.CertPool {
	roots := x509.NewCertPool()
	for _, ca := range bundle {
		roots.AddCert(ca)
	}
	return roots
}

// encodeCertificates gives the certificates as PEM, one after the other.
func encodeCertificates(certificates ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

// parseCertificates reads the certificates of a bundle, and leaves out what is none.
func parseCertificates(bundle []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return all
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, c)
		}
	}
}

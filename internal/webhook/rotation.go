package webhook

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The keys of the Secret that the replicas share. tls.crt, tls.key and ca.crt are those of every TLS Secret.
const (
	currentCert = corev1.TLSCertKey
	currentKey  = corev1.TLSPrivateKeyKey
	bundleKey   = "ca.crt"
	nextCert    = "next.crt"
	nextKey     = "next.key"
)

// certificates are what the Secret holds. A rotation goes
//
//	steady   current                 bundle: its authority, and the one before
//	offered  current and next        bundle: the authorities of both
//	steady   current, which was next bundle: unchanged
//
// and from the second line to the third only after API servers have had time to take the bundle in. So what is served is
// trusted at every moment, by API servers that have the latest bundle and by those that have the one before. The very first
// certificate, and one that replaces what cannot be read, is offered as well: who has nothing else serves it meanwhile.
type certificates struct {
	current, next *pair // nil where there is none that can be used
	bundle        []*x509.Certificate
	foreign       []string // what else was read, and why it cannot be used
}

// rotation is how certificates follow each other.
type rotation struct {
	names    []string      // that a certificate is for
	lifetime time.Duration // of a certificate
}

// maxKept bounds the authorities that are kept for the sake of what may still be served.
const maxKept = 4

// read takes the certificates from the Secret's data. What is no certificate for our names, or not trusted by the bundle, is
// told as foreign.
func (r rotation) read(data map[string][]byte, now time.Time) certificates {
	c := certificates{bundle: parseCertificates(data[bundleKey])}
	take := func(cert, key string) *pair {
		if len(data[cert]) == 0 && len(data[key]) == 0 {
			return nil
		}
		p, err := parsePair(data[cert], data[key])
		if err == nil {
			err = p.verify(c.bundle, r.names, now)
		}
		if err != nil {
			c.foreign = append(c.foreign, cert+": "+err.Error())
			return nil
		}
		return p
	}
	c.current = take(currentCert, currentKey)
	c.next = take(nextCert, nextKey)
	return c
}

// write puts the certificates into the Secret's data, and takes everything else out.
func (c certificates) write() map[string][]byte {
	data := map[string][]byte{bundleKey: encodeCertificates(c.bundle...)}
	if c.current != nil {
		data[currentCert], data[currentKey] = c.current.certPEM, c.current.keyPEM
	}
	if c.next != nil {
		data[nextCert], data[nextKey] = c.next.certPEM, c.next.keyPEM
	}
	return data
}

// step is what a rotation does next.
type step string

const (
	stay    step = "stay"
	offer   step = "offer"   // a next certificate and its authority
	promote step = "promote" // the next certificate to the current one
	tidy    step = "tidy"    // away what has expired, and what cannot be used
)

// step decides. settled says that the bundle has been in place for long enough.
func (r rotation) step(c certificates, settled bool, now time.Time) step {
	switch {
	case c.next != nil && settled:
		return promote
	case c.next == nil && (c.current == nil || !now.Before(c.current.due(r.lifetime))):
		return offer
	case len(c.foreign) > 0 || slices.ContainsFunc(c.bundle, expired(now)):
		return tidy
	}
	return stay
}

// take does a step. trusted is what API servers trust by now.
func (r rotation) take(s step, c certificates, trusted []*x509.Certificate, now time.Time) (certificates, error) {
	switch s {
	case offer:
		return r.offer(c, trusted, now)
	case promote:
		// The bundle keeps the authority of the one before, which some replica may still serve, until the next rotation.
		return certificates{current: c.next, bundle: c.bundle}, nil
	case tidy:
		c.bundle, c.foreign = slices.DeleteFunc(slices.Clone(c.bundle), expired(now)), nil
	case stay:
	}
	return c, nil
}

// offer adds a next certificate. Where the Secret does not tell what is served, what API servers trust is kept too.
func (r rotation) offer(c certificates, trusted []*x509.Certificate, now time.Time) (certificates, error) {
	next, authority, err := issue(r.names, now, r.lifetime)
	if err != nil {
		return c, err
	}
	var kept []*x509.Certificate
	if c.current != nil {
		kept = []*x509.Certificate{c.current.authorityOf(c.bundle)}
	} else {
		kept = newest(slices.Concat(c.bundle, trusted), now)
	}
	return certificates{current: c.current, next: next, bundle: append(kept, authority)}, nil
}

func expired(now time.Time) func(*x509.Certificate) bool {
	return func(c *x509.Certificate) bool { return now.After(c.NotAfter) }
}

// newest lists the latest authorities made here that have not expired, each once.
func newest(bundle []*x509.Certificate, now time.Time) []*x509.Certificate {
	bundle = slices.DeleteFunc(slices.Clone(bundle), func(c *x509.Certificate) bool {
		return !c.IsCA || c.Subject.CommonName != authorityName || now.After(c.NotAfter)
	})
	slices.SortFunc(bundle, func(a, b *x509.Certificate) int {
		if order := b.NotBefore.Compare(a.NotBefore); order != 0 {
			return order
		}
		return bytes.Compare(a.Raw, b.Raw)
	})
	bundle = slices.CompactFunc(bundle, (*x509.Certificate).Equal)
	return bundle[:min(len(bundle), maxKept)]
}

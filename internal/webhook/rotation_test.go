package webhook

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"
)

var testRotation = rotation{names: []string{"readthrough.rt.svc", "readthrough"}, lifetime: 90 * 24 * time.Hour}

func TestSteps(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := testRotation
	var c certificates
	take := func(want step, settled bool, now time.Time) {
		t.Helper()
		// What the Secret has kept is what counts.
		if c = r.read(c.write(), now); len(c.foreign) > 0 {
			t.Fatalf("foreign: %q", c.foreign)
		}
		if got := r.step(c, settled, now); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		var err error
		if c, err = r.take(want, c, nil, now); err != nil {
			t.Fatal(err)
		}
	}
	take(offer, false, start)
	first := c.next
	if c.current != nil || len(c.bundle) != 1 {
		t.Fatalf("%+v", c)
	}
	take(stay, false, start)
	take(promote, true, start)
	if !c.current.sameAs(first) || c.next != nil {
		t.Fatalf("%+v", c)
	}
	take(stay, true, start.Add(60*24*time.Hour-time.Second))
	take(offer, true, start.Add(60*24*time.Hour))
	second := c.next
	if !c.current.sameAs(first) || len(c.bundle) != 2 || second.sameAs(first) {
		t.Fatalf("%+v", c)
	}
	take(stay, false, start.Add(61*24*time.Hour))
	take(promote, true, start.Add(61*24*time.Hour))
	if !c.current.sameAs(second) || len(c.bundle) != 2 {
		t.Fatalf("%+v", c)
	}
	if err := first.verify(c.bundle, r.names, start.Add(61*24*time.Hour)); err != nil {
		t.Errorf("what a slow replica still serves: %v", err)
	}
	// The first one's authority has expired.
	take(tidy, true, start.Add(90*24*time.Hour+time.Second))
	take(stay, true, start.Add(90*24*time.Hour+time.Second))
	if len(c.bundle) != 1 || !c.current.sameAs(second) {
		t.Fatalf("%+v", c)
	}
	// An outage of months: what is current has expired, and begins anew.
	late := start.Add(200 * 24 * time.Hour)
	if c = r.read(c.write(), late); c.current != nil || len(c.foreign) != 1 || r.step(c, true, late) != offer {
		t.Errorf("%+v", c)
	}
}

// TestShorterLifetime replaces a certificate by the lifetime of today, if that is the shorter one.
func TestShorterLifetime(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	before := testRotation
	c, err := before.take(offer, certificates{}, nil, start)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = before.take(promote, c, nil, start); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct {
		lifetime time.Duration
		due      time.Duration
	}{{3 * time.Hour, 2 * time.Hour}, {3 * before.lifetime, 2 * before.lifetime / 3}} {
		r := before
		r.lifetime = change.lifetime
		if got := r.step(c, true, start.Add(change.due-time.Second)); got != stay {
			t.Errorf("lifetime %v: %s ahead of %v, want %s", change.lifetime, got, change.due, stay)
		}
		if got := r.step(c, true, start.Add(change.due)); got != offer {
			t.Errorf("lifetime %v: %s after %v, want %s", change.lifetime, got, change.due, offer)
		}
	}
}

// TestOfferedAndExpired promotes what was offered before an outage, past the end of the current certificate.
func TestOfferedAndExpired(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := testRotation
	c, err := r.offer(certificates{}, nil, start)
	if err != nil {
		t.Fatal(err)
	}
	c = certificates{current: c.next, bundle: c.bundle}
	if c, err = r.offer(c, nil, start.Add(60*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	now := start.Add(91 * 24 * time.Hour)
	next := c.next
	if c = r.read(c.write(), now); c.current != nil || !c.next.sameAs(next) || r.step(c, true, now) != promote {
		t.Errorf("%+v, %s", c, r.step(c, true, now))
	}
}

// TestKept bounds what is trusted for the sake of what may still be served, and keeps no authority of others.
func TestKept(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var bundle []*x509.Certificate
	for i := range 2 * maxKept {
		_, authority, err := issue(testRotation.names, now.Add(time.Duration(i)*time.Minute), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		bundle = append(bundle, authority)
	}
	latest := bundle[len(bundle)-maxKept:]
	leaf, gone, err := issue(testRotation.names, now.Add(-2*time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	got := newest(slices.Concat(bundle, []*x509.Certificate{leaf.leaf, gone}, bundle), now.Add(10*time.Minute))
	slices.Reverse(got)
	if !slices.EqualFunc(got, latest, (*x509.Certificate).Equal) {
		t.Errorf("%d kept", len(got))
	}
}

func TestIssued(t *testing.T) {
	now := time.Now()
	p, authority, err := issue(testRotation.names, now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	bundle := []*x509.Certificate{authority}
	if err := p.verify(bundle, testRotation.names, now); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another name":      p.verify(bundle, []string{"elsewhere"}, now),
		"no authority":      p.verify(nil, testRotation.names, now),
		"too late":          p.verify(bundle, testRotation.names, now.Add(2*time.Hour)),
		"too early":         p.verify(bundle, testRotation.names, now.Add(-2*time.Hour)),
		"no certificate":    (*pair)(nil).verify(bundle, testRotation.names, now),
		"another authority": p.verify(authorityAlone(issue(testRotation.names, now, time.Hour)), testRotation.names, now),
	} {
		if err == nil {
			t.Errorf("%s: trusted", name)
		}
	}
	if p.leaf.IsCA || p.leaf.KeyUsage != x509.KeyUsageDigitalSignature || authority.KeyUsage != x509.KeyUsageCertSign || !authority.MaxPathLenZero {
		t.Errorf("leaf %v, authority %v", p.leaf.KeyUsage, authority.KeyUsage)
	}
	if len(parseCertificates(append([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), encodeCertificates(authority)...))) != 1 {
		t.Error("a bundle with what is no certificate")
	}
}

func authorityAlone(_ *pair, authority *x509.Certificate, err error) []*x509.Certificate {
	if err != nil {
		panic(err)
	}
	return []*x509.Certificate{authority}
}

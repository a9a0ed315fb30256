package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for 127.0.0.1.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue gives a certificate and its key as PEM.
func (a authority) issue(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8)
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (a authority) pem() string { return encode("CERTIFICATE", a.certificate.Raw) }

// handshake connects with the client's configuration of now and returns the name that the server saw.
func handshake(t *testing.T, client TLSConfig, server *tls.Config) (seen string, err error) {
	t.Helper()
	config, err := client.Build()
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	names := make(chan string, 1)
	go func() {
		defer close(names)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		secure := conn.(*tls.Conn)
		if secure.Handshake() == nil {
			names <- secure.ConnectionState().PeerCertificates[0].Subject.CommonName
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), config)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return <-names, nil
}

// TestTLSFilesAreReadAgain replaces the client's certificate, and then the authority on both sides.
func TestTLSFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	client := TLSConfig{Enabled: true, CAFile: filepath.Join(dir, "ca"), CertFile: filepath.Join(dir, "crt"), KeyFile: filepath.Join(dir, "key")}
	serverOf := func(a authority) *tls.Config {
		certificate, key := a.issue(t, "redis")
		pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(a.certificate)
		return &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	}
	install := func(ca, issuer authority, name string) {
		certificate, key := issuer.issue(t, name)
		writeFile(t, dir, "ca", ca.pem())
		writeFile(t, dir, "crt", certificate)
		writeFile(t, dir, "key", key)
	}
	first, second := newAuthority(t, "first"), newAuthority(t, "second")

	for _, name := range []string{"one", "two"} {
		install(first, first, name)
		if seen, err := handshake(t, client, serverOf(first)); err != nil || seen != name {
			t.Errorf("the server saw %q, %v, want %s", seen, err, name)
		}
	}
	if _, err := handshake(t, client, serverOf(second)); err == nil {
		t.Error("a server of another authority was accepted")
	}
	install(second, second, "three")
	if seen, err := handshake(t, client, serverOf(second)); err != nil || seen != "three" {
		t.Errorf("after the rotation the server saw %q, %v", seen, err)
	}
	client.ServerName = "redis.example"
	if _, err := handshake(t, client, serverOf(second)); err == nil {
		t.Error("a certificate without the configured server name was accepted")
	}
}

func TestTLSRefusesOldVersions(t *testing.T) {
	config, err := TLSConfig{Enabled: true}.Build()
	if err != nil || config.MinVersion != tls.VersionTLS12 {
		t.Errorf("%+v, %v", config, err)
	}
	if config, err := (TLSConfig{}).Build(); config != nil || err != nil {
		t.Errorf("off: %+v, %v", config, err)
	}
}

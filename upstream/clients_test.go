package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// authority issues the certificates of a test.
type authority struct {
	dir, file string
	pool      *x509.CertPool
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir(), pool: x509.NewCertPool()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.file, _, a.key = a.write(t, "ca", a.cert, nil)
	der, _ := pem.Decode([]byte(readFile(t, a.file)))
	cert, err := x509.ParseCertificate(der.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	a.cert = cert
	a.pool.AddCert(cert)
	return a
}

// issue writes a certificate for the loopback addresses and its key.
func (a *authority) issue(t *testing.T, name string) (cert, key string) {
	t.Helper()
	cert, key, _ = a.write(t, name, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.key)
	return cert, key
}

func (a *authority) write(t *testing.T, name string, template *x509.Certificate, signer *ecdsa.PrivateKey) (certFile, keyFile string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, key
}

// The password of a user is rotated as one should - the new one added, the file changed, the old one removed, connections
// killed - while fills go on. None may fail.
func TestRotationUnderLoad(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	server.cli("ACL", "SETUSER", "app", "on", ">one", "~*", "+@all")
	pass := &password{user: "app", text: "one"}
	f := discover(t, &Options{Addresses: []string{server.addr()}, Credentials: pass.credentials})
	f.await(t)
	leases := newLeases(f.clients, f.topology, f.Refresh)

	ctx, stop := context.WithCancel(context.Background())
	var fills, failed atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Appendf(nil, "k:%d:%d", w, i)
				if _, err := store(leases, string(key)); err != nil {
					failed.Add(1)
					t.Errorf("after %d fills: %v", fills.Load(), err)
					return
				}
				fills.Add(1)
			}
		})
	}
	progress := func() {
		t.Helper()
		from := fills.Load()
		eventually(t, 10*time.Second, "fills go on", func() bool { return fills.Load() > from+100 || failed.Load() > 0 })
	}
	old := "one"
	for _, next := range []string{"two", "three", "four"} {
		progress()
		server.cli("ACL", "SETUSER", "app", ">"+next)
		pass.set(next)
		progress()
		if err := f.clients.reauthenticate(context.Background()); err != nil {
			t.Error(err)
		}
		server.cli("ACL", "SETUSER", "app", "<"+old)
		progress()
		server.cli("CLIENT", "KILL", "USER", "app")
		old = next
	}
	progress()
	stop()
	wg.Wait()
}

func TestReauthenticate(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1", "--requirepass", "one")
	admin := func(args ...string) string {
		return server.cli(append([]string{"--no-auth-warning", "-a", "one"}, args...)...)
	}
	admin("ACL", "SETUSER", "admin", "on", ">admin", "+@all", "~*")
	admin = func(args ...string) string {
		return server.cli(append([]string{"--no-auth-warning", "--user", "admin", "-a", "admin"}, args...)...)
	}
	pass := &password{text: "one"}
	cs := newClients(&Options{Credentials: pass.credentials, ClientName: "ours"})
	t.Cleanup(cs.close)
	c := cs.get(server.addr())
	ping := func() {
		t.Helper()
		if _, err := c.do(context.Background(), []string{"PING"}); err != nil {
			t.Fatal(err)
		}
	}
	ours := func() string {
		for line := range strings.Lines(admin("CLIENT", "LIST")) {
			if strings.Contains(line, "name=ours") {
				return strings.Fields(line)[0]
			}
		}
		return ""
	}
	auths := func() int { return strings.Count(admin("INFO", "commandstats"), "cmdstat_auth:") }
	ping()
	connection := ours()
	if connection == "" {
		t.Fatal("no connection")
	}
	if err := cs.reauthenticate(context.Background()); err != nil {
		t.Fatal(err)
	}

	// The file changes before the server does: an error, and the connection stays as it is.
	pass.set("two")
	err := cs.reauthenticate(context.Background())
	if err == nil || !strings.Contains(err.Error(), "WRONGPASS") || !strings.Contains(err.Error(), server.addr()) {
		t.Errorf("error %v", err)
	}
	ping()

	before := admin("INFO", "commandstats")
	admin("ACL", "SETUSER", "default", ">two", "<one")
	if err := cs.reauthenticate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if auths() == 0 {
		t.Errorf("no AUTH was sent: %s", before)
	}
	ping()
	if got := ours(); got != connection {
		t.Errorf("connection %s became %s", connection, got)
	}
}

// A node that takes commands and never answers costs each call its deadline, never more, and no end of memory.
func TestHungNode(t *testing.T) {
	noLeaks(t)
	hang := make(chan struct{})
	addr := fakeRedis(t, func(args []string) string {
		if args[0] == "HELLO" {
			return "%1\r\n+proto\r\n:3\r\n"
		}
		<-hang
		return "+late\r\n"
	})
	t.Cleanup(func() { close(hang) })
	cs := newClients(&Options{})
	c := cs.get(addr)
	var wg sync.WaitGroup
	begun := time.Now()
	for range 4 * inFlight {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
			defer cancel()
			if _, err := c.do(ctx, []string{"PING"}); err == nil {
				t.Error("an answer from a node that hangs")
			}
		})
	}
	wg.Wait()
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("calls with 200 ms took %v", took)
	}
	if n := len(c.places); n != inFlight {
		t.Errorf("%d calls in flight, want the bound %d", n, inFlight)
	}
	begun = time.Now()
	cs.close()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("close took %v", took)
	}
}

func TestClosedClients(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	cs := newClients(&Options{})
	c := cs.get(server.addr())
	if _, err := c.do(context.Background(), []string{"PING"}); err != nil {
		t.Fatal(err)
	}
	cs.close()
	for _, c := range []*client{c, cs.get(server.addr())} {
		if _, err := c.do(context.Background(), []string{"PING"}); err == nil {
			t.Error("a call after close succeeded")
		}
	}
	eventually(t, 5*time.Second, "only redis-cli is connected", func() bool {
		return strings.Count(server.cli("CLIENT", "LIST"), "id=") == 1
	})
}

func TestRetain(t *testing.T) {
	noLeaks(t)
	stay, go1 := startRedis(t, "127.0.0.1"), startRedis(t, "127.0.0.1")
	cs := newClients(&Options{ClientName: "ours"})
	t.Cleanup(cs.close)
	for _, s := range []*redisServer{stay, go1} {
		if _, err := cs.get(s.addr()).do(context.Background(), []string{"PING"}); err != nil {
			t.Fatal(err)
		}
	}
	cs.retain([]Node{{Addr: stay.addr()}})
	eventually(t, 5*time.Second, "the connection is closed", func() bool { return !strings.Contains(go1.cli("CLIENT", "LIST"), "name=ours") })
	if !strings.Contains(stay.cli("CLIENT", "LIST"), "name=ours") {
		t.Error("the connection to retain is gone")
	}
}

// What a port that is not Redis's sends must end in an error.
func TestNotRedis(t *testing.T) {
	noLeaks(t)
	for _, greeting := range []string{
		"HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\x15\x03\x01\x00\x02\x02\x46", "$-7\r\n", "*-9\r\n",
		"$9223372036854775807\r\n", "*9223372036854775807\r\n", "-ASK\r\n", "-MOVED\r\n", "\r\n",
	} {
		addr := fakeRedis(t, func([]string) string { return greeting })
		cs := newClients(&Options{})
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		if _, err := cs.get(addr).do(ctx, []string{"PING"}); err == nil {
			t.Errorf("%q passed for Redis", greeting)
		}
		cancel()
		cs.close()
	}
}

// Holds the figures in the comment of clients.
func TestClientCost(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	const count = 100
	var heap [2]runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&heap[0])
	var sets []*clients
	for range count {
		cs := newClients(&Options{ClientName: "ours"})
		sets = append(sets, cs)
		c := cs.get(server.addr())
		var wg sync.WaitGroup
		for range 4 { // calls that overlap start rueidis' goroutines
			wg.Go(func() {
				if _, err := c.do(context.Background(), []string{"PING"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	runtime.GC()
	runtime.ReadMemStats(&heap[1])
	each := (int64(heap[1].HeapAlloc+heap[1].StackInuse) - int64(heap[0].HeapAlloc+heap[0].StackInuse)) / count
	connections := strings.Count(server.cli("CLIENT", "LIST"), "name=ours")
	for _, cs := range sets {
		cs.close()
	}
	t.Logf("%d bytes and %d connections for %d clients", each, connections, count)
	if connections != count {
		t.Errorf("%d connections for %d clients", connections, count)
	}
	if each > 150<<10 {
		t.Errorf("a client costs %d bytes", each)
	}
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"readthrough/test/harness"
)

// TestWebhookAnswersBesideStalledReviews, though all come from one client, which would have them share a connection.
func TestWebhookAnswersBesideStalledReviews(t *testing.T) {
	w := startWebhook(t, nil)
	w.await(w.ready)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.bundle())
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "readthrough.rt.svc"}}
	defer transport.CloseIdleConnections()
	post := func(body io.Reader, length int64, timeout string) (int, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+w.listen+"/mutate?timeout="+timeout, body)
		if err != nil {
			return 0, err
		}
		r.ContentLength = length
		r.Header.Set("Content-Type", "application/json")
		answer, err := transport.RoundTrip(r)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	}
	small := func() error {
		body := "{" + strings.Repeat(" ", 30<<10)
		if code, err := post(strings.NewReader(body), int64(len(body)), "5s"); code != http.StatusBadRequest {
			return fmt.Errorf("%d, %w", code, err)
		}
		return nil
	}
	if err := small(); err != nil {
		t.Fatal(err)
	}

	// Each sends the first part of what it has, and then nothing: one is read, the others wait for it.
	const all, sent = 8 << 20, 3 << 20
	var stalled sync.WaitGroup
	var under atomic.Int32
	answers := make(chan int, 3)
	for range cap(answers) {
		rest, sender := io.Pipe()
		stalled.Go(func() {
			defer func() { _ = rest.Close() }()
			code, err := post(io.MultiReader(strings.NewReader(strings.Repeat(" ", 64<<10)), started(&under), strings.NewReader(strings.Repeat(" ", sent)), rest), all, "5s")
			if err != nil { // the server answers and closes while we send
				code = 0
			}
			answers <- code
		})
		defer func() { _ = sender.Close() }()
	}
	w.await(func() error {
		if n := under.Load(); n < 3 {
			return fmt.Errorf("%d are under way", n)
		}
		return nil
	})
	for range 5 {
		began := time.Now()
		if err := small(); err != nil {
			t.Fatalf("a small one, after %s: %v", time.Since(began), err)
		}
	}
	if len(answers) > 0 {
		t.Error("small ones had to wait for those that stall")
	}
	stalled.Wait()
	for range cap(answers) {
		if code := <-answers; code != 0 && code != http.StatusRequestTimeout && code != http.StatusServiceUnavailable {
			t.Errorf("one that stalled: %d", code)
		}
	}
	if err := small(); err != nil {
		t.Error(err)
	}
	transport.CloseIdleConnections()
	w.end()
}

// started counts when it is read.
func started(n *atomic.Int32) io.Reader {
	var once sync.Once
	return readerFunc(func([]byte) (int, error) {
		once.Do(func() { n.Add(1) })
		return 0, io.EOF
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestSecureConnectionsAreBounded: one more is accepted when another has ended.
func TestSecureConnectionsAreBounded(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	c, err := harness.MustCA(t).Server("localhost")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	var held atomic.Int32
	release := make(chan struct{})
	hold := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		held.Add(1)
		<-release
	})
	s, err := serveHTTPS("127.0.0.1:0", hold, time.Minute, &tls.Config{Certificates: []tls.Certificate{certificate}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	var asking sync.WaitGroup
	for range maxSecure {
		asking.Go(func() {
			r, err := (&http.Client{Transport: transport}).Get("https://" + s.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			r.Body.Close()
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := harness.Poll(ctx, func() error {
		if n := held.Load(); n < maxSecure {
			return fmt.Errorf("%d are served", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	one, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	more := tls.Client(one, &tls.Config{InsecureSkipVerify: true})
	_ = more.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if err := more.Handshake(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one more than there may be: %v", err)
	}
	close(release)
	asking.Wait()
	transport.CloseIdleConnections()
	if r, err := (&http.Client{Transport: transport}).Get("https://" + s.Addr().String()); err != nil {
		t.Error(err)
	} else {
		r.Body.Close()
	}
	transport.CloseIdleConnections()
	one.Close()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

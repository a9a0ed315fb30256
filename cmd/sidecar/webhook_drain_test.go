package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWebhookDrainEndsConnections with an answer that says so, before they could be closed while a review is on its way.
func TestWebhookDrainEndsConnections(t *testing.T) {
	w := startWebhook(t, func(o *webhookOptions) { o.drain = time.Hour })
	w.await(w.ready)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.bundle())
	transport := &http.Transport{ // HTTP/1.1, as API servers speak to webhooks
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "readthrough.rt.svc", NextProtos: []string{"http/1.1"}},
	}
	defer transport.CloseIdleConnections()
	post := func() (reused, last bool) {
		t.Helper()
		trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }}
		r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, "https://"+w.listen+"/mutate", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, answer.Body) // what is read to its end leaves a connection that can be used again
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return reused, answer.Close
	}

	post()
	if reused, last := post(); !reused || last {
		t.Fatalf("before the drain, a connection is used again: %v, and ends with its answer: %v", reused, last)
	}
	w.signals <- syscall.SIGTERM
	w.await(func() error {
		if _, last := post(); !last {
			return errors.New("the connection stays")
		}
		return nil
	})
	if reused, last := post(); reused || !last {
		t.Fatalf("in the drain, a connection is used again: %v, and ends with its answer: %v", reused, last)
	}
	w.signals <- syscall.SIGTERM
	if err := <-w.ended; exitCode(err) != 143 {
		t.Errorf("second signal: %v", err)
	}
}

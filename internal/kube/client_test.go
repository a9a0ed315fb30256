package kube

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"readthrough/test/harness"
	"readthrough/test/kubeapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	configMapPath  = "/api/v1/namespaces/shop/configmaps/readthrough"
	secretPath     = "/api/v1/namespaces/shop/secrets/certificate"
	leasePath      = "/apis/coordination.k8s.io/v1/namespaces/shop/leases/injector"
	mutatingPath   = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/readthrough"
	validatingPath = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/readthrough"
)

// wire is an API server behind TLS, and a client of it.
type wire struct {
	api *kubeapi.Server
	*Client
	tokenFile string
	token     atomic.Value // the last one that was sent
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{api: kubeapi.New()}
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.token.Store(r.Header.Get("Authorization"))
		w.api.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	w.tokenFile = filepath.Join(dir, "token")
	write(t, w.tokenFile, "first\n")
	write(t, filepath.Join(dir, "ca.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	client, err := New(Config{URL: server.URL, TokenFile: w.tokenFile, CAFile: filepath.Join(dir, "ca.crt"), UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w.Client = client
	return w
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReads(t *testing.T) {
	w := newWire(t)
	w.api.Put(t, configMapPath, corev1.ConfigMap{Data: map[string]string{"readthrough.yaml": "maps: []"}})
	cm, err := w.ConfigMap(t.Context(), "shop", "readthrough")
	if err != nil || cm.Data["readthrough.yaml"] != "maps: []" || cm.Name != "readthrough" {
		t.Errorf("%+v, %v", cm, err)
	}
	if got := w.token.Load(); got != "Bearer first" {
		t.Errorf("token %q", got)
	}
	if v, err := w.Version(t.Context()); err != nil || v.Major != "1" || v.Minor != "34" {
		t.Errorf("version %+v, %v", v, err)
	}
	if cm, err := w.ConfigMap(t.Context(), "shop", "absent"); cm != nil || !IsNotFound(err) || IsConflict(err) {
		t.Errorf("absent: %+v, %v", cm, err)
	}
	if _, err := w.ConfigMap(t.Context(), "shop", ""); err == nil || !strings.Contains(err.Error(), "no name given") {
		t.Errorf("no name: %v", err)
	}
	w.api.Requests()
	for _, name := range []string{"..", ".", "a/b", "a%2fb"} {
		if _, err := w.ConfigMap(t.Context(), "shop", name); err == nil || !strings.Contains(err.Error(), "is not a name: it may not") {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := w.ConfigMap(t.Context(), name, "readthrough"); err == nil || !strings.Contains(err.Error(), "is not a name: it may not") {
			t.Errorf("namespace %q: %v", name, err)
		}
	}
	if got := w.api.Requests(); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}

// TestCompareAndSwap writes what was read, and what has changed since.
func TestCompareAndSwap(t *testing.T) {
	w, ctx := newWire(t), t.Context()
	w.api.Put(t, secretPath, corev1.Secret{})
	w.api.Put(t, leasePath, coordinationv1.Lease{})

	secret, err := w.Secret(ctx, "shop", "certificate")
	if err != nil {
		t.Fatal(err)
	}
	secret.Data = map[string][]byte{"tls.crt": []byte("x")}
	written, err := w.UpdateSecret(ctx, secret)
	if err != nil || string(written.Data["tls.crt"]) != "x" || written.ResourceVersion == secret.ResourceVersion {
		t.Fatalf("%+v, %v", written, err)
	}
	if got, err := w.UpdateSecret(ctx, secret); got != nil || !IsConflict(err) {
		t.Errorf("stale Secret: %+v, %v", got, err)
	}

	lease, err := w.Lease(ctx, "shop", "injector")
	if err != nil {
		t.Fatal(err)
	}
	holder := "a"
	lease.Spec.HolderIdentity = &holder
	if written, err := w.UpdateLease(ctx, lease); err != nil || *written.Spec.HolderIdentity != "a" {
		t.Fatalf("%+v, %v", written, err)
	}
	if _, err := w.UpdateLease(ctx, lease); !IsConflict(err) {
		t.Errorf("stale Lease: %v", err)
	}
}

func TestPatchBundles(t *testing.T) {
	w, ctx := newWire(t), t.Context()
	w.api.Put(t, mutatingPath, admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: make([]admissionregistrationv1.MutatingWebhook, 2)})
	w.api.Put(t, validatingPath, admissionregistrationv1.ValidatingWebhookConfiguration{Webhooks: make([]admissionregistrationv1.ValidatingWebhook, 1)})

	m, err := w.MutatingConfiguration(ctx, "readthrough")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.PatchMutatingBundles(ctx, m.Name, m.ResourceVersion, []byte("PEM"), 2); err != nil {
		t.Fatal(err)
	}
	if err := w.PatchMutatingBundles(ctx, m.Name, m.ResourceVersion, []byte("old"), 2); !IsConflict(err) {
		t.Errorf("stale: %v", err)
	}
	if m, err = w.MutatingConfiguration(ctx, "readthrough"); err != nil {
		t.Fatal(err)
	}
	for i, entry := range m.Webhooks {
		if string(entry.ClientConfig.CABundle) != "PEM" {
			t.Errorf("entry %d: %q", i, entry.ClientConfig.CABundle)
		}
	}
	v, err := w.ValidatingConfiguration(ctx, "readthrough")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.PatchValidatingBundles(ctx, v.Name, v.ResourceVersion, []byte("PEM"), 1); err != nil {
		t.Fatal(err)
	}
	if v, err = w.ValidatingConfiguration(ctx, "readthrough"); err != nil || string(v.Webhooks[0].ClientConfig.CABundle) != "PEM" {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestErrors has the server answer with what is no object.
func TestErrors(t *testing.T) {
	text := func(code int, body string) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(code)
			_, _ = rw.Write([]byte(body))
		})
	}
	for name, c := range map[string]struct {
		answer http.Handler
		want   string
	}{
		"forbidden": {
			kubeapi.Status(403, `secrets "certificate" is forbidden`),
			`the service account may not get secrets in namespace shop: give it that right by a Role and its RoleBinding (secrets "certificate" is forbidden)`,
		},
		"unauthorized": {kubeapi.Status(401, "Unauthorized"), "the API server does not accept the service account's token: Unauthorized"},
		"status":       {kubeapi.Status(500, "etcd is gone"), "GET " + secretPath + ": 500: etcd is gone"},
		"no status":    {text(502, "bad gateway\nof somebody"), "GET " + secretPath + ": 502: bad gateway"},
		"empty":        {text(503, ""), "GET " + secretPath + ": 503: Service Unavailable"},
		"redirect":     {http.RedirectHandler("/elsewhere", http.StatusFound), "GET " + secretPath + ": 302: <a href=\"/elsewhere\">Found</a>."},
		"not JSON":     {text(200, "<html>"), "GET " + secretPath + ": the answer is not what it should be: invalid character '<' looking for beginning of value"},
		"too large":    {text(200, strings.Repeat(" ", maxBody+1)), "GET " + secretPath + ": the answer is larger than 8 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			w.api.Before(func(*http.Request) http.Handler { return c.answer })
			_, err := w.Secret(t.Context(), "shop", "certificate")
			if err == nil || err.Error() != c.want {
				t.Errorf("error %v\nwant  %s", err, c.want)
			}
		})
	}
}

// TestRefusedTokenIsReadAgain does not wait for the token's life to end.
func TestRefusedTokenIsReadAgain(t *testing.T) {
	w := newWire(t)
	w.api.Put(t, secretPath, corev1.Secret{})
	w.api.Before(func(*http.Request) http.Handler {
		if w.token.Load() == "Bearer first" {
			return kubeapi.Status(401, "expired")
		}
		return nil
	})
	if _, err := w.Client.token.get(); err != nil {
		t.Fatal(err)
	}
	write(t, w.tokenFile, "second")
	for i := range 2 {
		if _, err := w.Secret(t.Context(), "shop", "certificate"); (err == nil) != (i == 1) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	write(t, w.tokenFile, "")
	w.Client.token.forget()
	if _, err := w.Secret(t.Context(), "shop", "certificate"); err == nil || !strings.HasSuffix(err.Error(), "token is empty") {
		t.Errorf("empty token: %v", err)
	}
}

func TestTokenRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "token")
		token := tokenFile{path: path}
		for _, c := range []struct {
			content string
			after   time.Duration
			want    string
		}{{"a", 0, "a"}, {"b", tokenLife - 1, "a"}, {"b", 1, "b"}} {
			write(t, path, c.content)
			time.Sleep(c.after)
			if got, err := token.get(); err != nil || got != c.want {
				t.Errorf("%q after %s: %q, %v", c.content, c.after, got, err)
			}
		}
	})
}

// TestSilentServer gives up in time, and when the caller does.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := kubeapi.New()
		api.Before(func(*http.Request) http.Handler { return kubeapi.Silence() })
		client, err := New(Config{URL: "http://api", Transport: api.RoundTripper()})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = client.Secret(t.Context(), "shop", "certificate")
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != Timeout {
			t.Errorf("after %s: %v", took, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err = client.Secret(ctx, "shop", "certificate")
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
			t.Errorf("after %s: %v", took, err)
		}
	})
}

// TestAuthorityIsChecked does not send the token to a server of another authority.
func TestAuthorityIsChecked(t *testing.T) {
	w := newWire(t)
	for name, file := range map[string]string{"the system's": "", "another": filepath.Join(t.TempDir(), "ca.crt")} {
		if file != "" {
			ca, err := harness.NewCA()
			if err != nil {
				t.Fatal(err)
			}
			write(t, file, string(ca.PEM()))
		}
		client, err := New(Config{URL: w.base.String(), TokenFile: w.tokenFile, CAFile: file})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Secret(t.Context(), "shop", "certificate"); err == nil || !strings.HasPrefix(err.Error(), "ask the Kubernetes API: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := w.api.Requests(); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}

func TestConfig(t *testing.T) {
	for _, url := range []string{"", "10.0.0.1:443", "https://", "ftp://api", "://"} {
		if _, err := New(Config{URL: url}); err == nil || !strings.Contains(err.Error(), "write one such as https://10.0.0.1:443") {
			t.Errorf("%q: %v", url, err)
		}
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := InCluster(); err == nil || !strings.Contains(err.Error(), "runs in a pod of Kubernetes") {
		t.Errorf("outside: %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if _, err := InCluster(); err == nil || !strings.Contains(err.Error(), "automountServiceAccountToken") {
		t.Errorf("without a token: %v", err)
	}
}

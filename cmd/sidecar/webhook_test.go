package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"readthrough/internal/kube"
	"readthrough/test/harness"
	"readthrough/test/kubeapi"
)

const (
	webhookSecret   = "/api/v1/namespaces/rt/secrets/certificate"
	webhookLease    = "/apis/coordination.k8s.io/v1/namespaces/rt/leases/injector"
	webhookMutating = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/readthrough"
	webhookConfig   = "/api/v1/namespaces/shop/configmaps/readthrough"
)

// webhookWorld is a `sidecar webhook` within the test, and the API server that it asks, behind TLS.
type webhookWorld struct {
	t             *testing.T
	api           *kubeapi.Server
	options       webhookOptions
	signals       chan os.Signal
	listen, admin string
	ended         chan error
}

func startWebhook(t *testing.T, change func(*webhookOptions)) *webhookWorld {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	w := &webhookWorld{t: t, api: kubeapi.New(), signals: make(chan os.Signal, 2), ended: make(chan error, 1)}
	server := httptest.NewTLSServer(w.api)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca := writeFile(t, dir, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	w.api.Put(t, webhookSecret, corev1.Secret{})
	w.api.Put(t, webhookLease, coordinationv1.Lease{})
	w.api.Put(t, webhookMutating, admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: make([]admissionregistrationv1.MutatingWebhook, 2)})
	w.api.Put(t, webhookConfig, corev1.ConfigMap{Data: map[string]string{"readthrough.yaml": minimal}})

	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(readFile(t, log.Name()))
		}
		log.Close()
	})
	type addresses struct{ listen, admin net.Addr }
	started := make(chan addresses, 1)
	w.options = webhookOptions{
		listen: "127.0.0.1:0", admin: "127.0.0.1:0", settings: writeFile(t, dir, "settings.yaml", "memoryLimit: 64Mi\n"),
		image: "registry.example/readthrough:1", logLevel: "debug", drain: 300 * time.Millisecond, configuration: "readthrough", validation: true, service: "readthrough", namespace: "rt",
		certificateSecret: "certificate", lease: "injector", lifetime: time.Hour, settle: time.Minute,
		logFile: log, signals: w.signals,
		api:     func() (kube.Config, error) { return kube.Config{URL: server.URL, CAFile: ca}, nil },
		started: func(listen, admin net.Addr) { started <- addresses{listen, admin} },
	}
	if change != nil {
		change(&w.options)
	}
	if err := w.options.validate(); err != nil {
		t.Fatal(err)
	}
	go func() { w.ended <- runWebhook(w.options) }()
	select {
	case a := <-started:
		w.listen, w.admin = a.listen.String(), a.admin.String()
	case err := <-w.ended:
		t.Fatalf("ended: %v", err)
	}
	return w
}

func (w *webhookWorld) await(what func() error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	if err := harness.Poll(ctx, what); err != nil {
		w.t.Fatal(err)
	}
}

func (w *webhookWorld) ready() error {
	if code, text := get(w.t, "http://"+w.admin+"/readyz"); code != http.StatusOK {
		return fmt.Errorf("%d %s", code, text)
	}
	return nil
}

// end stops the program as Kubernetes does.
func (w *webhookWorld) end() {
	w.t.Helper()
	w.signals <- syscall.SIGTERM
	if err := <-w.ended; err != nil {
		w.t.Error(err)
	}
}

// review asks as an API server does: by the Service's name, trusting the bundle.
func (w *webhookWorld) review(bundle []byte, path string, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "readthrough.rt.svc"}}
	defer transport.CloseIdleConnections()
	request.UID = "1"
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request,
	})
	if err != nil {
		return nil, err
	}
	r, err := (&http.Client{Transport: transport}).Post("https://"+w.listen+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(answer, &review); err != nil || review.Response == nil {
		return nil, fmt.Errorf("%s %s: %w", r.Status, answer, err)
	}
	if r.ProtoMajor != 1 {
		return nil, fmt.Errorf("spoke %s", r.Proto)
	}
	return review.Response, nil
}

func (w *webhookWorld) bundle() []byte {
	var m admissionregistrationv1.MutatingWebhookConfiguration
	w.api.Get(w.t, webhookMutating, &m)
	return m.Webhooks[1].ClientConfig.CABundle
}

func request(t *testing.T, resource string, object any) *admissionv1.AdmissionRequest {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return &admissionv1.AdmissionRequest{
		Namespace: "shop", Operation: admissionv1.Create, Resource: metav1.GroupVersionResource{Version: "v1", Resource: resource},
		Object: runtime.RawExtension{Raw: raw},
	}
}

func appPod() corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"readthrough/inject": "enabled"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// injectedSidecar has the pod injected, and gives the sidecar of what came out.
func (w *webhookWorld) injectedSidecar(bundle []byte) (*corev1.Container, error) {
	r := request(w.t, "pods", appPod())
	response, err := w.review(bundle, "/mutate", r)
	if err != nil {
		return nil, err
	}
	if !response.Allowed || len(response.Patch) == 0 {
		return nil, fmt.Errorf("%+v", response)
	}
	var fields map[string]any
	if err := json.Unmarshal(r.Object.Raw, &fields); err != nil {
		return nil, err
	}
	if fields, err = kubeapi.Patch(fields, response.Patch); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		return nil, err
	}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if c.Name == "readthrough" {
			return &c, nil
		}
	}
	return nil, fmt.Errorf("no sidecar: %s", raw)
}

func TestWebhook(t *testing.T) {
	w := startWebhook(t, nil)
	w.await(w.ready)
	bundle := w.bundle()

	sidecar, err := w.injectedSidecar(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if sidecar.Image != "registry.example/readthrough:1" || sidecar.Resources.Limits.Memory().String() != "64Mi" || sidecar.RestartPolicy == nil {
		t.Errorf("%+v", sidecar)
	}
	bad := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "readthrough", Labels: map[string]string{"readthrough/config": "true"}}, Data: map[string]string{"readthrough.yaml": minimal + "loops: 0\n"}}
	response, err := w.review(bundle, "/validate", request(t, "configmaps", bad))
	if err != nil {
		t.Fatal(err)
	}
	want := "ConfigMap shop/readthrough holds 1 mistake (key:line: field: what to write):\nreadthrough.yaml:3: loops: 0 is out of bounds: write 1 to 64"
	if response.Allowed || response.Result.Message != want {
		t.Errorf("%+v", response.Result)
	}

	// Changed settings are taken into use, bad ones are not.
	dir := filepath.Dir(w.options.settings)
	writeFile(t, dir, "settings.yaml", "memoryLimit: 96Mi\n")
	limit := func(want string) func() error {
		return func() error {
			if sidecar, err = w.injectedSidecar(bundle); err == nil && sidecar.Resources.Limits.Memory().String() != want {
				err = fmt.Errorf("limit %s", sidecar.Resources.Limits.Memory())
			}
			return err
		}
	}
	w.await(limit("96Mi"))
	writeFile(t, dir, "settings.yaml", "memoryLimit: 32Mi\nmemoryLimits: 1Gi\n")
	metric := func(line string) func() error {
		return func() error {
			if _, text := get(t, "http://"+w.admin+"/metrics"); !strings.Contains(text, line+"\n") {
				return fmt.Errorf("no %s in the metrics", line)
			}
			return nil
		}
	}
	w.await(metric("readthrough_webhook_settings_last_reload_successful 0"))
	if err := limit("96Mi")(); err != nil {
		t.Error(err)
	}
	for _, line := range []string{
		`readthrough_webhook_reviews_total{outcome="denied",webhook="validate"} 1`, "readthrough_webhook_leader 1", "readthrough_webhook_certificate_trusted 1",
		`readthrough_webhook_api_errors_total{purpose="certificate"} 0`,
	} {
		if err := metric(line)(); err != nil {
			t.Error(err)
		}
	}
	if code, _ := get(t, "http://"+w.admin+"/livez"); code != http.StatusOK {
		t.Errorf("livez: %d", code)
	}
	w.end()
	var lease coordinationv1.Lease
	w.api.Get(t, webhookLease, &lease)
	if lease.Spec.HolderIdentity != nil {
		t.Errorf("the lease is still held by %s", *lease.Spec.HolderIdentity)
	}
}

// TestWebhookDrains is not ready after the signal, and answers on.
func TestWebhookDrains(t *testing.T) {
	w := startWebhook(t, func(o *webhookOptions) { o.drain = time.Hour })
	w.await(w.ready)
	w.signals <- syscall.SIGTERM
	w.await(func() error {
		if code, text := get(t, "http://"+w.admin+"/readyz"); code != http.StatusServiceUnavailable || text != "draining\n" {
			return fmt.Errorf("%d %q", code, text)
		}
		return nil
	})
	if _, err := w.injectedSidecar(w.bundle()); err != nil {
		t.Error(err)
	}
	w.signals <- syscall.SIGTERM
	if err := <-w.ended; exitCode(err) != 143 {
		t.Errorf("second signal: %v", err)
	}
}

// TestWebhookReadsCertificates that somebody else makes, and leaves the caBundle to them.
func TestWebhookReadsCertificates(t *testing.T) {
	ca := harness.MustCA(t)
	dir := t.TempDir()
	w := startWebhook(t, func(o *webhookOptions) {
		o.certificateSecret, o.lease, o.certificateDir = "", "", dir
	})
	w.await(func() error {
		if err := w.ready(); err == nil || !strings.Contains(err.Error(), "no such file") {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	c, err := ca.Server("readthrough.rt.svc")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "tls.crt", string(c.CertPEM))
	writeFile(t, dir, "tls.key", string(c.KeyPEM))
	w.await(w.ready)
	if _, err := w.injectedSidecar(ca.PEM()); err != nil {
		t.Error(err)
	}
	if len(w.bundle()) > 0 {
		t.Error("the caBundle was written")
	}
	w.end()
}

func TestWebhookFailsToStart(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	mistakes := writeFile(t, t.TempDir(), "settings.yaml", "prot: 6380\nport: many\n")
	for name, c := range map[string]struct {
		change func(*webhookOptions)
		want   string
	}{
		"no settings":  {func(o *webhookOptions) { o.settings = "absent.yaml" }, "absent.yaml: cannot be read: no such file or directory"},
		"bad settings": {func(o *webhookOptions) { o.settings = mistakes }, fmt.Sprintf("%s: line 1: prot: unknown setting: did you mean port?\n%s: line 2: port: is \"many\", which is not a port: write 1024 to 65535", mistakes, mistakes)},
		"no image":     {func(o *webhookOptions) { o.image = "" }, "the sidecar's image is not known: name it by --image"},
		"bad image":    {func(o *webhookOptions) { o.image = "a b" }, `--image is "a b", which is not an image`},
		"outside":      {func(o *webhookOptions) { o.api = kube.InCluster }, "this runs in a pod of Kubernetes"},
		"busy listen":  {func(o *webhookOptions) { o.listen = busy.Addr().String() }, "--listen: "},
		"busy admin":   {func(o *webhookOptions) { o.admin = busy.Addr().String() }, "--admin: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			o := webhookOptions{
				listen: "127.0.0.1:0", admin: "127.0.0.1:0", image: "readthrough:1", logLevel: "info", certificateDir: t.TempDir(), logFile: null,
				api: func() (kube.Config, error) { return kube.Config{URL: "http://127.0.0.1:1"}, nil },
			}
			c.change(&o)
			if err := runWebhook(o); err == nil || !strings.HasPrefix(err.Error(), c.want) && !strings.HasSuffix(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

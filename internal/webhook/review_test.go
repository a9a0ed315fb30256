package webhook

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"readthrough/internal/inject"
	"readthrough/internal/kube"
	"readthrough/test/kubeapi"
)

// served is the handler over a scripted API server.
type served struct {
	http.Handler
	api     *kubeapi.Server
	metrics *Metrics
	decide  Injector
	check   Judge
}

func newServed(t testing.TB) *served {
	t.Helper()
	s := &served{api: kubeapi.New(), metrics: NewMetrics(prometheus.NewRegistry())}
	client, err := kube.New(kube.Config{URL: "http://api", Transport: s.api.RoundTripper()})
	if err != nil {
		t.Fatal(err)
	}
	s.decide = decide
	s.check = func(name string, content []byte) (mistakes, warnings []string) {
		if strings.Contains(string(content), "bad") {
			return []string{name + ":1: is bad: write good"}, nil
		}
		if strings.Contains(string(content), "doubt") {
			return nil, []string{name + ": is doubtful\nindeed"}
		}
		return nil, nil
	}
	s.Handler = Handler(Options{
		Inject: func(pod *corev1.Pod, namespace string) (inject.Decision, error) { return s.decide(pod, namespace) },
		Check:  func(name string, content []byte) (mistakes, warnings []string) { return s.check(name, content) },
		Client: client, Log: zap.NewNop(), Metrics: s.metrics,
	})
	return s
}

// decide is the real decision.
func decide(pod *corev1.Pod, namespace string) (inject.Decision, error) {
	settings := inject.DefaultSettings()
	settings.Image = "registry.example/readthrough:1"
	return inject.Decide(pod, namespace, inject.Options{Settings: settings, Native: true, Version: "test"})
}

// post sends a body as an API server does.
func (s *served) post(path, body string) *httptest.ResponseRecorder { return postTo(s, path, body) }

func postTo(h http.Handler, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// review sends a review, and gives the response, which must be one.
func (s *served) review(t *testing.T, path string, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	t.Helper()
	w := s.post(path, reviewText(t, request))
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if answer.APIVersion != "admission.k8s.io/v1" || answer.Kind != "AdmissionReview" || answer.Response == nil || answer.Response.UID != request.UID {
		t.Fatalf("answer %s", w.Body)
	}
	return answer.Response
}

// reviewed is how often an outcome was counted.
func (s *served) reviewed(webhook string, o outcome) int {
	return int(testutil.ToFloat64(s.metrics.reviews.WithLabelValues(webhook, string(o))))
}

func podRequest(t testing.TB, pod *corev1.Pod) *admissionv1.AdmissionRequest {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return &admissionv1.AdmissionRequest{
		UID: "705ab4f5-6393-11e8-b7cc-42010a800002", Namespace: "shop", Operation: admissionv1.Create,
		Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Object: runtime.RawExtension{Raw: raw},
	}
}

func TestWhatIsNoReview(t *testing.T) {
	s := newServed(t)
	good := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1"}}`
	for name, c := range map[string]struct {
		method, kind, body string
		code               int
		want               string
	}{
		"GET":             {"GET", "application/json", "", 405, "by POST"},
		"no type":         {"POST", "", good, 415, "as application/json"},
		"another type":    {"POST", "application/yaml", good, 415, "as application/json"},
		"empty":           {"POST", "application/json", "", 400, "no AdmissionReview: unexpected end"},
		"not JSON":        {"POST", "application/json", "a: b", 400, "no AdmissionReview: invalid character"},
		"of wrong fields": {"POST", "application/json", `{"kind":[]}`, 400, "no AdmissionReview: json: cannot unmarshal array"},
		"another kind":    {"POST", "application/json", `{"apiVersion":"v1","kind":"Pod"}`, 400, `"Pod" of "v1"`},
		"older version":   {"POST", "application/json", strings.Replace(good, "/v1", "/v1beta1", 1), 400, `of "admission.k8s.io/v1beta1"`},
		"no request":      {"POST", "application/json", strings.Replace(good, "request", "response", 1), 400, "no request with a uid"},
		"no uid":          {"POST", "application/json", strings.Replace(good, `"1"`, `""`, 1), 400, "no request with a uid"},
		"two documents":   {"POST", "application/json", good + good, 400, "after top-level value"},
		"too large":       {"POST", "application/json", good + strings.Repeat(" ", maxReview), 413, "8 MiB at most"},
	} {
		for _, path := range []string{"/mutate", "/validate"} {
			r := httptest.NewRequest(c.method, path, strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.kind)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("%s to %s: %d %s", name, path, w.Code, w.Body)
			}
		}
	}
	if n := s.reviewed("inject", malformed); n != 12 {
		t.Errorf("%d malformed counted", n)
	}
	if w := s.post("/elsewhere", good); w.Code != http.StatusNotFound {
		t.Errorf("elsewhere: %d", w.Code)
	}
	// What a client may add to the type is no reason to refuse it.
	r := httptest.NewRequest(http.MethodPost, "/validate", strings.NewReader(good))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Errorf("with a charset: %d", w.Code)
	}
}

// reviewText is the request as an API server sends it.
func reviewText(t testing.TB, request *admissionv1.AdmissionRequest) string {
	t.Helper()
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestPanicIsAnAnswer that leaves it to the failurePolicy what becomes of the pod.
func TestPanicIsAnAnswer(t *testing.T) {
	s := newServed(t)
	s.decide = func(*corev1.Pod, string) (inject.Decision, error) { panic("mistake") }
	w := s.post("/mutate", reviewText(t, podRequest(t, &corev1.Pod{})))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "(mistake): its log tells more") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if s.reviewed("inject", failed) != 1 {
		t.Error("not counted")
	}
}

// FuzzReview sends anything: there is always an answer, which is a review where what was sent is one, and never a panic.
func FuzzReview(f *testing.F) {
	pod := podRequest(f, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}}})
	for _, request := range []*admissionv1.AdmissionRequest{pod, {UID: "1"}, configMapRequest(f, map[string]string{"a.yaml": "bad"})} {
		text := reviewText(f, request)
		f.Add(text, true)
		f.Add(text, false)
	}
	f.Add(`{`, true)
	s := newServed(f)
	s.api.Put(f, "/api/v1/namespaces/shop/configmaps/readthrough", corev1.ConfigMap{Data: map[string]string{"readthrough.yaml": ""}})
	f.Fuzz(func(t *testing.T, body string, mutate bool) {
		path, name := "/validate", "validate"
		if mutate {
			path, name = "/mutate", "inject"
		}
		before := s.reviewed(name, failed)
		w := s.post(path, body)
		var sent, answer admissionv1.AdmissionReview
		switch w.Code {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		case http.StatusOK:
			if err := json.Unmarshal([]byte(body), &sent); err != nil {
				t.Fatalf("answered, and is no review: %v", err)
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Response.UID != sent.Request.UID {
				t.Fatalf("%s: %v", w.Body, err)
			}
			if r := answer.Response; r.Allowed == (r.Result != nil) || (r.Patch == nil) != (r.PatchType == nil) || !r.Allowed && r.Result.Message == "" {
				t.Fatalf("%s", w.Body)
			}
		default:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if s.reviewed(name, failed) != before {
			t.Fatalf("panic: %s", w.Body)
		}
	})
}

// brokenBody ends in the middle.
type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestBrokenBody(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/mutate", brokenBody{}).WithContext(context.Background())
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if newServed(t).ServeHTTP(w, r); w.Code != http.StatusBadRequest {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

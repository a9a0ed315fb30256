package webhook

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"readthrough/internal/inject"
	"readthrough/test/kubeapi"
)

const shopConfigMap = "/api/v1/namespaces/shop/configmaps/readthrough"

// app is a pod as a ReplicaSet makes it: without a name and a namespace of its own.
func app() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "app-", Labels: map[string]string{"readthrough/inject": "enabled"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// patched applies the response's patch to the request's pod.
func patched(t *testing.T, request *admissionv1.AdmissionRequest, response *admissionv1.AdmissionResponse) *corev1.Pod {
	t.Helper()
	if response.PatchType == nil || *response.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("no JSON patch: %+v", response)
	}
	var object map[string]any
	if err := json.Unmarshal(request.Object.Raw, &object); err != nil {
		t.Fatal(err)
	}
	object, err := kubeapi.Patch(object, response.Patch)
	if err != nil {
		t.Fatalf("%v\n%s", err, response.Patch)
	}
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(raw, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestInjects(t *testing.T) {
	s := newServed(t)
	s.api.Put(t, shopConfigMap, corev1.ConfigMap{Data: map[string]string{"readthrough.yaml": ""}})
	request := podRequest(t, app())
	response := s.review(t, "/mutate", request)
	if !response.Allowed || s.reviewed("inject", injected) != 1 {
		t.Fatalf("%+v", response)
	}
	if got := s.api.Requests(); !slices.Equal(got, []string{"GET " + shopConfigMap}) {
		t.Errorf("asked %q", got)
	}
	pod := patched(t, request, response)
	if len(pod.Spec.InitContainers) != 1 || pod.Spec.InitContainers[0].Name != "readthrough" {
		t.Errorf("%+v", pod.Spec)
	}

	// Reinvoked, there is nothing to do, and nothing to ask.
	again := podRequest(t, pod)
	if response := s.review(t, "/mutate", again); !response.Allowed || response.Patch != nil {
		t.Errorf("again: %+v", response)
	}
	if got := s.api.Requests(); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
	if s.reviewed("inject", skipped)+s.reviewed("inject", unchanged) != 1 {
		t.Error("not counted")
	}

	dry := podRequest(t, app())
	dry.DryRun = ptr(true)
	if response := s.review(t, "/mutate", dry); len(response.Patch) == 0 {
		t.Errorf("dry run: %+v", response)
	}
}

func TestDenials(t *testing.T) {
	wrong := app()
	wrong.Annotations = map[string]string{"readthrough/port": "http"}
	for name, c := range map[string]struct {
		pod       *corev1.Pod
		configMap *corev1.ConfigMap
		want      []string
	}{
		"wrong annotation": {wrong, &corev1.ConfigMap{Data: map[string]string{"readthrough.yaml": ""}}, []string{"readthrough/port"}},
		"no ConfigMap":     {app(), nil, []string{"no ConfigMap readthrough in namespace shop", "kubectl -n shop create configmap readthrough"}},
		"no such key":      {app(), &corev1.ConfigMap{Data: map[string]string{"b.yaml": ""}, BinaryData: map[string][]byte{"a": nil}}, []string{"no key readthrough.yaml", "but b.yaml"}},
		"in binaryData":    {app(), &corev1.ConfigMap{BinaryData: map[string][]byte{"readthrough.yaml": nil}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServed(t)
			if c.configMap != nil {
				s.api.Put(t, shopConfigMap, c.configMap)
			}
			response := s.review(t, "/mutate", podRequest(t, c.pod))
			if c.want == nil {
				if !response.Allowed {
					t.Errorf("%+v", response.Result)
				}
				return
			}
			if response.Allowed || response.Patch != nil || response.Result.Code != http.StatusForbidden || response.Result.Reason != metav1.StatusReasonForbidden {
				t.Fatalf("%+v", response)
			}
			for _, part := range c.want {
				if !strings.Contains(response.Result.Message, part) {
					t.Errorf("the message lacks %q: %s", part, response.Result.Message)
				}
			}
			if s.reviewed("inject", denied) != 1 {
				t.Error("not counted")
			}
		})
	}
}

// TestAPIHiccup does not stop pods.
func TestAPIHiccup(t *testing.T) {
	for name, answer := range map[string]http.Handler{
		"fails":     kubeapi.Status(http.StatusInternalServerError, "etcd is gone"),
		"forbids":   kubeapi.Status(http.StatusForbidden, "RBAC"),
		"is silent": kubeapi.Silence(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServed(t)
				s.api.Before(func(*http.Request) http.Handler { return answer })
				start := time.Now()
				response := s.review(t, "/mutate", podRequest(t, app()))
				if !response.Allowed || len(response.Patch) == 0 || len(response.Warnings) != 1 || !strings.Contains(response.Warnings[0], "could not look whether the ConfigMap readthrough is there") {
					t.Errorf("%+v", response)
				}
				if took := time.Since(start); took > configMapTimeout {
					t.Errorf("took %s", took)
				}
				if n := testutil.ToFloat64(s.metrics.apiErrors.WithLabelValues("configmap")); n != 1 {
					t.Errorf("%v errors counted", n)
				}
			})
		})
	}
}

func TestWhatIsNoPod(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *admissionv1.AdmissionRequest)
		denied string
	}{
		"a Deployment":  {func(r *admissionv1.AdmissionRequest) { r.Resource.Group, r.Resource.Resource = "apps", "deployments" }, "was sent deployments.apps"},
		"a subresource": {func(r *admissionv1.AdmissionRequest) { r.SubResource = "ephemeralcontainers" }, "was sent pods/ephemeralcontainers"},
		"no namespace":  {func(r *admissionv1.AdmissionRequest) { r.Namespace = "" }, "tells no namespace"},
		"no object":     {func(r *admissionv1.AdmissionRequest) { r.Object = runtime.RawExtension{} }, "is no pod"},
		"not a pod":     {func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte(`{"spec":[]}`) }, "is no pod"},
		"an update":     {func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update }, ""},
		"a deletion": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object = admissionv1.Delete, runtime.RawExtension{}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, request := newServed(t), podRequest(t, app())
			c.change(request)
			response := s.review(t, "/mutate", request)
			switch {
			case c.denied == "" && (!response.Allowed || response.Patch != nil):
				t.Errorf("%+v", response)
			case c.denied != "" && (response.Allowed || response.Result.Code != http.StatusBadRequest || !strings.Contains(response.Result.Message, c.denied)):
				t.Errorf("%+v", response)
			}
		})
	}
}

// TestMistakeOfTheDecision is no denial: the author of the pod can do nothing about it, and the failurePolicy says what becomes of it.
func TestMistakeOfTheDecision(t *testing.T) {
	s := newServed(t)
	s.decide = func(*corev1.Pod, string) (inject.Decision, error) {
		return inject.Decision{}, errors.New("out of order")
	}
	w := s.post("/mutate", reviewText(t, podRequest(t, app())))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "readthrough: out of order") || s.reviewed("inject", failed) != 1 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

package webhook

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func configMapRequest(t testing.TB, data map[string]string, binary ...string) *admissionv1.AdmissionRequest {
	t.Helper()
	cm := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "readthrough", Labels: map[string]string{configLabel: "true"}}, Data: data}
	for _, key := range binary {
		cm.BinaryData = map[string][]byte{key: []byte("x")}
	}
	raw, err := json.Marshal(cm)
	if err != nil {
		t.Fatal(err)
	}
	return &admissionv1.AdmissionRequest{
		UID: "1", Namespace: "shop", Name: "readthrough", Operation: admissionv1.Create,
		Resource: metav1.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Object: runtime.RawExtension{Raw: raw},
	}
}

func TestConfigMaps(t *testing.T) {
	for name, c := range map[string]struct {
		data     map[string]string
		binary   []string
		denial   string // none: admitted
		warnings []string
	}{
		"good":    {data: map[string]string{"readthrough.yaml": "good", "notes.txt": "bad"}},
		"doubt":   {data: map[string]string{"readthrough.yml": "doubt"}, warnings: []string{"readthrough.yml: is doubtful indeed"}},
		"bad":     {data: map[string]string{"readthrough.yaml": "bad"}, denial: "ConfigMap shop/readthrough holds 1 mistake (key:line: field: what to write):\nreadthrough.yaml:1: is bad: write good"},
		"all bad": {data: map[string]string{"b.yml": "bad", "a.yaml": "bad", "c.yaml": "good"}, denial: "ConfigMap shop/readthrough holds 2 mistakes (key:line: field: what to write):\na.yaml:1: is bad: write good\nb.yml:1: is bad: write good"},
		"binary":  {data: map[string]string{"a.yaml": "good"}, binary: []string{"b.yaml"}, denial: "ConfigMap shop/readthrough holds 1 mistake (key:line: field: what to write):\nb.yaml: stands under binaryData: write it as text under data"},
		"empty":   {denial: "ConfigMap shop/readthrough has the label readthrough/config and no key that ends in .yaml: write the configuration under data, as readthrough.yaml, or remove the label"},
		"no YAML": {data: map[string]string{"readthrough.json": "{}"}, binary: []string{"x"}, denial: "ConfigMap shop/readthrough has the label readthrough/config and no key that ends in .yaml: write the configuration under data, as readthrough.yaml, or remove the label"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServed(t)
			response := s.review(t, "/validate", configMapRequest(t, c.data, c.binary...))
			if response.Allowed != (c.denial == "") || !slices.Equal(response.Warnings, c.warnings) {
				t.Fatalf("%+v", response)
			}
			if c.denial != "" && (response.Result.Message != c.denial || response.Result.Code != http.StatusForbidden) {
				t.Errorf("message:\n%s\nwant:\n%s", response.Result.Message, c.denial)
			}
		})
	}
}

func TestConfigMapUpdates(t *testing.T) {
	s := newServed(t)
	bad, good := map[string]string{"a.yaml": "bad"}, map[string]string{"a.yaml": "good"}
	update := func(from, to map[string]string, change func(*corev1.ConfigMap)) bool {
		request := configMapRequest(t, to)
		request.Operation = admissionv1.Update
		var old corev1.ConfigMap
		if err := json.Unmarshal(configMapRequest(t, from).Object.Raw, &old); err != nil {
			t.Fatal(err)
		}
		change(&old)
		var err error
		if request.OldObject.Raw, err = json.Marshal(old); err != nil {
			t.Fatal(err)
		}
		return s.review(t, "/validate", request).Allowed
	}
	nothing := func(*corev1.ConfigMap) {}
	if update(good, bad, nothing) || !update(bad, good, nothing) || !update(good, good, nothing) {
		t.Error("an update is not judged by what it writes")
	}
	if !update(bad, bad, func(old *corev1.ConfigMap) { old.Finalizers = []string{"x"} }) {
		t.Error("a bad one cannot be changed in other ways")
	}
	if update(bad, bad, func(old *corev1.ConfigMap) { old.Labels = nil }) {
		t.Error("a bad one gets the label without a word")
	}
	// API servers ask about what has the label before or after.
	for _, labels := range []map[string]string{nil, {configLabel: "false"}} {
		request := configMapRequest(t, bad)
		request.Operation, request.OldObject = admissionv1.Update, request.Object
		cm := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "readthrough", Labels: labels}, Data: bad}
		var err error
		if request.Object.Raw, err = json.Marshal(cm); err != nil {
			t.Fatal(err)
		}
		if r := s.review(t, "/validate", request); !r.Allowed || len(r.Warnings) > 0 {
			t.Errorf("labels %v: %+v", labels, r)
		}
	}
}

func TestWhatIsNoConfigMap(t *testing.T) {
	s := newServed(t)
	request := configMapRequest(t, nil)
	request.Operation, request.Object = admissionv1.Delete, runtime.RawExtension{}
	if !s.review(t, "/validate", request).Allowed {
		t.Error("a deletion is denied")
	}
	request.Operation = admissionv1.Create
	if r := s.review(t, "/validate", request); r.Allowed || r.Result.Code != http.StatusBadRequest {
		t.Errorf("no object: %+v", r)
	}
	request.Resource.Resource = "secrets"
	if r := s.review(t, "/validate", request); r.Allowed || r.Result.Code != http.StatusBadRequest {
		t.Errorf("a Secret: %+v", r)
	}
}

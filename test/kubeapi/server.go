// Package kubeapi is a scripted API server of Kubernetes, as far as the injector asks one: objects with resource versions,
// conflicts, JSON patches, rights, and faults on demand. Real ones are met by the end-to-end tests.
package kubeapi

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Server is an http.Handler.
type Server struct {
	mu       sync.Mutex
	objects  map[string]map[string]any // by path
	version  int
	requests []string
	before   func(*http.Request) http.Handler
	after    func(method, path string)
}

// New has no objects, and says that it is Kubernetes 1.34.
func New() *Server {
	return &Server{objects: map[string]map[string]any{"/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.4"}}}
}

// Before is asked about each request first, and may give a handler that answers it instead. It may block.
func (s *Server) Before(f func(*http.Request) http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// After is told of each write once it is done.
func (s *Server) After(f func(method, path string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = f
}

// Put makes or replaces the object at a path such as /api/v1/namespaces/shop/configmaps/readthrough.
func (s *Server) Put(t testing.TB, path string, object any) {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store(path, fields)
}

// Delete removes the object at a path.
func (s *Server) Delete(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, path)
}

// Get reads the object at a path; false where there is none.
func (s *Server) Get(t testing.TB, path string, into any) bool {
	t.Helper()
	s.mu.Lock()
	raw, err := json.Marshal(s.objects[path])
	_, ok := s.objects[path]
	s.mu.Unlock()
	if err == nil && ok {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// Requests lists what was asked so far, as METHOD PATH, and forgets it.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.requests
	s.requests = nil
	return all
}

// store keeps the object under a new version. The caller holds the lock.
func (s *Server) store(path string, object map[string]any) {
	s.version++
	meta, _ := object["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	parts := strings.Split(path, "/")
	meta["name"] = parts[len(parts)-1]
	if i := slices.Index(parts, "namespaces"); i >= 0 {
		meta["namespace"] = parts[i+1]
	}
	meta["resourceVersion"] = strconv.Itoa(s.version)
	object["metadata"] = meta
	s.objects[path] = object
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	before := s.before
	s.mu.Unlock()
	if before != nil {
		if instead := before(r); instead != nil {
			instead.ServeHTTP(w, r)
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		Status(http.StatusBadRequest, err.Error()).ServeHTTP(w, r)
		return
	}
	answer, wrote := s.answer(r, body)
	s.mu.Lock()
	after := s.after
	s.mu.Unlock()
	if wrote && after != nil {
		after(r.Method, r.URL.Path)
	}
	answer.ServeHTTP(w, r)
}

func (s *Server) answer(r *http.Request, body []byte) (answer http.Handler, wrote bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := r.URL.Path
	old, found := s.objects[path]
	if !found {
		return Status(http.StatusNotFound, path+" not found"), false
	}
	next := map[string]any{}
	var err error
	switch r.Method {
	case http.MethodGet:
		return Object(old), false
	case http.MethodPut:
		err = json.Unmarshal(body, &next)
	case http.MethodPatch:
		if kind := r.Header.Get("Content-Type"); kind != "application/json-patch+json" {
			return Status(http.StatusUnsupportedMediaType, "a patch of type "+kind), false
		}
		next, err = Patch(old, body)
	default:
		return Status(http.StatusMethodNotAllowed, r.Method), false
	}
	if err != nil {
		return Status(http.StatusBadRequest, err.Error()), false
	}
	if given := versionOf(next); given != "" && given != versionOf(old) {
		return Status(http.StatusConflict, "the object has been modified; please apply your changes to the latest version"), false
	}
	if !reflect.DeepEqual(old, next) {
		s.store(path, next)
	}
	return Object(maps.Clone(s.objects[path])), true
}

func versionOf(object map[string]any) string {
	meta, _ := object["metadata"].(map[string]any)
	version, _ := meta["resourceVersion"].(string)
	return version
}

// Object answers with an object.
func Object(object any) http.Handler {
	raw, err := json.Marshal(object)
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(raw) // the client may be gone
	})
}

// Status answers that the request was not carried out.
func Status(code int, message string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		status := metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
			Status:   metav1.StatusFailure, Code: int32(code), Message: message,
		}
		_ = json.NewEncoder(w).Encode(status) // the client may be gone
	})
}

// Silence answers when the client has given up.
func Silence() http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

// RoundTripper carries requests to the server without a network, so that they may be made within testing/synctest.
func (s *Server) RoundTripper() http.RoundTripper { return roundTripper{s} }

type roundTripper struct{ handler http.Handler }

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	recorder := httptest.NewRecorder()
	t.handler.ServeHTTP(recorder, r)
	if err := r.Context().Err(); err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	return recorder.Result(), nil
}

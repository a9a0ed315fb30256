package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/semaphore"
	corev1 "k8s.io/api/core/v1"
)

// reviewOf is a review of a pod with this specification, given as JSON.
func reviewOf(spec string) string {
	return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","namespace":"shop","operation":"CREATE",` +
		`"resource":{"version":"v1","resource":"pods"},"object":{"metadata":{"labels":{"readthrough/inject":"enabled"}},"spec":` + spec + `}}}`
}

func containers(n int) string {
	return `{"containers":[` + strings.TrimSuffix(strings.Repeat("{},", n), ",") + `]}`
}

// inPod runs f under the memory limit of an injector's pod, and gives the most that the heap held.
func inPod(t *testing.T, f func()) uint64 {
	t.Helper()
	runtime.GC()
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(96 << 20))
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		var most uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse+m.StackInuse)
			select {
			case <-stop:
				peak <- most
				return
			case <-ticker.C:
			}
		}
	}()
	f()
	close(stop)
	return <-peak
}

// TestShortReviewOfMuch is a MiB that would be hundreds as a pod.
func TestShortReviewOfMuch(t *testing.T) {
	s := newServed(t)
	for name, spec := range map[string]string{
		"containers": containers(350_000),
		"fields":     `{"nodeSelector":{` + strings.Repeat(`"a":"",`, 150_000) + `"b":""}}`,
		"lists":      `{"containers":` + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + `}`,
		"objects":    `{"containers":` + strings.Repeat(`{"a":`, 200_000) + `1` + strings.Repeat("}", 200_000) + `}`,
	} {
		body := reviewOf(spec)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w := s.post("/mutate", body)
		runtime.ReadMemStats(&after)
		if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "no pod or ConfigMap needs as many") {
			t.Errorf("%s: %d %.200s", name, w.Code, w.Body)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
			t.Errorf("%s: took %d KiB to refuse %d", name, took>>10, len(body)>>10)
		}
	}
}

// TestManyReviewsAtOnce are as heavy as may be, and many more than there is memory for: they take turns.
func TestManyReviewsAtOnce(t *testing.T) {
	s := newServed(t)
	var checked atomic.Int32
	s.check = func(_ string, content []byte) (mistakes, warnings []string) {
		var root yaml.Node
		if err := yaml.Unmarshal(content, &root); err != nil {
			t.Error(err)
		}
		checked.Add(1)
		return nil, nil
	}
	heavy := reviewOf(containers(maxElements - 10))
	config := reviewText(t, configMapRequest(t, map[string]string{
		"a.yaml": "[" + strings.Repeat("a,", maxChecked/2-1) + "]",
		"b.txt":  strings.Repeat("x", 3<<20),
	}))
	small := reviewText(t, configMapRequest(t, map[string]string{"a.yaml": strings.Repeat("- \n", smallReview/4-200)}))
	var answered atomic.Int32
	peak := inPod(t, func() {
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				path, body := "/mutate?timeout=30s", heavy
				switch i % 8 {
				case 0:
					path, body = "/validate?timeout=30s", config
				case 1:
					path, body = "/validate?timeout=30s", small
				}
				switch w := s.post(path, body); w.Code {
				case http.StatusOK:
					answered.Add(1)
				case http.StatusServiceUnavailable: // on a slow machine
				default:
					t.Errorf("%d %.200s", w.Code, w.Body)
				}
			})
		}
		all.Wait()
	})
	t.Logf("%d MiB, %d answered, %d checked", peak>>20, answered.Load(), checked.Load())
	if peak > 110<<20 || answered.Load() == 0 || checked.Load() == 0 {
		t.Errorf("%d MiB were held at once; %d were answered, %d of them checked", peak>>20, answered.Load(), checked.Load())
	}
}

// TestReviewsWait until others are done, and no longer than somebody waits for them; a large one has nobody wait but large ones.
func TestReviewsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget()
		post := func(ctx context.Context, length int, chunked bool) (*share, error) {
			r := httptest.NewRequest(http.MethodPost, "/mutate", strings.NewReader(strings.Repeat(" ", length))).WithContext(ctx)
			if chunked {
				r.ContentLength = -1
			}
			s := &share{budget: b}
			_, err := s.body(httptest.NewRecorder(), r)
			return s, err
		}
		first, err := post(t.Context(), 5<<20, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, chunked := range []bool{false, true} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			if _, err := post(ctx, 4<<20, chunked); err != errBusy || time.Since(began) != time.Second {
				t.Errorf("chunked %t: a second large one: %v after %s", chunked, err, time.Since(began))
			}
		}
		small, err := post(t.Context(), smallReview, false)
		if err != nil {
			t.Errorf("a small one: %v", err)
		}
		small.end()
		time.AfterFunc(time.Second, first.end)
		began := time.Now()
		second, err := post(t.Context(), 4<<20, false)
		if err != nil || time.Since(began) != time.Second {
			t.Errorf("once there is memory: %v after %s", err, time.Since(began))
		}
		second.end()
		if all, err := post(t.Context(), maxReview, true); err != nil {
			t.Errorf("not all was given back: %v", err)
		} else {
			all.end()
		}
	})
}

// TestBusy is told in the time that the API server waits, whatever of the budget is missing, and is no denial.
func TestBusy(t *testing.T) {
	type missing func(b *budget, turn *semaphore.Weighted) (*semaphore.Weighted, int64)
	small := func(b *budget, _ *semaphore.Weighted) (*semaphore.Weighted, int64) { return b.small, smallBudget }
	decoded := func(b *budget, _ *semaphore.Weighted) (*semaphore.Weighted, int64) { return b.decoded, decodedBudget }
	turn := func(_ *budget, turn *semaphore.Weighted) (*semaphore.Weighted, int64) { return turn, 1 }
	pod, config := reviewOf(containers(1)), reviewText(t, configMapRequest(t, map[string]string{"a.yaml": "good"}))
	for name, c := range map[string]struct {
		body        string
		first, then missing // what is given back after a second, and what never is: one deadline holds for both
	}{
		"for the body": {body: pod, then: small},
		"for decoding": {body: pod, first: small, then: decoded},
		"for the turn": {body: config, first: decoded, then: turn},
	} {
		for query, wait := range map[string]time.Duration{
			"":             patienceUntold,
			"?timeout=x":   patienceUntold,
			"?timeout=-1s": patienceUntold,
			"?timeout=2s":  1500 * time.Millisecond,
			"?timeout=10s": 9 * time.Second,
			"?timeout=30s": 9 * time.Second,
		} {
			t.Run(name+query, func(t *testing.T) {
				s := newServed(t)
				synctest.Test(t, func(t *testing.T) {
					judge := newConfigMaps(nil)
					h := &reviews{name: "validate", judge: judge.judge, budget: newBudget(), log: zap.NewNop(), metrics: s.metrics}
					if c.first != nil {
						from, n := c.first(h.budget, judge.turn)
						if !from.TryAcquire(n) {
							t.Fatal("taken")
						}
						time.AfterFunc(time.Second, func() { from.Release(n) })
					}
					from, n := c.then(h.budget, judge.turn)
					if !from.TryAcquire(n) {
						t.Fatal("taken")
					}
					began := time.Now()
					w := postTo(h, "/validate"+query, c.body)
					if took := time.Since(began); took != wait {
						t.Errorf("told after %s, want %s", took, wait)
					}
					if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "too many reviews") || s.reviewed("validate", refused) != 1 {
						t.Errorf("%d %s", w.Code, w.Body)
					}
					from.Release(n)
					if !h.budget.small.TryAcquire(smallBudget) || !h.budget.decoded.TryAcquire(decodedBudget) || !judge.turn.TryAcquire(1) {
						t.Error("not all was given back")
					}
				})
			})
		}
	}
}

func TestMeasure(t *testing.T) {
	for text, want := range map[string][2]int{
		``:                        {0, 0},
		`1`:                       {0, 0},
		`[]`:                      {1, 0},
		`{}`:                      {0, 1},
		`[1,2,3]`:                 {3, 0},
		`{"a":1,"b":2}`:           {0, 2},
		`{"a":[{},{}],"b":[1,2]}`: {4, 4},
		`["a,b","[{\"\\",","]`:    {3, 0},
		`{"a,":"\\\",{"}`:         {0, 1},
		`]}"`:                     {0, 0},
		`"\`:                      {0, 0},
	} {
		if elements, fields := measure([]byte(text)); elements != want[0] || fields != want[1] {
			t.Errorf("%s: %d elements, %d fields, want %v", text, elements, fields, want)
		}
	}
}

// FuzzMeasure compares with what the decoder finds.
func FuzzMeasure(f *testing.F) {
	f.Add(`{"a":[{},[1,"]"],{"b":"\"{"}],"c":{"d":null}}`)
	f.Fuzz(func(t *testing.T, text string) {
		decoder := json.NewDecoder(strings.NewReader(text))
		var elements, fields int
		var count func(v any)
		count = func(v any) {
			switch v := v.(type) {
			case []any:
				elements += max(len(v), 1)
				for _, e := range v {
					count(e)
				}
			case map[string]any:
				fields += max(len(v), 1)
				for _, e := range v {
					count(e)
				}
			}
		}
		var v any
		if !json.Valid([]byte(text)) || decoder.Decode(&v) != nil {
			measure([]byte(text))
			return
		}
		count(v)
		// A field that is given twice counts twice, and what it holds does.
		if e, n := measure([]byte(text)); e < min(elements, maxElements) || n < min(fields, maxFields) {
			t.Errorf("%d elements, %d fields, and there are %d and %d", e, n, elements, fields)
		}
	})
}

// TestLargeConfigMaps are not checked, since that would take too much; sidecars look themselves.
func TestLargeConfigMaps(t *testing.T) {
	s := newServed(t)
	data := map[string]string{"a.yaml": "bad" + strings.Repeat(" ", maxChecked), "b.yaml": "good"}
	r := s.review(t, "/validate", configMapRequest(t, data))
	if want := fmt.Sprint([]string{"a.yaml: was not checked, since no more than 128 KiB of a ConfigMap are"}); !r.Allowed || fmt.Sprint(r.Warnings) != want {
		t.Errorf("%+v", r)
	}
	data["b.yaml"] = "bad"
	if r := s.review(t, "/validate", configMapRequest(t, data)); r.Allowed {
		t.Error("what is small is not checked beside what is large")
	}
}

// TestLargestPods are admitted: the bounds are far from what is in use.
func TestLargestPods(t *testing.T) {
	s := newServed(t)
	s.api.Put(t, "/api/v1/namespaces/shop/configmaps/readthrough", corev1.ConfigMap{Data: map[string]string{"readthrough.yaml": ""}})
	pod := &corev1.Pod{}
	pod.Labels = map[string]string{"readthrough/inject": "enabled"}
	for i := range 40 {
		c := corev1.Container{Name: fmt.Sprintf("app-%d", i), Image: "app"}
		for j := range 100 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("V%d", j), Value: strings.Repeat("x", 100)})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}
	if r := s.review(t, "/mutate", podRequest(t, pod)); !r.Allowed || len(r.Patch) == 0 {
		t.Errorf("%+v", r)
	}
}

package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// outcome is what became of a review, for metrics.
type outcome string

const (
	injected  outcome = "injected"
	unchanged outcome = "unchanged" // the pod is as it should be
	skipped   outcome = "skipped"   // there is a reason not to inject
	valid     outcome = "valid"
	denied    outcome = "denied"
	malformed outcome = "malformed" // no review, or of what nobody should send here
	refused   outcome = "refused"   // for want of memory: too many at once
	failed    outcome = "failed"    // by a mistake in this program
)

// verdict answers a review.
type verdict struct {
	outcome  outcome
	denial   string // why the object is not admitted
	code     int32  // of HTTP, with a denial
	failure  bool   // the denial is for want of a verdict, and says nothing about the object
	patch    []byte // RFC 6902; none if empty
	warnings []string
}

// reviewer judges what a review asks about.
type reviewer func(ctx context.Context, request *admissionv1.AdmissionRequest) verdict

// reviews serves AdmissionReviews: whatever comes in, the answer is one that an API server understands. Where there is no verdict,
// that is a status of HTTP: the API server then goes by the failurePolicy, which it does not for a denial.
type reviews struct {
	name    string // of the webhook, for metrics and the log
	judge   reviewer
	budget  *budget
	log     *zap.Logger
	metrics *Metrics
}

func (h *reviews) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), patience(r))
	defer cancel()
	r = r.WithContext(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		_ = http.NewResponseController(w).SetReadDeadline(deadline) // what is no connection has none
	}
	held := &share{budget: h.budget}
	defer held.end()
	request, status, err := readReview(w, r, held)
	if err != nil {
		o := malformed
		if status == http.StatusServiceUnavailable {
			o = refused
		}
		h.metrics.reviewed(h.name, o, time.Since(began))
		http.Error(w, err.Error(), status)
		return
	}
	v := h.guarded(ctx, request)
	h.metrics.reviewed(h.name, v.outcome, time.Since(began))
	h.note(request, v)
	if v.failure {
		http.Error(w, v.denial, int(v.code))
		return
	}
	response := &admissionv1.AdmissionResponse{UID: request.UID, Allowed: v.denial == "", Warnings: printable(v.warnings)}
	if !response.Allowed {
		response.Result = &metav1.Status{Status: metav1.StatusFailure, Message: v.denial, Code: v.code, Reason: reasons[v.code]}
	} else if len(v.patch) > 0 {
		kind := admissionv1.PatchTypeJSONPatch
		response.Patch, response.PatchType = v.patch, &kind
	}
	answer := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: response,
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the API server may be gone
}

const (
	// patienceUntold is for requests that do not tell how long their sender waits.
	patienceUntold = 5 * time.Second
	// mostPatience is what API servers wait unless told otherwise. Whoever may wait for longer gets no longer a hold on memory.
	mostPatience = 10 * time.Second
)

// patience is how long a review may take, all in all: as long as its sender waits, which API servers tell, less what it takes to
// decide and to answer. They round up to a second, hence a margin of one where there is as much.
func patience(r *http.Request) time.Duration {
	told, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || told <= 0 {
		return patienceUntold
	}
	told = min(told, mostPatience)
	return told - min(told/4, time.Second)
}

// readReview gives the request, or the status of HTTP that refuses it.
func readReview(w http.ResponseWriter, r *http.Request, held *share) (*admissionv1.AdmissionRequest, int, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, http.StatusMethodNotAllowed, errors.New("send an AdmissionReview by POST")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, http.StatusUnsupportedMediaType, errors.New("send an AdmissionReview as application/json")
	}
	body, err := held.body(w, r)
	switch {
	case errors.Is(err, errBusy):
		return nil, http.StatusServiceUnavailable, err
	case errors.Is(err, errTooLarge):
		return nil, http.StatusRequestEntityTooLarge, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, http.StatusRequestTimeout, errors.New("the AdmissionReview did not arrive in time")
	case err != nil:
		return nil, http.StatusBadRequest, err
	}
	if err := held.decoding(r.Context(), body); errors.Is(err, errBusy) {
		return nil, http.StatusServiceUnavailable, err
	} else if err != nil {
		return nil, http.StatusRequestEntityTooLarge, err
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("this is no AdmissionReview: %w", err)
	}
	switch {
	case review.APIVersion != admissionv1.SchemeGroupVersion.String() || review.Kind != "AdmissionReview":
		return nil, http.StatusBadRequest, fmt.Errorf("this is %q of %q: send an AdmissionReview of admission.k8s.io/v1", review.Kind, review.APIVersion)
	case review.Request == nil || review.Request.UID == "":
		return nil, http.StatusBadRequest, errors.New("the AdmissionReview has no request with a uid")
	}
	return review.Request, 0, nil
}

// guarded is judge, of which a panic is a verdict too.
func (h *reviews) guarded(ctx context.Context, request *admissionv1.AdmissionRequest) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("panic in a review: a mistake in this program, which went on",
				zap.Any("panic", p), zap.ByteString("stack", debug.Stack()), zap.String("namespace", request.Namespace), zap.String("name", request.Name))
			v = mistaken("readthrough failed by a mistake in its program (%v): its log tells more", p)
		}
	}()
	return h.judge(ctx, request)
}

func (h *reviews) note(request *admissionv1.AdmissionRequest, v verdict) {
	log, text := h.log.Debug, "review"
	switch v.outcome {
	case injected:
		log = h.log.Info
	case denied, malformed, refused, failed:
		log = h.log.Warn
	default:
	}
	log(text, zap.String("webhook", h.name), zap.String("outcome", string(v.outcome)), zap.String("namespace", request.Namespace),
		zap.String("name", request.Name), zap.String("uid", string(request.UID)), zap.Bool("dryRun", value(request.DryRun)),
		zap.String("denial", v.denial), zap.Strings("warnings", v.warnings))
}

// reasons are what clients know the codes of denials by.
var reasons = map[int32]metav1.StatusReason{
	http.StatusBadRequest: metav1.StatusReasonBadRequest,
	http.StatusForbidden:  metav1.StatusReasonForbidden,
}

// deny refuses an object for a reason that whoever sent it can do something about.
func deny(format string, args ...any) verdict {
	return verdict{outcome: denied, denial: fmt.Sprintf(format, args...), code: http.StatusForbidden}
}

// misdirected refuses what no webhook configuration of ours sends here.
func misdirected(format string, args ...any) verdict {
	return verdict{outcome: malformed, denial: fmt.Sprintf(format, args...), code: http.StatusBadRequest}
}

// busy is no verdict, for want of memory.
func busy() verdict {
	return verdict{outcome: refused, failure: true, denial: errBusy.Error(), code: http.StatusServiceUnavailable}
}

// mistaken is no verdict, for a mistake in this program.
func mistaken(format string, args ...any) verdict {
	return verdict{outcome: failed, failure: true, denial: fmt.Sprintf(format, args...), code: http.StatusInternalServerError}
}

// printable makes each warning one line: API servers drop what is none.
func printable(warnings []string) []string {
	var all []string
	for _, w := range warnings {
		all = append(all, strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, strings.ToValidUTF8(w, "?")))
	}
	return all
}

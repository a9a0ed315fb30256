package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/sync/semaphore"
)

// Whoever reaches the port may send reviews, and a short one may stand for a lot: {} in a list of containers takes three bytes
// in JSON and more than a kilobyte as a container. So what reviews take at once is bounded, for the sake of a memory limit of
// 128 MiB; they wait for each other where that is not enough.
const (
	// maxReview bounds a request. The API server takes objects of 3 MiB at most, and a review may hold two.
	maxReview = 8 << 20
	// smallReview is one that need not wait for a large one, whose sender may be slow. Most pods have a few KiB.
	smallReview = 64 << 10

	maxElements = 10_000 // of all lists
	maxFields   = 50_000 // of all objects; most are in the managedFields

	elementWeight = 2 << 10 // bytes that the decoder may take for one
	fieldWeight   = 256

	smallBudget   = 8 << 20 // bytes of bodies, each of which is held up to three times: as it came, without the review, decoded
	largeBudget   = maxReview
	decodedBudget = 40 << 20
)

// budget is the memory for reviews.
type budget struct{ small, large, decoded *semaphore.Weighted }

func newBudget() *budget {
	return &budget{
		small: semaphore.NewWeighted(smallBudget), large: semaphore.NewWeighted(largeBudget), decoded: semaphore.NewWeighted(decodedBudget),
	}
}

// share is what one review has of the budget. Memory for the decoded review is had after that for the body, never before, so
// that no two wait for each other.
type share struct {
	budget  *budget
	release []func()
}

func (s *share) take(ctx context.Context, from *semaphore.Weighted, bytes int64) error {
	if err := from.Acquire(ctx, bytes); err != nil {
		return errBusy
	}
	s.release = append(s.release, func() { from.Release(bytes) })
	return nil
}

// end gives back everything.
func (s *share) end() {
	for _, release := range s.release {
		release()
	}
}

var (
	errBusy     = errors.New("too many reviews are under way: ask again")
	errTooLarge = fmt.Errorf("an AdmissionReview has %d MiB at most", maxReview>>20)
)

// body reads the request's body, once there is memory for it.
func (s *share) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	length := r.ContentLength
	if length > maxReview {
		return nil, errTooLarge
	}
	var err error
	switch {
	case length < 0:
		err = s.take(r.Context(), s.budget.large, maxReview)
	case length <= smallReview:
		err = s.take(r.Context(), s.budget.small, length)
	default:
		err = s.take(r.Context(), s.budget.large, length)
	}
	if err != nil {
		return nil, err
	}
	if length >= 0 {
		body := make([]byte, length)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		err = errTooLarge
	}
	return body, err
}

// decoding waits until there is memory to decode the body.
func (s *share) decoding(ctx context.Context, body []byte) error {
	elements, fields := measure(body)
	if elements > maxElements || fields > maxFields {
		return fmt.Errorf("this AdmissionReview has more than %d elements in its lists, or %d fields in its objects: no pod or ConfigMap needs as many", maxElements, maxFields)
	}
	return s.take(ctx, s.budget.decoded, int64(elements)*elementWeight+int64(fields)*fieldWeight)
}

// measure counts the elements of all lists in the JSON and the fields of all objects, an empty one as one; no further than to
// one more than there may be. It decodes nothing, and so takes no memory for what it refuses. What is not JSON, which it does
// not notice, is refused by the decoder before that allocates anything.
func measure(body []byte) (elements, fields int) {
	var lists []bool // around the byte at hand, whether each is a list
	for i := 0; i < len(body) && elements <= maxElements && fields <= maxFields; i++ {
		switch body[i] {
		case '"':
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
			continue
		case '[', '{':
			lists = append(lists, body[i] == '[')
		case ',':
		case ']', '}':
			lists = lists[:max(len(lists)-1, 0)]
			continue
		default:
			continue
		}
		if len(lists) > 0 && lists[len(lists)-1] {
			elements++
		} else {
			fields++
		}
	}
	return elements, fields
}

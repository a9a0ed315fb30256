package harness

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// Main runs a package's tests, closes what they shared, and fails if a goroutine is left. It is the body of TestMain.
func Main(m *testing.M) {
	code := m.Run()
	CloseShared()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// Long says whether tests shall run at full length (make test-long), with more seeds and for longer, but no other tests.
func Long() bool { return os.Getenv("READTHROUGH_LONG") != "" }

// shared is what to close, the latest first.
var shared struct {
	mu      sync.Mutex
	closers []func()
}

// CloseShared closes what this process shares between its users: the PostgreSQL server behind [NewDatabase] and the sidecar's
// binary. A program that is no test defers it.
func CloseShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for _, closer := range slices.Backward(shared.closers) {
		closer()
	}
	shared.closers = nil
}

// once is a thing that the process makes at its first use and closes in CloseShared.
type once[T any] struct {
	mu    sync.Mutex
	made  bool
	value T
	err   error
}

// get returns the thing, made by the first caller.
func (o *once[T]) get(start func() (value T, closer func(), err error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.made {
		return o.value, o.err
	}
	var closer func()
	o.value, closer, o.err = start()
	o.made = true
	if o.err != nil {
		return o.value, o.err
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.closers = append(shared.closers, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		closer()
		o.made = false
	})
	return o.value, nil
}

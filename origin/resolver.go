package origin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"readthrough/internal/lease"
)

// Outcome is how a load ended, for metrics.
type Outcome string

const (
	OutcomeFound   Outcome = "found"
	OutcomeNone    Outcome = "none" // no row
	OutcomeError   Outcome = "error"
	OutcomeTimeout Outcome = "timeout"
	OutcomeBusy    Outcome = "busy"
	OutcomeDown    Outcome = "down"
)

// FillOutcome is how a fill ended, for metrics.
type FillOutcome string

const (
	FillStored   FillOutcome = "stored"
	FillMissing  FillOutcome = "missing" // no row: that is remembered
	FillRefused  FillOutcome = "refused" // the right to it is gone: somebody has written meanwhile
	FillFailed   FillOutcome = "failed"
	FillTooLarge FillOutcome = "too_large" // more than maxValue: it was not tried
)

// LeaseOutcome is what Redis said to an acquire, for metrics.
type LeaseOutcome string

const (
	LeaseGranted LeaseOutcome = "granted"
	LeaseHit     LeaseOutcome = "hit"     // somebody has filled it in meanwhile
	LeaseMissing LeaseOutcome = "missing" // it is known not to exist
	LeaseWaits   LeaseOutcome = "waits"   // another pod loads it
	LeaseMoving  LeaseOutcome = "moving"  // its slot is on its way: loaded without a lease
	LeaseNone    LeaseOutcome = "none"    // the key can have none: the same
	LeaseRefused LeaseOutcome = "refused" // Redis refuses to write: the same, within the bound of failOpen
	LeaseFailed  LeaseOutcome = "failed"  // Redis does not answer: the same
)

// RenewalOutcome is how the renewal of a value past its time ended, for metrics.
type RenewalOutcome string

const (
	RenewalStored  RenewalOutcome = "stored"
	RenewalRefused RenewalOutcome = "refused" // somebody has written meanwhile
	RenewalFailed  RenewalOutcome = "failed"  // the value stays
)

// Observer counts what happens. It is called from many goroutines, and must not block.
type Observer interface {
	Loaded(mapName string, outcome Outcome, took time.Duration)
	Filled(mapName string, outcome FillOutcome)
	Leased(mapName string, outcome LeaseOutcome)
	Renewed(mapName string, outcome RenewalOutcome)
	Joined(mapName string)             // a GET waits for a load that another one began
	StartedOver(mapName string, n int) // so many GETs waited for a load whose value could be too old for them
	Suppressed(mapName string, c Code) // an error was answered as not found (onError: nil)
}

// Options are what a Resolver works with.
type Options struct {
	Databases []Database   // at least one; the first is that of maps without an origin
	Maps      *Maps        // required
	Leases    lease.Leases // nil: nothing is filled in
	Log       *zap.Logger
	Observer  Observer

	// MaxValue bounds what is read of a value, in bytes; a larger one is an error of its map. 16 MiB where 0.
	MaxValue int
}

const (
	defaultMaxValue = 16 << 20

	// settingsTimeout bounds reading the connection settings when a Resolver is made.
	settingsTimeout = 10 * time.Second

	// lateness is how much later than its deadline a load may end, by what the network and a cancel request take. After that
	// those who wait for it are told, and it ends by itself.
	lateness = 50 * time.Millisecond

	// failureLogInterval is how often a map's failures with the same code are logged at most.
	failureLogInterval = 10 * time.Second
)

// Resolver answers the GETs that miss: it finds the map of a key, loads its value, once for all who ask at the same time, and
// fills it in. It connects to a database when it needs one, and not before.
type Resolver struct {
	opts      Options
	failures  *zap.Logger // of loads, sampled: clients and metrics are told of each
	databases map[string]*database
	first     *database
	maps      atomic.Pointer[Maps]

	background context.Context // of all loads; ends when Close runs out of patience
	cancel     context.CancelFunc
	running    sync.WaitGroup // loads

	mu       sync.Mutex       // guards what is below, and the fields of calls and waiters that say so
	calls    map[string]*call // by key
	renewals renewals
	closed   bool
}

// NewResolver reads the connection settings, but connects to nothing. The error joins all that is wrong. Close it after use.
func NewResolver(opts Options) (*Resolver, error) {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	if opts.Observer == nil {
		opts.Observer = noObserver{}
	}
	if opts.MaxValue == 0 {
		opts.MaxValue = defaultMaxValue
	}
	var errs []error
	if opts.MaxValue < 0 {
		errs = append(errs, errors.New("origin: the bound of values must be positive"))
	}
	if len(opts.Databases) == 0 {
		errs = append(errs, errors.New("origins: none is configured, at least one is needed"))
	}

	r := &Resolver{opts: opts, databases: map[string]*database{}, calls: map[string]*call{}}
	r.renewals = renewals{busy: map[string]struct{}{}, rested: map[string]time.Time{}}
	r.failures = opts.Log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, failureLogInterval, 1, 0)
	}))
	r.background, r.cancel = context.WithCancel(context.Background())
	ctx, stop := context.WithTimeout(r.background, settingsTimeout)
	defer stop()
	for _, conf := range opts.Databases {
		if r.databases[conf.Name] != nil {
			errs = append(errs, fmt.Errorf("origins: two are named %q: give each a name of its own", conf.Name))
			continue
		}
		db, err := openDatabase(ctx, conf, opts.MaxValue, opts.Log)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.databases[conf.Name] = db
		if r.first == nil {
			r.first = db
		}
	}
	if len(errs) == 0 {
		errs = append(errs, r.SetMaps(opts.Maps))
	}
	if err := errors.Join(errs...); err != nil {
		_ = r.Close(ctx) // of pools that have not connected
		return nil, err
	}
	return r, nil
}

// SetMaps puts other maps in the place of those there are. Loads in flight end under the map that they began with. Where a map
// names an origin that there is none of, the error says so and nothing changes.
func (r *Resolver) SetMaps(maps *Maps) error {
	if maps == nil {
		return errors.New("origin: no maps")
	}
	var errs []error
	for _, m := range maps.maps {
		if r.database(m) == nil {
			errs = append(errs, &DefinitionError{
				Index: m.index, Map: m.Name, Field: "origin",
				Problem: fmt.Sprintf("no origin is named %q: write one of those under origins", m.Origin),
			})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.maps.Store(maps)
	return nil
}

// database returns the map's origin, nil where there is none of that name.
func (r *Resolver) database(m *Map) *database {
	if m.Origin == "" {
		return r.first
	}
	return r.databases[m.Origin]
}

// Maps returns the maps in use.
func (r *Resolver) Maps() *Maps { return r.maps.Load() }

// Mapped reports whether a map has the key. It allocates nothing.
func (r *Resolver) Mapped(key []byte) bool {
	var spans [maxCaptures]span
	return r.maps.Load().match(key, &spans) != nil
}

func (e *Error) outcome() Outcome {
	switch e.Code {
	case CodeTimeout:
		return OutcomeTimeout
	case CodeBusy:
		return OutcomeBusy
	case CodeDown:
		return OutcomeDown
	default:
		return OutcomeError
	}
}

// softened applies the map's onError.
func (r *Resolver) softened(m *Map, a Answer) Answer {
	var failure *Error
	if m.OnError == ErrorNil && errors.As(a.Err, &failure) {
		r.opts.Observer.Suppressed(m.Name, failure.Code)
		return Answer{}
	}
	return a
}

// logFailure logs with neither key nor parameters. The message names map and code, so that the sampling is theirs.
func (r *Resolver) logFailure(m *Map, failure *Error) {
	r.failures.Warn("load of map "+m.Name+" failed with "+string(failure.Code), zap.String("reason", failure.Reason))
}

// Close refuses further loads, waits for those in flight and closes all connections. When ctx ends it cancels the loads, waits
// until they have answered and returns why; connections that a server does not let go of may then still be closing.
func (r *Resolver) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()

	loads := make(chan struct{})
	go func() {
		r.running.Wait()
		close(loads)
	}()
	var err error
	select {
	case <-loads:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	r.cancel()
	<-loads

	pools := make(chan struct{})
	go func() {
		var closing sync.WaitGroup
		for _, db := range r.databases {
			closing.Go(db.pool.Close)
		}
		closing.Wait()
		close(pools)
	}()
	select {
	case <-pools:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return err
}

// noObserver stands in where nobody counts.
type noObserver struct{}

func (noObserver) Loaded(string, Outcome, time.Duration) {}
func (noObserver) Filled(string, FillOutcome)            {}
func (noObserver) Leased(string, LeaseOutcome)           {}
func (noObserver) Renewed(string, RenewalOutcome)        {}
func (noObserver) Joined(string)                         {}
func (noObserver) StartedOver(string, int)               {}
func (noObserver) Suppressed(string, Code)               {}

package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Cache is where a loaded value goes. Whether a key may be filled is its business: it may refuse.
type Cache interface {
	// Fill stores the value under the key where the key does not exist. stored is false where it does. It must be safe for
	// concurrent use, and keep neither key nor value.
	Fill(ctx context.Context, key, value []byte, ttl time.Duration) (stored bool, err error)
}

// Answer is what becomes of a GET that missed.
type Answer struct {
	Value []byte // shared by all who waited for it: not to be changed
	Found bool   // false where no row, or no map, has the key
	Err   error  // an *Error, or nil
}

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
	FillStored  FillOutcome = "stored"
	FillRefused FillOutcome = "refused" // the key exists by now
	FillFailed  FillOutcome = "failed"
)

// Observer counts what happens. It is called from many goroutines, and must not block.
type Observer interface {
	Loaded(mapName string, outcome Outcome, took time.Duration)
	Filled(mapName string, outcome FillOutcome)
	Joined(mapName string)             // a GET waits for a load that another one began
	Suppressed(mapName string, c Code) // an error was answered as not found (onError: nil)
}

// Options are what a Resolver works with.
type Options struct {
	Databases []Database // at least one; the first is that of maps without an origin
	Maps      *Maps      // required
	Cache     Cache      // nil: nothing is filled
	Log       *zap.Logger
	Observer  Observer

	// WaitFactor bounds a GET as a whole, as a multiple of its map's timeout, which bounds one load; 2 where 0.
	WaitFactor float64
	// MaxValue bounds what is read of a value, in bytes; a larger one is an error of its map. 64 MiB where 0.
	MaxValue int
}

const (
	defaultWaitFactor = 2
	defaultMaxValue   = 64 << 20

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

	mu     sync.Mutex // guards what is below, and the fields of calls and waiters that say so
	calls  map[callKey]*call
	closed bool
}

// callKey holds the map besides the key: after a change of the maps nobody joins a load of before.
type callKey struct {
	m   *Map
	key string
}

// call is one load and those who wait for it.
type call struct {
	m      *Map
	db     *database
	key    []byte
	params Params // views of key

	waiters []*waiter // guarded by Resolver.mu
	fills   bool      // guarded by Resolver.mu: one of them wants it filled in
	value   *Answer   // guarded by Resolver.mu: what was loaded, while it is being filled in
	ended   bool      // guarded by Resolver.mu
}

// waiter is one GET.
type waiter struct {
	done     func(Answer)
	timer    *time.Timer
	answered bool // guarded by Resolver.mu
}

// NewResolver reads the connection settings, but connects to nothing. The error joins all that is wrong. Close it after use.
func NewResolver(opts Options) (*Resolver, error) {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	if opts.Observer == nil {
		opts.Observer = noObserver{}
	}
	if opts.WaitFactor == 0 {
		opts.WaitFactor = defaultWaitFactor
	}
	if opts.MaxValue == 0 {
		opts.MaxValue = defaultMaxValue
	}
	var errs []error
	if opts.WaitFactor < 1 || opts.MaxValue < 0 {
		errs = append(errs, errors.New("origin: the wait factor must be at least 1, the bound of values positive"))
	}
	if len(opts.Databases) == 0 {
		errs = append(errs, errors.New("origins: none is configured, at least one is needed"))
	}

	r := &Resolver{opts: opts, databases: map[string]*database{}, calls: map[callKey]*call{}}
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

// Get answers a GET of a key that Redis does not have. It never blocks, and keeps nothing of key. done is called once, from any
// goroutine, and before Get returns where there is nothing to wait for; it must not block either.
func (r *Resolver) Get(key []byte, done func(Answer)) { r.get(key, true, done) }

// Load is Get without the fill, for those to whom a change of the key in Redis would mean something. Others who wait for the same
// load may have it filled in.
func (r *Resolver) Load(key []byte, done func(Answer)) { r.get(key, false, done) }

func (r *Resolver) get(key []byte, fills bool, done func(Answer)) {
	key = bytes.Clone(key)
	m, params, ok := r.maps.Load().Match(key)
	if !ok {
		done(Answer{})
		return
	}
	if err := r.join(m, key, params, fills, done); err != nil {
		done(r.answer(m, Answer{Err: err}))
	}
}

// join lets done wait for the call for the key, and begins one where there is none.
func (r *Resolver) join(m *Map, key []byte, params Params, fills bool, done func(Answer)) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return newError(CodeDown, m, nil, "the sidecar is shutting down")
	}
	c := r.calls[callKey{m, string(key)}]
	if c == nil {
		db := r.database(m)
		if busy := db.enter(m); busy != nil {
			r.opts.Observer.Loaded(m.Name, OutcomeBusy, 0)
			return busy
		}
		c = &call{m: m, db: db, key: key, params: params}
		r.calls[callKey{m, string(key)}] = c
		r.running.Add(1)
		go r.run(c)
	} else {
		r.opts.Observer.Joined(m.Name)
	}
	c.fills = c.fills || fills
	w := &waiter{done: done}
	wait := time.Duration(r.opts.WaitFactor * float64(m.Timeout))
	w.timer = time.AfterFunc(wait, func() { r.giveUp(c, w, wait) })
	c.waiters = append(c.waiters, w)
	return nil
}

// run is the goroutine of a call. Whatever happens, everybody gets an answer.
func (r *Resolver) run(c *call) {
	defer r.running.Done()
	defer c.db.leave(c.m)
	defer func() {
		if p := recover(); p != nil {
			r.opts.Log.Error("panic in a load", zap.String("map", c.m.Name), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			r.end(c, Answer{Err: newError(CodeError, c.m, fmt.Errorf("panic: %v", p), "internal error")})
		}
	}()

	value, failure := r.load(c)
	if failure != nil {
		r.end(c, Answer{Err: failure})
		return
	}
	answer := Answer{Value: value, Found: value != nil}
	if answer.Found && r.opts.Cache != nil && r.filling(c, answer) {
		r.fill(c, value)
	}
	r.end(c, answer)
}

// load asks the database, bounded by the map's timeout.
func (r *Resolver) load(c *call) ([]byte, *Error) {
	ctx, cancel := context.WithTimeout(r.background, c.m.Timeout)
	defer cancel()
	late := time.AfterFunc(c.m.Timeout+lateness, func() {
		r.end(c, Answer{Err: timeoutError(c.m, c.m.Timeout, context.DeadlineExceeded)})
	})
	defer late.Stop()

	began := time.Now()
	value, failure := c.db.load(ctx, c.m, c.params)
	took := time.Since(began)
	switch {
	case failure != nil:
		r.opts.Observer.Loaded(c.m.Name, failure.outcome(), took)
		r.logFailure(c.m, failure)
	case value == nil:
		r.opts.Observer.Loaded(c.m.Name, OutcomeNone, took)
	default:
		r.opts.Observer.Loaded(c.m.Name, OutcomeFound, took)
	}
	return value, failure
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

// filling notes the value while it is being filled in: a waiter whose time is up gets it, and not an error. It reports whether
// anybody wants that and still cares: the value of a load that came too late is not filled in.
func (r *Resolver) filling(c *call, answer Answer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.value = &answer
	return c.fills && !c.ended
}

// fill puts the value into the cache. It comes before the answer, so that who has the answer finds it in Redis; its failure is
// counted and goes no further.
func (r *Resolver) fill(c *call, value []byte) {
	ctx, cancel := context.WithTimeout(r.background, c.m.Timeout)
	defer cancel()
	stored, err := r.opts.Cache.Fill(ctx, c.key, value, c.m.expiry())
	switch {
	case err != nil:
		r.opts.Observer.Filled(c.m.Name, FillFailed)
		r.opts.Log.Debug("fill failed", zap.String("map", c.m.Name), zap.Error(err))
	case stored:
		r.opts.Observer.Filled(c.m.Name, FillStored)
	default:
		r.opts.Observer.Filled(c.m.Name, FillRefused)
	}
}

// end answers everybody who waits for the call, the first time that it is called. Nobody can join after it.
func (r *Resolver) end(c *call, answer Answer) {
	r.mu.Lock()
	if c.ended {
		r.mu.Unlock()
		return
	}
	if c.value != nil {
		answer = *c.value // a panic after the value was there does not take it back
	}
	c.ended = true
	delete(r.calls, callKey{c.m, string(c.key)})
	var waiting []*waiter
	for _, w := range c.waiters {
		if !w.answered {
			w.answered = true
			waiting = append(waiting, w)
		}
	}
	c.waiters = nil
	r.mu.Unlock()

	for _, w := range waiting {
		w.timer.Stop()
		w.done(r.answer(c.m, answer))
	}
}

// giveUp answers one waiter whose time is up. The load goes on for the others.
func (r *Resolver) giveUp(c *call, w *waiter, waited time.Duration) {
	r.mu.Lock()
	if w.answered {
		r.mu.Unlock()
		return
	}
	w.answered = true
	answer := Answer{Err: timeoutError(c.m, waited, context.DeadlineExceeded)}
	if c.value != nil {
		answer = *c.value
	}
	r.mu.Unlock()
	w.done(r.answer(c.m, answer))
}

// answer applies the map's onError.
func (r *Resolver) answer(m *Map, a Answer) Answer {
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
func (noObserver) Joined(string)                         {}
func (noObserver) Suppressed(string, Code)               {}

package origin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// QueryMode says how statements reach the server, in pgx's words.
type QueryMode string

const (
	// CacheStatement keeps a prepared statement per connection and map. It needs a connection of one's own, or a pooler that follows
	// prepared statements (PgBouncer 1.21 with max_prepared_statements).
	CacheStatement QueryMode = "cache_statement"
	// CacheDescribe and Exec leave nothing on a connection, as PgBouncer in transaction mode needs it. A load asks for no description
	// beforehand in any mode, so the two are one here.
	CacheDescribe QueryMode = "cache_describe"
	Exec          QueryMode = "exec"
)

// Database says how to reach one origin.
type Database struct {
	Name string
	// URL returns a connection string, in either of libpq's forms; "" leaves everything to the PG* variables, and so does a nil URL.
	// It is asked again before each new connection, so that what it says may change. It must be quick.
	URL func(context.Context) (string, error)
	// Password returns the password in place of the one in the connection string; may be nil. It is asked like URL.
	Password func(context.Context) (string, error)
	// MaxConns bounds the connections; 2 where 0. There is no minimum.
	MaxConns int32
	// MaxIdle closes connections that have been idle for longer, by up to a half; 30 s where 0.
	MaxIdle time.Duration
	// ApplicationName is what pg_stat_activity shows, unless the connection string or PGAPPNAME names another.
	ApplicationName string
	// QueryMode is that of the connection string (default_query_exec_mode) where "", and CacheStatement where that has none.
	QueryMode QueryMode

	// Queue bounds the loads that run or wait for a connection; further ones are refused with ORIGINBUSY. 1024 where 0.
	Queue int
	// Breaker says when loads are refused without a try.
	Breaker Breaker
	// FailOpen bounds the loads that run at a time without a lease, because Redis fails: nothing keeps other pods from the same
	// ones. Where 0 none are made.
	FailOpen int
}

// Breaker says when an origin that fails is left alone.
type Breaker struct {
	Failures int           // in a row, after which it is; 0: never
	Pause    time.Duration // before it is tried again; grows with every failure from then on. 1 s where 0
}

const (
	defaultMaxConns = 2
	defaultMaxIdle  = 30 * time.Second
	defaultPause    = time.Second
	defaultQueue    = 1024
	maxLifetime     = time.Hour // of a connection, so that a moved database is found and its memory returned

	// connectTimeout bounds one attempt to connect where the settings have no connect_timeout. The attempt goes on when the load
	// that began it has given up.
	connectTimeout = 5 * time.Second
)

// database is one origin at work.
type database struct {
	conf    Database
	pool    *pgxpool.Pool
	backoff backoff
	breaker *breaker    // nil: none, nor do maps have theirs
	unnamed atomic.Bool // named statements have failed: the server is behind a pooler
	log     *zap.Logger

	queued   atomic.Int64 // loads that run or wait
	turns    turns        // of loads that need a connection
	failOpen bound        // of loads without a lease

	maxValue int // bytes
}

// openDatabase makes the pool. It connects to nothing; the settings are read once, so that mistakes in them show at once.
func openDatabase(ctx context.Context, conf Database, maxValue int, log *zap.Logger) (*database, error) {
	d := &database{conf: conf, log: log.With(zap.String("origin", conf.Name)), maxValue: maxValue}
	if conf.MaxConns < 0 || conf.MaxIdle < 0 {
		return nil, fmt.Errorf("origin %s: pool: max and idle must not be negative", conf.Name)
	}
	if d.conf.MaxConns == 0 {
		d.conf.MaxConns = defaultMaxConns
	}
	d.turns.max = int(d.conf.MaxConns)
	if d.conf.MaxIdle == 0 {
		d.conf.MaxIdle = defaultMaxIdle
	}
	if conf.Queue < 0 || conf.FailOpen < 0 {
		return nil, fmt.Errorf("origin %s: queue and failOpen must not be negative", conf.Name)
	}
	if d.conf.Queue == 0 {
		d.conf.Queue = defaultQueue
	}
	d.failOpen = bound{max: conf.FailOpen, queue: d.conf.Queue}
	if conf.Breaker.Failures < 0 || conf.Breaker.Pause < 0 || conf.Breaker.Pause > MaxPause {
		return nil, fmt.Errorf("origin %s: breaker: failures must not be negative, nor pause longer than %s", conf.Name, MaxPause)
	}
	if d.conf.Breaker.Pause == 0 {
		d.conf.Breaker.Pause = defaultPause
	}
	d.breaker = newBreaker(d.conf.Breaker.Failures, d.conf.Breaker.Pause, d.breakerChanged)
	settings, err := d.settings(ctx)
	if err != nil {
		return nil, fmt.Errorf("origin %s: %w", conf.Name, err)
	}
	config, err := pgxpool.ParseConfig(settings.ConnString())
	if err != nil {
		return nil, fmt.Errorf("origin %s: %w", conf.Name, parseFailure(err))
	}
	config.ConnConfig = settings
	config.BeforeConnect = d.beforeConnect
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		newSession(conn, conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement && !d.unnamed.Load())
		return nil
	}
	// A ping would be a second round trip. A connection that died while idle shows at once, and the load goes on with another.
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	config.MaxConns = d.conf.MaxConns
	// Without a minimum no attempt of the pool to connect is cancelled by another one, so that each is seen to end (connectTracer).
	config.MinConns, config.MinIdleConns = 0, 0
	// Pods start together; what they do at intervals should not stay together.
	config.MaxConnIdleTime = jitter(d.conf.MaxIdle, 0.25)
	config.HealthCheckPeriod = jitter(max(d.conf.MaxIdle/8, time.Millisecond), 0.5)
	config.MaxConnLifetime = maxLifetime
	config.MaxConnLifetimeJitter = maxLifetime / 4
	d.pool, err = pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("origin %s: %w", conf.Name, err)
	}
	return d, nil
}

func (d *database) breakerChanged(open bool, r refusal) {
	if open {
		d.log.Warn("the origin is left alone", zap.Int("failures", r.failures), zap.Duration("next_try_in", r.next), zap.String("cause", oneLine(connectCause(r.cause))))
	} else {
		d.log.Info("the origin answers again")
	}
}

// jitter lengthens a duration by a random part, of at most part.
func jitter(d time.Duration, part float64) time.Duration {
	return d + time.Duration(rand.Float64()*part*float64(d))
}

// settingsError is a mistake in how to reach the origin. Its text holds no secrets.
type settingsError struct {
	problem string
	cause   error
}

func (e *settingsError) Error() string { return e.problem }
func (e *settingsError) Unwrap() error { return e.cause }

// settings asks for the connection settings as they are now. It runs on goroutines of the pool, where a panic in what it asks
// would end the program.
func (d *database) settings(ctx context.Context) (_ *pgx.ConnConfig, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &settingsError{"the connection settings cannot be read", fmt.Errorf("panic: %v", p)}
		}
	}()
	var url string
	if d.conf.URL != nil {
		if url, err = d.conf.URL(ctx); err != nil {
			return nil, &settingsError{"the connection settings cannot be read", err}
		}
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, parseFailure(err)
	}
	for name := range config.RuntimeParams {
		if strings.HasPrefix(name, "pool_") {
			return nil, &settingsError{problem: name + " is not possible in the connection settings: use pool.max and pool.idle"}
		}
	}
	if d.conf.Password != nil {
		if config.Password, err = d.conf.Password(ctx); err != nil {
			return nil, &settingsError{"the password cannot be read", err}
		}
	}
	switch d.conf.QueryMode {
	case "":
	case CacheStatement:
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	case CacheDescribe, Exec:
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
	case "simple_protocol":
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	default:
		return nil, &settingsError{problem: fmt.Sprintf("the query mode %q is unknown: write %s, %s or %s", d.conf.QueryMode, CacheStatement, CacheDescribe, Exec)}
	}
	if config.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return nil, &settingsError{problem: "the query mode simple_protocol is refused, it would put parameters into the text of the query: behind PgBouncer write exec or cache_describe"}
	}
	if config.RuntimeParams["application_name"] == "" && d.conf.ApplicationName != "" {
		config.RuntimeParams["application_name"] = d.conf.ApplicationName
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	config.MaxProtocolMessageBodyLen = d.maxValue + 4096 // and the names of columns, the text of an error
	config.Tracer = connectTracer{d}
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &cancelHandler{conn: conn}
	}
	return config, nil
}

// parseFailure keeps of pgx's error what cannot be a piece of the connection string.
func parseFailure(err error) error {
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		text = text[i+len("`: "):]
	}
	if strings.HasPrefix(text, "failed to parse as ") {
		text, _, _ = strings.Cut(text, " (")
	}
	return &settingsError{"the connection settings are not understood: " + text, err}
}

// beforeConnect lets a new connection use the settings of now, every one of them: host, TLS, user, password and the rest.
func (d *database) beforeConnect(ctx context.Context, config *pgx.ConnConfig) error {
	if err := d.backoff.begin(); err != nil {
		return err
	}
	settings, err := d.settings(ctx)
	if err != nil {
		d.connectFailed(err)
		return err
	}
	*config = *settings
	return nil
}

func (d *database) connectFailed(err error) {
	wait := d.backoff.failed(err)
	d.log.Warn("cannot connect to the origin", zap.String("cause", oneLine(connectCause(err))), zap.Duration("next_attempt_in", wait))
}

// connectTracer sees how every attempt to connect ends, those included that no load waits for any more.
type connectTracer struct{ d *database }

func (t connectTracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

func (t connectTracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	switch {
	case data.Err == nil:
		t.d.backoff.succeeded()
	case ctx.Err() == nil: // else the pool is closing
		t.d.connectFailed(data.Err)
	}
}

func (t connectTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (t connectTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// The pause after a failed attempt to connect doubles from minBackoff to maxBackoff, less a random part of a half.
const (
	minBackoff = 25 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// backoff spaces out attempts to connect to a database that cannot be reached: a thousand pods must not drown it as it comes back.
//
// It is about attempts, of which a load makes several as long as it has the time, so that a restart of the database costs a wait and no
// errors. The breaker is about loads: when enough of them have failed in spite of that, they stop waiting. A probe of the breaker may
// connect at once.
type backoff struct {
	mu       sync.Mutex
	failures int       // since the last success
	until    time.Time // no attempt before
	trying   bool      // an attempt after a failure is under way: no other one meanwhile
	cause    error     // of the last failure
}

// backoffError refuses an attempt to connect that comes too soon.
type backoffError struct{ cause error }

func (e backoffError) Error() string { return "waiting before the next attempt to connect" }
func (e backoffError) Unwrap() error { return e.cause }

// begin lets an attempt to connect through, or says why not. succeeded or failed must be called when it has ended.
func (b *backoff) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return nil
	}
	if b.trying || time.Now().Before(b.until) {
		return backoffError{b.cause}
	}
	b.trying = true
	return nil
}

func (b *backoff) failed(cause error) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait = growing(minBackoff, maxBackoff, b.failures)
	b.failures++
	b.until, b.trying, b.cause = time.Now().Add(wait), false, cause
	return wait
}

// dueNow ends the pause.
func (b *backoff) dueNow() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Time{}
}

func (b *backoff) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.trying, b.cause = 0, false, nil
}

// state returns when the next attempt may be made, and why the last one failed; nil where it did not.
func (b *backoff) state() (until time.Time, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return time.Time{}, nil
	}
	return b.until, b.cause
}

// livePoll is how soon a load looks again for one of the connections that there are, or that is being made, when it may make none.
const livePoll = 5 * time.Millisecond

// unavailable says that there is no connection.
type unavailable struct {
	code    Code
	cause   error
	reason  string
	within  bool  // the map's timeout is part of the reason
	outcome error // for the origin's breaker
}

// of tells it of a map.
func (u *unavailable) of(m *Map) *Error {
	if u.within {
		return newError(u.code, m, u.cause, "%s in %s", u.reason, m.Timeout)
	}
	return newError(u.code, m, u.cause, "%s", u.reason)
}

// acquire returns a connection. As long as ctx lasts it waits for one to come free, and tries again to make one.
func (d *database) acquire(ctx context.Context) (*pgxpool.Conn, *unavailable) {
	for {
		conn, err := d.pool.Acquire(ctx)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, d.acquireTimeout(ctx, err)
		}
		var refused backoffError
		if errors.As(err, &refused) {
			err = refused.cause
		}
		until, _ := d.backoff.state()
		stat := d.pool.Stat()
		if stat.TotalConns() > stat.ConstructingConns() {
			until = time.Now().Add(livePoll)
		}
		deadline, _ := ctx.Deadline()
		if until.After(deadline) {
			return nil, d.cannotConnect(err)
		}
		pause := time.NewTimer(max(time.Until(until), livePoll))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, d.acquireTimeout(ctx, err)
		}
	}
}

func (d *database) cannotConnect(err error) *unavailable {
	return &unavailable{code: CodeDown, cause: err, reason: fmt.Sprintf("cannot connect to origin %s: %s", d.conf.Name, connectCause(err)), outcome: err}
}

// acquireTimeout tells why ctx ended before there was a connection.
func (d *database) acquireTimeout(ctx context.Context, err error) *unavailable {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &unavailable{code: CodeDown, cause: err, reason: "the sidecar is shutting down", outcome: errNeither}
	}
	if _, cause := d.backoff.state(); cause != nil {
		return d.cannotConnect(cause)
	}
	stat := d.pool.Stat()
	if stat.ConstructingConns() > 0 && stat.AcquiredConns() == 0 {
		// It may yet succeed: an origin that is far away needs longer for its first connection than a map may wait.
		return &unavailable{code: CodeDown, cause: err, reason: "cannot connect to origin " + d.conf.Name, within: true, outcome: errNeither}
	}
	return &unavailable{code: CodeBusy, cause: err, reason: "no connection to origin " + d.conf.Name + " came free", within: true, outcome: errNeither}
}

package origin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// query is one load on its way over a connection.
type query struct {
	loadItem
	value    []byte
	err      error
	answered bool // value and err are the server's word; else the connection was lost before it, or never used
	failure  *Error
	outcome  error // for the breaker of the map

	named   bool // a statement was sent by name
	planned bool // that of the map had been prepared before
	again   bool // it has been tried again already
}

// roundTrip sends a transaction, all at once, and then reads what comes:
//
//	begin read only; set_config(…); [describe the query]; query; sync; commit; sync
//
// and for several queries
//
//	begin read only; set_config(…); savepoint; sync; query; sync; rollback to savepoint; query; sync; …; commit; sync
//
// The first time that a map is loaded over this connection, its query is described too, without what is wrapped round it: its
// columns must have different names, and the types of its parameters are learnt. After an error the server skips to the next
// sync, and what follows rolls back: the connection survives, and so do the other queries, without another round trip.
//
// It is one transaction, and not one for each query, for the sake of poolers. PgBouncer gives a server connection to the next client as
// soon as a transaction has ended, also when it has passed on only a part of what comes after
// (https://github.com/pgbouncer/pgbouncer/issues/759): the rest then goes to another server.
//
// The error says why the connection was lost, or could not be used.
func (s *session) roundTrip(ctx context.Context, queries []*query, room *room) error {
	fitting := make([]*query, 0, len(queries))
	for _, q := range queries {
		if q.answered = !s.fits(q.m, q.params); !q.answered {
			fitting = append(fitting, q)
		}
	}
	if len(fitting) == 0 {
		return nil
	}
	b := batch{session: s, queries: fitting, pipeline: s.conn.StartPipeline(ctx), room: room}
	b.send(ctx)
	return b.run()
}

// batch is what goes over a connection in one round trip.
type batch struct {
	session  *session
	queries  []*query
	pipeline *pgconn.Pipeline
	room     *room

	opening   *exchange   // of the transaction; nil where it is a part of the only query's
	exchanges []*exchange // of the queries
	closing   *exchange
	preparing map[string]bool // statements that this batch prepares: nobody knows yet whether that works
}

// exchange is a part of a batch that ends with a sync: what to do with each result before it. A nil handler drops it.
type exchange struct {
	handlers []func(result any) error
	named    bool // a statement was sent by name
	err      error
}

const (
	timeoutQuery = "select set_config('statement_timeout', $1, true)"
	savepoint    = "savepoint readthrough"
	rollback     = "rollback to savepoint readthrough"
)

func (b *batch) send(ctx context.Context) {
	left := untilDeadline(ctx)
	opening := &exchange{}
	b.giveBack(opening) // first of all, where no error can make the server skip it
	b.command(opening, "begin read only")
	timeout := b.queries[0].timeout(left)
	b.query(opening, settingsQuery, [][]byte{milliseconds(timeout)}, nil)
	if len(b.queries) > 1 {
		b.command(opening, savepoint)
		b.pipeline.SendPipelineSync()
		b.opening = opening
	}
	for i, q := range b.queries {
		e := opening
		if b.opening != nil {
			e = &exchange{}
		}
		if i > 0 {
			b.command(e, rollback)
		}
		if own := q.timeout(left); own != timeout {
			b.query(e, timeoutQuery, [][]byte{milliseconds(own)}, nil)
		}
		b.load(e, q)
		b.pipeline.SendPipelineSync()
		b.exchanges = append(b.exchanges, e)
	}
	b.closing = &exchange{}
	b.command(b.closing, "commit")
	b.pipeline.SendPipelineSync()
}

// load sends one query.
func (b *batch) load(e *exchange, q *query) {
	s, m := b.session, q.m
	if s.checked[m] == nil {
		b.pipeline.SendPrepare("", m.query, nil)
		e.expect(func(result any) error {
			description := result.(*pgconn.StatementDescription)
			if err := m.check(description.Fields); err != nil {
				return err
			}
			s.checked[m] = description
			return nil
		})
	}
	args := make([][]byte, len(m.args))
	for i, capture := range m.args {
		args[i] = q.params[capture]
	}
	q.planned = s.prepared[m.load] != nil
	b.query(e, m.load, args, func(result any) (err error) {
		q.value, err = m.read(result.(*pgconn.ResultReader), b.room)
		return err
	})
}

func untilDeadline(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return maxTimeout
	}
	return time.Until(deadline)
}

// timeout is the map's, or what is left where that is less: the server's own clock ends a query first, without another connection for a
// cancel request.
func (q *query) timeout(left time.Duration) time.Duration { return min(q.m.Timeout, left) }

// milliseconds is a duration as PostgreSQL's settings take it, at least 1: 0 would be none.
func milliseconds(d time.Duration) []byte {
	return strconv.AppendInt(nil, max(1, (d+time.Millisecond-1).Milliseconds()), 10)
}

// command sends a statement without parameters and rows.
func (b *batch) command(e *exchange, sql string) {
	b.pipeline.SendQueryParams(sql, nil, nil, nil, nil)
	e.expect(nil)
}

func (e *exchange) expect(handler func(result any) error) { e.handlers = append(e.handlers, handler) }

// query sends a query by its text, or by a name under which it is prepared where it is not yet.
func (b *batch) query(e *exchange, sql string, args [][]byte, handler func(result any) error) {
	s := b.session
	statement := s.prepared[sql]
	if !s.named || statement == nil && b.preparing[sql] {
		b.pipeline.SendQueryParams(sql, args, nil, nil, nil)
		e.expect(handler)
		return
	}
	s.clock++
	e.named = true
	if statement == nil {
		if b.preparing == nil {
			b.preparing = map[string]bool{}
		}
		b.preparing[sql] = true
		statement = &prepared{name: statementName(sql)}
		b.pipeline.SendPrepare(statement.name, sql, nil)
		e.expect(func(any) error {
			s.prepared[sql] = statement
			return nil
		})
	}
	statement.last = s.clock
	b.pipeline.SendQueryPrepared(statement.name, args, nil, nil)
	e.expect(handler)
}

// statementName is made of what the statement says. Behind a pooler that is taken for a server, a name may meet a statement that
// another pod has prepared: it is the same one then.
func statementName(sql string) string {
	sum := sha256.Sum256([]byte(sql))
	return "readthrough_" + hex.EncodeToString(sum[:16])
}

// giveBack sends the names that are no longer wanted.
func (b *batch) giveBack(e *exchange) {
	s := b.session
	for len(s.prepared) > s.capacity {
		oldest := ""
		for sql, p := range s.prepared {
			if oldest == "" || p.last < s.prepared[oldest].last {
				oldest = sql
			}
		}
		s.forget(oldest)
	}
	for _, name := range s.outdated {
		b.pipeline.SendDeallocate(name)
		e.expect(nil)
	}
	s.outdated = nil
}

// run sends the batch and hands out its results. All of them are read in any case, so that the connection can be used again; it is
// closed where that is impossible.
func (b *batch) run() error {
	lost := b.pipeline.Flush()
	if b.opening != nil && lost == nil {
		lost = b.read(b.opening)
	}
	for i, q := range b.queries {
		e := b.exchanges[i]
		q.named = e.named
		if lost == nil {
			lost = b.read(e)
			q.answered, q.err = lost == nil, e.err
			if errors.As(lost, new(*pgproto3.ExceededMaxBodyLenErr)) {
				q.answered, q.err = true, errTooLarge // the connection ends with it, and for the others
			}
		}
		switch {
		case !q.answered:
			q.err = lost
		case b.opening != nil && b.opening.err != nil: // and all that followed failed
			q.err, q.named = b.opening.err, b.opening.named
		}
	}
	if lost == nil {
		lost = b.read(b.closing)
	}
	for _, q := range b.queries {
		// Of the errors of a commit one alone says something: that what was read may not hold together.
		if q.answered && q.err == nil && isState(b.closing.err, stateSerializationFailure) {
			q.err = b.closing.err
		}
		if q.err != nil {
			q.value = nil
		}
	}
	_ = b.pipeline.Close() // repeats the error
	return lost
}

func isState(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}

// read takes results up to the next sync, and notes the first failure. Its own error is the connection's.
func (b *batch) read(e *exchange) error {
	for {
		result, err := b.pipeline.GetResults()
		switch result := result.(type) {
		case nil:
			if err == nil {
				return errors.New("fewer results than statements")
			}
		case *pgconn.PipelineSync:
			return nil
		default:
			if e.err == nil {
				e.err = e.handle(result)
			}
			if rows, ok := result.(*pgconn.ResultReader); ok {
				_, err = rows.Close()
			}
		}
		var pgErr *pgconn.PgError
		switch {
		case err == nil:
		case !errors.As(err, &pgErr) || b.session.conn.IsClosed():
			return err
		case e.err == nil:
			e.err = err
		}
	}
}

// handle hands a result to its handler.
func (e *exchange) handle(result any) error {
	if len(e.handlers) == 0 {
		return errors.New("more results than statements")
	}
	handler := e.handlers[0]
	e.handlers = e.handlers[1:]
	if handler == nil {
		return nil
	}
	return handler(result)
}

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

// roundTrip sends a transaction for each query, all at once, and then reads what comes:
//
//	begin read only; set_config(…); [describe the query]; query; sync; commit; sync
//
// The first time that a map is loaded over this connection, its query is described too, without what is wrapped round it: its
// columns must have different names, and the types of its parameters are learnt. After an error the server skips to the next
// sync, and the commit then rolls back: the connection survives, and so do the other queries, without another round trip.
//
// The error says why the connection was lost, or could not be used.
func (s *session) roundTrip(ctx context.Context, queries []*query, room *room) error {
	b := batch{session: s, ctx: ctx, sent: make([]*exchange, 0, len(queries))}
	for _, q := range queries {
		if !s.fits(q.m, q.params) {
			q.answered = true
			continue
		}
		if b.pipeline == nil {
			b.pipeline = s.conn.StartPipeline(ctx)
		}
		b.load(q, room)
	}
	if b.pipeline == nil {
		return nil
	}
	return b.run()
}

// batch is what goes over a connection in one round trip.
type batch struct {
	session   *session
	ctx       context.Context
	pipeline  *pgconn.Pipeline
	sent      []*exchange
	preparing map[string]bool // statements that this batch prepares: nobody knows yet whether that works
}

// exchange is one query's part of a batch: what to do with each result up to the first sync. A nil handler drops it.
type exchange struct {
	query    *query
	handlers []func(result any) error
}

// load sends the transaction of one query.
func (b *batch) load(q *query, room *room) {
	s, m := b.session, q.m
	e := &exchange{query: q}
	if len(b.sent) == 0 {
		b.giveBack(e) // first of all, where no error can make the server skip it
	}
	b.sent = append(b.sent, e)
	args := make([][]byte, len(m.args))
	for i, capture := range m.args {
		args[i] = q.params[capture]
	}

	b.pipeline.SendQueryParams("begin read only", nil, nil, nil, nil)
	e.expect(nil)
	b.query(e, settingsQuery, [][]byte{b.statementTimeout(m)}, nil)
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
	q.planned = s.prepared[m.load] != nil
	b.query(e, m.load, args, func(result any) (err error) {
		q.value, err = m.read(result.(*pgconn.ResultReader), room)
		return err
	})
	b.pipeline.SendPipelineSync()
	b.pipeline.SendQueryParams("commit", nil, nil, nil, nil)
	b.pipeline.SendPipelineSync()
}

// statementTimeout is the map's timeout, or what is left of the context where that is less, in milliseconds: the server's own clock
// ends a query first, without another connection for a cancel request.
func (b *batch) statementTimeout(m *Map) []byte {
	left := m.Timeout
	if deadline, ok := b.ctx.Deadline(); ok {
		left = min(left, time.Until(deadline))
	}
	left += time.Millisecond - 1
	return strconv.AppendInt(nil, max(1, left.Milliseconds()), 10)
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
	e.query.named = true
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
	err := b.pipeline.Flush()
	for _, e := range b.sent {
		if err == nil {
			err = b.read(e)
		}
		if !e.query.answered {
			e.query.value, e.query.err = nil, err
		}
	}
	_ = b.pipeline.Close() // repeats the error
	return err
}

// read takes the results of one query. Its error is the connection's.
func (b *batch) read(e *exchange) error {
	q := e.query
	for syncs := 0; syncs < 2; {
		result, err := b.pipeline.GetResults()
		switch result := result.(type) {
		case nil:
			if err == nil {
				err = errors.New("fewer results than statements")
			}
		case *pgconn.PipelineSync:
			syncs++
			q.answered = true
		default:
			if syncs == 0 && q.err == nil {
				q.err = e.handle(result)
			}
			if rows, ok := result.(*pgconn.ResultReader); ok {
				_, err = rows.Close()
			}
		}
		var pgErr *pgconn.PgError
		var tooLarge *pgproto3.ExceededMaxBodyLenErr
		switch {
		case err == nil:
		case errors.As(err, &tooLarge): // the connection ends with it, and for the others
			q.value, q.err, q.answered = nil, errTooLarge, true
			return err
		case !errors.As(err, &pgErr) || b.session.conn.IsClosed():
			return err
		case q.err == nil && (syncs == 0 || pgErr.Code == stateSerializationFailure):
			// Of the errors of a commit that one alone says that what was read may not hold together.
			q.value, q.err = nil, err
		}
	}
	return nil
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

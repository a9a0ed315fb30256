package origin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// session is a connection with what this package knows about it. One load at a time uses it.
type session struct {
	conn     *pgconn.PgConn
	used     bool // a load has gone over it before
	named    bool // statements are prepared under a name and stay
	pooled   bool // they did not stay
	capacity int  // of prepared
	prepared map[string]*prepared
	outdated []string // names to be given back
	clock    int      // counts uses of prepared
	checked  map[*Map]*pgconn.StatementDescription
}

// prepared is a statement that stays on the connection.
type prepared struct {
	name string
	last int // session.clock at the last use
}

// sessionKey is where a connection keeps its session.
const sessionKey = "readthrough"

func newSession(conn *pgx.Conn, named bool) {
	s := &session{
		conn:     conn.PgConn(),
		capacity: conn.Config().StatementCacheCapacity,
		prepared: map[string]*prepared{},
		checked:  map[*Map]*pgconn.StatementDescription{},
	}
	s.named = named && s.capacity >= 2 // the settings and a query
	s.conn.CustomData()[sessionKey] = s
}

func sessionOf(conn *pgconn.PgConn) *session { return conn.CustomData()[sessionKey].(*session) }

// settingsQuery makes what PostgreSQL prints independent of the settings of server, database and role, and bounds the statements
// that follow; all for the length of the transaction.
const settingsQuery = `select set_config('statement_timeout', $1, true), set_config('client_encoding', 'UTF8', true), ` +
	`set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true), set_config('IntervalStyle', 'postgres', true), ` +
	`set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true), ` +
	`set_config('standard_conforming_strings', 'on', true)`

// load returns the value of a key, nil where there is none. A plan that no longer fits its table ("cached plan must not change
// result type"), and a named statement that is not there because a pooler stands between, is tried once more.
func (s *session) load(ctx context.Context, m *Map, params Params) ([]byte, error) {
	stale := s.prepared[m.load]
	value, err := s.roundTrip(ctx, m, params)
	s.used = true

	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || s.conn.IsClosed() {
		return value, err
	}
	switch {
	case pgErr.Code == stateFeatureNotSupported && stale != nil:
		s.forget(m.load)
		delete(s.checked, m)
	case s.named && (pgErr.Code == stateNoSuchStatement || pgErr.Code == stateDuplicateStatement):
		s.named, s.pooled = false, true
	case pgErr.Code == stateNumericOutOfRange && !s.fits(m, params):
		return nil, nil
	default:
		return value, err
	}
	return s.roundTrip(ctx, m, params)
}

// fits reports whether the integers of a key fit the types that PostgreSQL gave the query's parameters. One that does not can be
// in no row: asking for user 3,000,000,000 where user_id is an int4 is no error, there is no such user.
func (s *session) fits(m *Map, params Params) bool {
	description := s.checked[m]
	if description == nil {
		return true
	}
	captures := m.pattern.captures()
	for i, oid := range description.ParamOIDs {
		if captures[m.args[i]].Type != Int {
			continue
		}
		n, err := strconv.ParseInt(string(params[m.args[i]]), 10, 64)
		if err != nil {
			return false
		}
		switch oid {
		case pgtype.Int2OID:
			if n < math.MinInt16 || n > math.MaxInt16 {
				return false
			}
		case pgtype.Int4OID:
			if n < math.MinInt32 || n > math.MaxInt32 {
				return false
			}
		}
	}
	return true
}

// roundTrip sends a whole transaction at once and then reads what comes:
//
//	begin read only; set_config(…); [describe the query]; query; sync; commit; sync
//
// The first time that a map is loaded over this connection, its query is described too, without what is wrapped round it: its
// columns must have different names, and the types of its parameters are learnt. After an error the server skips to the first
// sync, and the commit then rolls back: the connection survives, without another round trip.
func (s *session) roundTrip(ctx context.Context, m *Map, params Params) (value []byte, err error) {
	if !s.fits(m, params) {
		return nil, nil
	}
	args := make([][]byte, len(m.args))
	for i, capture := range m.args {
		args[i] = params[capture]
	}

	b := batch{session: s, pipeline: s.conn.StartPipeline(ctx)}
	b.giveBack()
	b.pipeline.SendQueryParams("begin read only", nil, nil, nil, nil)
	b.expect(nil)
	b.query(settingsQuery, [][]byte{statementTimeout(ctx)}, nil)
	if s.checked[m] == nil {
		b.pipeline.SendPrepare("", m.query, nil)
		b.expect(func(result any) error {
			description := result.(*pgconn.StatementDescription)
			if err := m.check(description.Fields); err != nil {
				return err
			}
			s.checked[m] = description
			return nil
		})
	}
	b.query(m.load, args, func(result any) (err error) {
		value, err = m.read(result.(*pgconn.ResultReader))
		return err
	})
	b.pipeline.SendPipelineSync()
	b.pipeline.SendQueryParams("commit", nil, nil, nil, nil)
	if err := b.run(); err != nil {
		return nil, err
	}
	return value, nil
}

// statementTimeout is what is left of ctx, in milliseconds: the server's own clock ends a query first, without another connection
// for a cancel request.
func statementTimeout(ctx context.Context) []byte {
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline) + time.Millisecond - 1
	return strconv.AppendInt(nil, max(1, left.Milliseconds()), 10)
}

// batch collects what is sent in one go, with what to do with each result.
type batch struct {
	session  *session
	pipeline *pgconn.Pipeline
	handlers []func(result any) error
}

// expect notes that what was sent last has a result. A nil handler drops it.
func (b *batch) expect(handler func(result any) error) {
	b.handlers = append(b.handlers, handler)
}

// query sends a query by its text, or by a name under which it is prepared where it is not yet.
func (b *batch) query(sql string, args [][]byte, handler func(result any) error) {
	s := b.session
	if !s.named {
		b.pipeline.SendQueryParams(sql, args, nil, nil, nil)
		b.expect(handler)
		return
	}
	s.clock++
	statement := s.prepared[sql]
	if statement == nil {
		statement = &prepared{name: statementName(sql)}
		b.pipeline.SendPrepare(statement.name, sql, nil)
		b.expect(func(any) error {
			s.prepared[sql] = statement
			return nil
		})
	}
	statement.last = s.clock
	b.pipeline.SendQueryPrepared(statement.name, args, nil, nil)
	b.expect(handler)
}

// statementName is made of what the statement says. Behind a pooler that is taken for a server, a name may meet a statement that
// another pod has prepared: it is the same one then.
func statementName(sql string) string {
	sum := sha256.Sum256([]byte(sql))
	return "readthrough_" + hex.EncodeToString(sum[:16])
}

// giveBack sends the names that are no longer wanted. It goes first, where no error can make the server skip it.
func (b *batch) giveBack() {
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
		b.expect(nil)
	}
	s.outdated = nil
}

func (s *session) forget(sql string) {
	s.outdated = append(s.outdated, s.prepared[sql].name)
	delete(s.prepared, sql)
}

// run sends the batch and hands out its results until one is an error. The rest is read in any case, so that the connection can
// be used again; it is closed where that is impossible.
func (b *batch) run() error {
	err := b.pipeline.Sync()
	for i := 0; err == nil && i < len(b.handlers); i++ {
		var result any
		if result, err = b.pipeline.GetResults(); err != nil {
			break
		}
		if result == nil {
			err = errors.New("fewer results than statements")
			break
		}
		if b.handlers[i] != nil {
			err = b.handlers[i](result)
		}
		if reader, ok := result.(*pgconn.ResultReader); ok {
			if _, closeErr := reader.Close(); err == nil {
				err = closeErr
			}
		}
	}
	_ = b.pipeline.Close() // repeats the error, or fails in the commit of a transaction that has been read to its end
	var tooLarge *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &tooLarge) {
		return errTooLarge
	}
	return err
}

const (
	errTooLarge = mapError("the value is larger than is allowed")
	errManyRows = mapError("the query returned more than one row: add conditions, or LIMIT 1, or use value: array")
)

// check looks at the columns of the query, before anything is wrapped round it.
func (m *Map) check(fields []pgconn.FieldDescription) error {
	if m.Value == Column {
		if len(fields) != 1 {
			return mapError(fmt.Sprintf("value: column needs a query with one column, this one has %d", len(fields)))
		}
		return nil
	}
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.Name] {
			return mapError(fmt.Sprintf("two columns are named %q: give each a name of its own with AS", f.Name))
		}
		seen[f.Name] = true
	}
	return nil
}

// read returns the value that the rows make, nil for none. It is a copy.
func (m *Map) read(rows *pgconn.ResultReader) ([]byte, error) {
	if !rows.NextRow() {
		return nil, nil
	}
	columns := rows.Values()
	if len(columns) != 1 {
		return nil, mapError(fmt.Sprintf("value: column needs a query with one column, this one has %d", len(columns)))
	}
	var value []byte
	if raw := columns[0]; raw != nil {
		if m.Value == Column && rows.FieldDescriptions()[0].DataTypeOID == pgtype.ByteaOID {
			var err error
			if value, err = decodeBytea(raw); err != nil {
				return nil, err
			}
		} else {
			value = append(make([]byte, 0, len(raw)), raw...)
		}
	}
	if rows.NextRow() {
		return nil, errManyRows
	}
	return value, nil
}

// decodeBytea reads PostgreSQL's hexadecimal form, which settingsQuery demands.
func decodeBytea(text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return nil, mapError("the server sent bytea in another form than hex")
	}
	value := make([]byte, hex.DecodedLen(len(text)-2))
	if _, err := hex.Decode(value, text[2:]); err != nil {
		return nil, mapError("the server sent bytea in another form than hex")
	}
	return value, nil
}

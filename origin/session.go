package origin

import (
	"context"
	"errors"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// load asks for all queries in one round trip. Those that are not answered after it have not been, because the connection was lost or
// could not be used: lost says why. What may do better at once is tried once more, in a second round trip.
func (s *session) load(ctx context.Context, queries []*query, room *room) (lost error) {
	lost = s.roundTrip(ctx, queries, room)
	s.used = true
	var again []*query
	for _, q := range queries {
		if s.worthAgain(q) {
			*q = query{loadItem: q.loadItem, again: true, err: lost, outcome: errNeither}
			again = append(again, q)
		}
	}
	if lost != nil || len(again) == 0 {
		return lost
	}
	return s.roundTrip(ctx, again, room)
}

// worthAgain reports whether a query has failed with what a second try may not meet, and prepares for that one:
//   - a plan that no longer fits its table ("cached plan must not change result type");
//   - a named statement that is not there, because a pooler stands between;
//   - a transaction that had to give way to others.
//
// An integer that does not fit is no failure.
func (s *session) worthAgain(q *query) bool {
	var pgErr *pgconn.PgError
	if !errors.As(q.err, &pgErr) {
		return false
	}
	switch pgErr.Code {
	case stateFeatureNotSupported:
		if !q.planned {
			return false
		}
		s.forget(q.m.load)
		delete(s.checked, q.m)
	case stateNoSuchStatement, stateDuplicateStatement:
		if !q.named {
			return false
		}
		s.named, s.pooled = false, true
	case stateSerializationFailure, stateDeadlock:
	case stateNumericOutOfRange:
		if !s.fits(q.m, q.params) {
			q.err = nil
		}
		return false
	default:
		return false
	}
	return !q.again
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

// forget gives a statement back before the next round trip.
func (s *session) forget(sql string) {
	if p := s.prepared[sql]; p != nil {
		s.outdated = append(s.outdated, p.name)
		delete(s.prepared, sql)
	}
}

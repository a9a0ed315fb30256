package origin

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// load asks the database for the value of a key; nil where there is none. It ends soon after ctx does.
//
// A load only reads, so it may be repeated. A connection that turns out to have died while it was idle (the server was restarted,
// a firewall forgot it) costs another try on another one, and no error.
func (d *database) load(ctx context.Context, m *Map, params Params) ([]byte, *Error) {
	for {
		conn, failure := d.acquire(ctx, m)
		if failure != nil {
			return nil, failure
		}
		s := sessionOf(conn.Conn().PgConn())
		used := s.used
		value, err := s.load(ctx, m, params)
		if s.pooled {
			d.behindPooler()
		}
		died := s.conn.IsClosed()
		conn.Release()
		if err == nil && len(value) > d.maxValue {
			err = errTooLarge
		}
		if err == nil {
			return value, nil
		}
		if !died || ctx.Err() != nil || !worthRepeating(err, used) {
			return nil, queryFailure(ctx, m, err)
		}
	}
}

// worthRepeating reports whether a load whose connection died may do better on another one. Where the connection was new, only if
// the server ended it by order: a query that makes the server crash must not be sent again and again.
func worthRepeating(err error, used bool) bool {
	var misfit mapError
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &misfit):
		return false // the value was too large to be read
	case errors.As(err, &pgErr) && pgErr.Code == stateAdminShutdown:
		return true
	default:
		return used
	}
}

// behindPooler remembers that named statements do not work here.
func (d *database) behindPooler() {
	if !d.unnamed.Swap(true) {
		d.log.Warn("prepared statements do not stay on their connection, so the origin is behind a pooler: " +
			"going on without them; set the query mode to exec to begin so")
	}
}

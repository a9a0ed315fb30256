package origin

import (
	"context"
	"errors"
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
		var misfit mapError
		switch {
		case err == nil:
			return value, nil
		case errors.As(err, &misfit) || !died || !used || ctx.Err() != nil:
			return nil, queryFailure(ctx, m, err)
		}
	}
}

// behindPooler remembers that named statements do not work here.
func (d *database) behindPooler() {
	if !d.unnamed.Swap(true) {
		d.log.Warn("prepared statements do not stay on their connection, so the origin is behind a pooler: " +
			"going on without them; set the query mode to exec to begin so")
	}
}

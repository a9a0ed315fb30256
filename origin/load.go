package origin

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// loadItem is one key to be loaded.
type loadItem struct {
	m      *Map
	params Params
}

// loaded is what became of it; without a failure, a nil value says that there is none.
type loaded struct {
	value   []byte
	failure *Error
}

// maxBatch bounds the keys that are asked for in one round trip.
const maxBatch = 128

// loadAll asks the database for the values of keys, all of them of this origin, and returns them in their order. It takes one round
// trip over one connection for every maxBatch of them, one after the other, and ends soon after ctx does. What fails for one key
// does not fail for another. The values are together as large as one may be at most.
func (d *database) loadAll(ctx context.Context, items []loadItem) []loaded {
	results := make([]loaded, len(items))
	room := &room{value: d.maxValue, left: d.maxValue}
	queries := make([]*query, len(items))
	for i, item := range items {
		queries[i] = &query{loadItem: item, outcome: errNeither}
	}
	for i := 0; i < len(items); i += maxBatch {
		d.guarded(ctx, queries[i:min(i+maxBatch, len(items))], room)
	}
	for i, q := range queries {
		results[i] = loaded{q.value, q.failure}
	}
	return results
}

// loadSome loads what fits into one round trip.
//
// A load only reads, so it may be repeated. A connection that turns out to have died while it was idle (the server was restarted,
// a firewall forgot it) costs another try on another one, and no error.
//
// It returns the outcome for the origin's breaker: well if the server has answered anything at all, be it with errors; a failure if no
// connection could be made or one was lost. A query that has no answer in time is its map's fault, not the origin's.
func (d *database) loadSome(ctx context.Context, queries []*query, room *room) (outcome error) {
	outcome = errNeither
	first := queries[0] // a round trip of several maps has the turn of one
	if !d.turns.enter(ctx, &first.m.line) {
		none := d.acquireTimeout(ctx, ctx.Err())
		for _, q := range queries {
			q.failure = none.of(q.m)
		}
		return none.outcome
	}
	defer func() { d.turns.leave(&first.m.line, first.outcome) }()
	for len(queries) > 0 {
		conn, none := d.acquire(ctx)
		if none != nil {
			for _, q := range queries {
				q.failure = none.of(q.m)
			}
			return none.outcome
		}
		s := sessionOf(conn.Conn().PgConn())
		used := s.used
		lost := s.load(ctx, queries, room)
		if s.pooled {
			d.behindPooler()
		}
		conn.Release()

		repeat := lost != nil && ctx.Err() == nil && worthRepeating(lost, used)
		hung := errors.Is(ctx.Err(), context.DeadlineExceeded) // the first that is not answered
		var rest []*query
		for _, q := range queries {
			switch {
			case q.answered:
				outcome, q.outcome = nil, nil
			case hung:
				hung, q.outcome = false, ctx.Err()
			}
			switch {
			case !q.answered && repeat:
				q.err = nil
				rest = append(rest, q)
			case q.err != nil:
				q.failure = queryFailure(ctx, q.m, q.err)
			}
			if q.answered && q.failure != nil && q.failure.Code == CodeTimeout {
				q.outcome = q.err
			}
		}
		queries = rest
		if lost != nil && !repeat && ctx.Err() == nil {
			return lost
		}
	}
	return outcome
}

// worthRepeating reports whether what a lost connection has left unanswered may do better on another one. Where the connection was
// new, only if the server ended it by order: a query that makes the server crash must not be sent again and again.
func worthRepeating(lost error, used bool) bool {
	var tooLarge *pgproto3.ExceededMaxBodyLenErr
	var pgErr *pgconn.PgError
	switch {
	case errors.As(lost, &tooLarge):
		return true // it was given up here, for a value that has been answered for
	case errors.As(lost, &pgErr) && pgErr.Code == stateAdminShutdown:
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

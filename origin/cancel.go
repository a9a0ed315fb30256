package origin

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A query whose time is up is ended by statement_timeout, on its own connection. A cancel request, which costs the server a new
// connection, is for when that does not come through.
const (
	cancelDelay  = 250 * time.Millisecond // from the end of the context to the cancel request
	abandonDelay = time.Second            // from the end of the context to giving up the connection
	settleDelay  = 100 * time.Millisecond // in which a cancel request that has been delivered may still hit
)

// cancelHandler is what pgconn does with a query whose context has ended: pgconn.CancelRequestContextWatcherHandler, but for one
// thing. That one hangs up on its cancel request as soon as the query has ended, and PgBouncer 1.18 can be killed by that
// ("FATAL … disconnect_client(): bad client state"), under everybody who uses it. This one waits until the request is answered.
type cancelHandler struct {
	conn     *pgconn.PgConn
	ended    chan struct{} // closed when the query has ended
	finished chan struct{} // closed when no cancel request is under way
}

// HandleCancel is called when the context has ended while the query runs.
func (h *cancelHandler) HandleCancel(context.Context) {
	deadline := time.Now().Add(abandonDelay)
	_ = h.conn.Conn().SetDeadline(deadline) // fails on a closed connection, which needs none
	h.ended, h.finished = make(chan struct{}), make(chan struct{})
	go h.cancel(deadline)
}

func (h *cancelHandler) cancel(deadline time.Time) {
	defer close(h.finished)
	delay := time.NewTimer(cancelDelay)
	defer delay.Stop()
	select {
	case <-h.ended:
		return
	case <-delay.C:
	}
	ctx, stop := context.WithDeadline(context.Background(), deadline)
	defer stop()
	_ = h.conn.CancelRequest(ctx) // where it does not come through, the connection is given up
	// The server passes the request on after it has answered it. The next query on this connection must not be what it hits.
	time.Sleep(settleDelay)
}

// HandleUnwatchAfterCancel is called after HandleCancel, when the query has ended.
func (h *cancelHandler) HandleUnwatchAfterCancel() {
	close(h.ended)
	<-h.finished
	_ = h.conn.Conn().SetDeadline(time.Time{})
}

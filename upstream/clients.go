package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// pingInterval is how often an idle connection is checked; with replyTimeout a node that went silently is noticed
	// after their sum at most.
	pingInterval = 15 * time.Second
	// replyTimeout is how long a connection may owe a reply before it is given up. It is twice Redis's
	// busy-reply-threshold: a node that runs a slow script is not a dead one.
	replyTimeout = 10 * time.Second
	// inFlight bounds the calls that wait for one node. It is below the queue of a connection (1<<ringScale), which
	// blocks without a deadline when it is full.
	inFlight  = 64
	ringScale = 7
	// bufferSize is the size of the read and of the write buffer of a connection, in bytes. Larger values bypass it.
	bufferSize = 16 << 10
	// attempts is how often a call is sent whose connection is lost.
	attempts = 3
)

// errBusy is the cause when a node has not answered the calls before this one.
var errBusy = errors.New("too many calls wait for this node")

// clients holds one rueidis client per node, made when first used.
//
// Each is a client of a single node with a single multiplexed connection, never rueidis' cluster client: that one would keep
// a second topology beside discovery's, connect to every replica, and follow redirects by itself, where a value or a lease is
// good on the node that granted it only. rueidis' panics on keys of several slots cannot happen then either.
//
// The cost of a node: one connection, opened by the first call, and about 90 KiB (two buffers of 16 KiB, a queue of 128
// places, two goroutines), as TestClientCost measures over 100 of them; TLS comes on top. The buffers of rueidis' defaults alone
// would take 1 MiB.
type clients struct {
	opts *Options
	ctx  context.Context // of everything that connects; ends with close
	stop context.CancelFunc

	mu     sync.Mutex
	byAddr map[string]*client // nil after close
	wg     sync.WaitGroup     // calls and closings
}

func newClients(opts *Options) *clients {
	cs := &clients{opts: opts, byAddr: make(map[string]*client)}
	cs.ctx, cs.stop = context.WithCancel(context.Background())
	return cs
}

// get returns the client of the node at addr, or nil after close.
func (cs *clients) get(addr string) *client {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.byAddr == nil {
		return nil
	}
	c := cs.byAddr[addr]
	if c == nil {
		c = newClient(cs, addr)
		cs.byAddr[addr] = c
	}
	return c
}

// start runs f on a goroutine that close waits for; after close it returns false.
func (cs *clients) start(f func()) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.byAddr == nil {
		return false
	}
	cs.wg.Go(f)
	return true
}

// retain closes the clients of all nodes but these, in the background. Calls in progress there fail.
func (cs *clients) retain(nodes []Node) {
	keep := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		keep[n.Addr] = true
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for addr, c := range cs.byAddr {
		if !keep[addr] {
			delete(cs.byAddr, addr)
			cs.wg.Go(c.close)
		}
	}
}

// reauthenticate sends the current credentials over every connection that was opened with others, so that a server which
// ends a session when its token expires does not end ours. A refused AUTH changes nothing on a Redis connection, so
// credentials that reach this pod before they reach the server do no harm: the next call tries again.
func (cs *clients) reauthenticate(ctx context.Context) error {
	current, err := cs.opts.credentials(ctx)
	if err != nil {
		return err
	}
	auth := current.auth()
	if auth == nil {
		return nil
	}
	cs.mu.Lock()
	var old []*client
	for _, c := range cs.byAddr {
		if used := c.used.Load(); used != nil && *used != current {
			old = append(old, c)
		}
	}
	cs.mu.Unlock()
	var errs []error
	for _, c := range old {
		if _, err := c.do(ctx, auth); err != nil {
			errs = append(errs, fmt.Errorf("new Redis credentials refused by %s: %w", c.addr, err))
			continue
		}
		c.used.Store(&current)
	}
	return errors.Join(errs...)
}

// close closes every client and waits for all calls.
func (cs *clients) close() {
	cs.stop()
	cs.retain(nil)
	cs.mu.Lock()
	cs.byAddr = nil
	cs.mu.Unlock()
	cs.wg.Wait()
}

// client is one node's multiplexed connection, opened by the first call, and by the next one whenever it was lost.
type client struct {
	set     *clients
	addr    string
	rueidis rueidis.Client
	places  chan struct{} // taken by calls in flight

	used   atomic.Pointer[credentials] // of the latest connection
	conn   atomic.Pointer[net.Conn]    // the latest connection
	closed atomic.Bool
}

func newClient(set *clients, addr string) *client {
	c := &client{set: set, addr: addr, places: make(chan struct{}, inFlight)}
	made := false
	c.rueidis, _ = rueidis.NewClient(rueidis.ClientOption{
		InitAddress:       []string{addr},
		ForceSingleClient: true,
		SelectDB:          set.opts.Database,
		ClientName:        set.opts.ClientName,
		ClientSetInfo:     rueidis.DisableClientSetInfo, // Redis before 7.2 counts it as an error
		DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
			if !made {
				return nil, errNotYet // NewClient connects at once, and takes a failure with ForceSingleClient
			}
			return c.dial()
		},
		AuthCredentialsFn: func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			current, err := set.opts.credentials(set.ctx)
			if err != nil {
				return rueidis.AuthCredentials{}, err
			}
			c.used.Store(&current)
			// Without RefreshAfter: rueidis would close a good connection when the server refuses the new password.
			return rueidis.AuthCredentials{Username: current.user, Password: current.password}, nil
		},
		Dialer:              net.Dialer{Timeout: dialTimeout, KeepAlive: pingInterval},
		ConnWriteTimeout:    replyTimeout,
		PipelineMultiplex:   -1, // one connection
		RingScaleEachConn:   ringScale,
		ReadBufferEachConn:  bufferSize,
		WriteBufferEachConn: bufferSize,
		BlockingPoolSize:    1, // unused
		DisableCache:        true,
		DisableRetry:        true, // rueidis' own goes on after the caller's deadline; see send
	})
	made = true
	return c
}

var errNotYet = errors.New("not connected yet")

// dial connects for rueidis. rueidis forgets a connection that is made while it closes; the flag and close see to it.
func (c *client) dial() (net.Conn, error) {
	conn, err := c.set.opts.connect(c.set.ctx, c.addr)
	if err != nil {
		return nil, err
	}
	c.conn.Store(&conn)
	if c.closed.Load() {
		conn.Close()
		return nil, rueidis.ErrClosing
	}
	return conn, nil
}

// remoteIP is the address that the latest connection reached, empty without one.
func (c *client) remoteIP() string {
	if conn := c.conn.Load(); conn != nil {
		if tcp, ok := (*conn).RemoteAddr().(*net.TCPAddr); ok {
			return tcp.IP.String()
		}
	}
	return ""
}

// do sends commands in one pipeline and returns their replies. The error is the first error reply, or, without any replies, why
// there are none. Commands must be safe to repeat: they are sent again when the connection is lost. They are read until Redis has taken
// them, which may be after do returned.
//
// The call runs on a goroutine of its own and the caller leaves it at its deadline. rueidis would otherwise close the
// connection under the other calls, and does not heed deadlines while it waits for a connection or a place in its queue.
func (c *client) do(ctx context.Context, commands ...[]string) ([]rueidis.RedisResult, error) {
	if c == nil {
		return nil, rueidis.ErrClosing
	}
	select {
	case c.places <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w: %w", c.addr, errBusy, ctx.Err())
	}
	type outcome struct {
		results []rueidis.RedisResult
		err     error
	}
	done := make(chan outcome, 1)
	started := c.set.start(func() {
		defer func() { <-c.places }()
		results, err := c.send(ctx, commands)
		done <- outcome{results, err}
	})
	if !started {
		<-c.places
		return nil, rueidis.ErrClosing
	}
	select {
	case o := <-done:
		return o.results, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: no answer: %w", c.addr, ctx.Err())
	}
}

// send is the part of do that may outlive the caller; it sends nothing more once ctx is done.
func (c *client) send(ctx context.Context, commands [][]string) (results []rueidis.RedisResult, err error) {
	defer func() {
		// rueidis panics on replies that are no RESP. That of its own goroutines is out of reach, but those start only
		// behind a handshake and when calls overlap; a port that is not Redis's shows in the handshake.
		if p := recover(); p != nil {
			results, err = nil, fmt.Errorf("%s: malformed reply: %v", c.addr, p)
		}
	}()
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		pipeline := make([]rueidis.Completed, len(commands))
		for i, args := range commands {
			pipeline[i] = c.rueidis.B().Arbitrary(args...).Build()
		}
		results = c.rueidis.DoMulti(context.Background(), pipeline...)
		lost := results[len(results)-1].NonRedisError()
		switch {
		case lost == nil:
			return results, errorReply(results)
		case attempt == attempts, errors.Is(lost, rueidis.ErrClosing), refused(lost):
			return nil, fmt.Errorf("%s: %w", c.addr, lost)
		}
		select {
		case <-time.After(jitter(10 * time.Millisecond << attempt)):
		case <-ctx.Done():
		}
	}
}

// close ends the connection and the calls that wait on it. It may take a second when the node is silent.
func (c *client) close() {
	c.closed.Store(true)
	c.rueidis.Close()
	if conn := c.conn.Load(); conn != nil {
		(*conn).Close()
	}
}

// refused tells that err is an error reply of Redis, to a command or to the handshake of a connection.
func refused(err error) bool { return errorText(err) != "" }

// errorText returns the error reply of Redis in err, without a leading "ERR ", or "" where there is none.
func errorText(err error) string {
	if reply, is := errors.AsType[*rueidis.RedisError](err); is {
		return reply.Error()
	}
	return ""
}

// errorReply returns the first error that Redis replied, null being none.
func errorReply(results []rueidis.RedisResult) error {
	for _, r := range results {
		if err := r.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return err
		}
	}
	return nil
}

// hasCode tells whether err is an error reply of Redis that starts with one of these codes.
func hasCode(err error, codes ...string) bool {
	code, _, _ := strings.Cut(errorText(err), " ")
	return slices.Contains(codes, code)
}

// jitter spreads d evenly over [d/2, 3d/2), so that a thousand pods do not act at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

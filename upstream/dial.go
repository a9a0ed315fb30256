package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/tidwall/redcon"

	"readthrough/internal/frame"
	"readthrough/internal/relay"
)

// refusal is Redis's error reply to a handshake, without the "-" and the line end.
type refusal string

func (e refusal) Error() string { return string(e) }

// ready connects to a node and makes the connection ready for the commands of an identity.
func (o *Options) ready(ctx context.Context, addr string, id relay.Identity) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	steps, err := o.handshake(ctx, id)
	if err != nil {
		return nil, err
	}
	conn, err := o.connect(ctx, addr)
	if err != nil {
		return nil, shortNetError(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = greet(conn, steps)
	if !stop() && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// shortNetError leaves out what the caller says by itself: the operation and the address.
func shortNetError(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		return op.Err
	}
	return err
}

// step is a command of the handshake. The connection is of no use when a needed one is refused.
type step struct {
	args   []string
	needed bool
}

func (o *Options) handshake(ctx context.Context, id relay.Identity) ([]step, error) {
	as := credentials{true, id.User, id.Password}
	if !id.Own {
		var err error
		if as, err = o.credentials(ctx); err != nil {
			return nil, err
		}
	}
	var steps []step
	if id.Protocol == 3 {
		hello := []string{"HELLO", "3"}
		if auth := as.auth(); len(auth) == 2 {
			hello = append(hello, "AUTH", "default", as.password)
		} else {
			hello = append(hello, auth...)
		}
		steps = append(steps, step{hello, true})
	} else if auth := as.auth(); auth != nil {
		steps = append(steps, step{auth, true})
	}
	if id.Database != 0 {
		steps = append(steps, step{[]string{"SELECT", strconv.Itoa(id.Database)}, true})
	}
	if o.ClientName != "" {
		steps = append(steps, step{[]string{"CLIENT", "SETNAME", o.ClientName}, false})
	}
	return steps, nil
}

// greet performs the handshake in one round trip.
func greet(conn net.Conn, steps []step) error {
	var out []byte
	for _, s := range steps {
		out = appendCommand(out, s.args...)
	}
	if _, err := conn.Write(out); err != nil {
		return fmt.Errorf("handshake: %w", shortNetError(err))
	}
	var replies frame.Replies
	var in []byte
	for buf := make([]byte, 4<<10); len(steps) > 0; {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("handshake: %w", shortNetError(err))
		}
		in = append(in, buf[:n]...)
		for len(in) > 0 && len(steps) > 0 {
			n, err := replies.Next(in)
			if err != nil {
				return fmt.Errorf("handshake: %w", err)
			}
			if n == 0 {
				break
			}
			if in[0] == '-' && steps[0].needed {
				return refusal(in[1 : n-2])
			}
			in, steps = in[n:], steps[1:]
		}
	}
	return nil
}

func appendCommand(b []byte, args ...string) []byte {
	b = redcon.AppendArray(b, len(args))
	for _, arg := range args {
		b = redcon.AppendBulkString(b, arg)
	}
	return b
}

package parity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"readthrough/test/harness"
)

// crowd is the clients of one side.
type crowd struct {
	addr    string
	clients []*harness.Conn
	ids     []string // as CLIENT ID tells them
}

func gather(ctx context.Context, addr string, p *pair) (*crowd, error) {
	c := &crowd{addr: addr, clients: make([]*harness.Conn, crowdSize), ids: make([]string, crowdSize)}
	for i := range c.clients {
		if err := c.join(ctx, i, p); err != nil {
			c.leave()
			return nil, err
		}
	}
	return c, nil
}

// join opens a client's connection, in place of one that is closed.
func (c *crowd) join(ctx context.Context, i int, p *pair) error {
	conn, err := harness.Dial(ctx, c.addr, nil)
	if err != nil {
		return err
	}
	conn.Timeout = p.patience
	if c.clients[i] != nil {
		_ = c.clients[i].Close()
	}
	c.clients[i] = conn
	id, err := conn.Do("CLIENT", "ID")
	c.ids[i] = strings.Trim(string(id), ":\r\n")
	return err
}

func (c *crowd) leave() {
	for _, conn := range c.clients {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// clientName stands for a client's id, which each side makes up for itself.
func clientName(i int) string { return "client-" + strconv.Itoa(i) }

// act sends a step.
func (c *crowd) act(ctx context.Context, s step, p *pair) error {
	if len(s.commands) == 0 {
		_ = c.clients[s.client].Close()
		return c.join(ctx, s.client, p)
	}
	var raw []byte
	for _, args := range s.commands {
		args = slices.Clone(args)
		for i := range args {
			for n := range crowdSize {
				if args[i] == clientName(n) {
					args[i] = c.ids[n]
				}
			}
		}
		raw = append(raw, harness.Command(args...)...)
	}
	return c.clients[s.client].Send(raw)
}

// replies are what one client is sent during a step.
type replies struct {
	plain, pushes [][]byte
	// invalidated are the keys that it is told to forget, sorted, each once: how many of them one message names depends on which
	// commands a server has found together.
	invalidated []string
	closed      bool
}

// everything stands for all keys among those that are invalidated.
const everything = "all keys"

// lacks tells whether there is more to come, before these can be what they should.
func (r replies) lacks(want replies) bool {
	return !r.closed && (want.closed || len(r.plain) < len(want.plain) || len(r.pushes) < len(want.pushes) ||
		slices.ContainsFunc(want.invalidated, func(key string) bool { return !slices.Contains(r.invalidated, key) }))
}

func (r replies) String() string {
	text := fmt.Sprintf("%q, pushes %q, invalidated %q", r.plain, r.pushes, r.invalidated)
	if r.closed {
		text += ", and the connection ends"
	}
	return text
}

// read reads what comes next. Pushes have no place among the replies to commands, nor invalidations among other pushes: they come
// from several connections to Redis.
func (r *replies) read(c *crowd, client int) error {
	raw, err := c.clients[client].ReadReply()
	switch {
	case errors.Is(err, io.EOF):
		r.closed = true
		return nil
	case err != nil:
		return err
	case raw[0] != '>':
		r.plain = append(r.plain, c.named(raw))
	case bytes.HasPrefix(raw, []byte(">2\r\n$10\r\ninvalidate\r\n")):
		return r.invalidate(raw)
	default:
		r.pushes = append(r.pushes, raw)
	}
	return nil
}

// invalidate reads an invalidation.
func (r *replies) invalidate(raw []byte) error {
	v, err := harness.Decode(raw)
	if err != nil {
		return err
	}
	keys := v.Elems[1].Strings()
	if v.Elems[1].Null {
		keys = []string{everything}
	}
	r.invalidated = slices.Compact(slices.Sorted(slices.Values(append(r.invalidated, keys...))))
	return nil
}

// comparable is replies as they are, but for the confirmations of one UNSUBSCRIBE and the messages by several patterns about one thing,
// whose order is that of a hash table. Each run of those is one element, in which the scalars are sorted.
func comparable(replies [][]byte) (all []string) {
	latest := ""
	var run []string
	end := func() {
		if latest != "" {
			slices.Sort(run)
			all = append(all, strings.Join(run, "\n"))
		}
		latest, run = "", nil
	}
	for _, raw := range replies {
		kind := ""
		v, err := harness.Decode(raw)
		if err == nil && len(v.Elems) > 0 {
			switch k := v.Elems[0].Str; k {
			case "unsubscribe", "punsubscribe", "sunsubscribe":
				kind = k
			case "pmessage":
				kind = k + strings.Join(v.Strings()[2:], " ")
			}
		}
		if kind != latest {
			end()
		}
		if latest = kind; kind == "" {
			all = append(all, string(raw))
		} else {
			run = append(run, scalars(v)...)
		}
	}
	end()
	return all
}

// named is a reply with the names of clients in place of the ids that the side has given them, and what CLIENT LIST and CLIENT INFO
// tell of other clients and of the servers left out.
func (c *crowd) named(raw []byte) []byte {
	for i, id := range c.ids {
		if string(raw) == ":"+id+"\r\n" {
			return []byte(clientName(i))
		}
		raw = bytes.Replace(raw, []byte("$2\r\nid\r\n:"+id+"\r\n"), []byte("$2\r\nid\r\n"+clientName(i)), 1)
	}
	if !bytes.Contains(raw[:min(len(raw), 100)], []byte("id=")) || !bytes.Contains(raw, []byte(" laddr=")) {
		return raw
	}
	_, lines, _ := bytes.Cut(raw, []byte("\r\n"))
	told := []byte{raw[0]}
	for line := range bytes.Lines(lines) {
		fields := strings.Fields(strings.TrimPrefix(string(line), "txt:"))
		if len(fields) == 0 {
			continue
		}
		id := strings.TrimPrefix(fields[0], "id=")
		i := slices.Index(c.ids, id)
		if i < 0 {
			continue
		}
		told = append(told, clientName(i)...)
		for _, f := range fields[1:] {
			name, value, _ := strings.Cut(f, "=")
			switch name {
			case "flags": // what is watched and has changed, and who is just unblocked, only Redis knows; READONLY changes nothing
				name += "=" + strings.NewReplacer("d", "", "u", "", "r", "", "N", "").Replace(value)
			case "multi": // of queued commands, the sidecar counts those that were refused too
				name += "=" + strconv.FormatBool(value != "-1")
			case "name", "db", "sub", "psub", "ssub", "user", "redir", "resp":
				name += "=" + value
			}
			told = append(told, " "+name...)
		}
		told = append(told, '\n')
	}
	return told
}

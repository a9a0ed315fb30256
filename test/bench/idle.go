package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"readthrough/test/harness"
)

// idleResult is what a sidecar costs that does nothing.
type idleResult struct {
	rss     int64 // bytes, with no client
	clients int
	crowd   int64 // bytes, with that many idle clients
	binary  int64 // bytes
	starts  []time.Duration
}

// measureIdle measures a sidecar that does nothing.
func measureIdle(ctx context.Context, o options, r *report) error {
	if !o.wants("idle") {
		return nil
	}
	o.say("idle: %d starts and %d clients", o.starts, o.clients)
	var done closers
	defer done.close()
	redis, err := harness.StartCluster(ctx, harness.ClusterOptions{})
	if err != nil {
		return err
	}
	done.add(redis.Close)
	postgres, err := harness.StartPostgres(ctx, harness.PostgresOptions{})
	if err != nil {
		return err
	}
	done.add(postgres.Close)

	result := &idleResult{clients: o.clients}
	path, err := harness.BuildSidecar(ctx)
	if err != nil {
		return err
	}
	binary, err := os.Stat(path)
	if err != nil {
		return err
	}
	result.binary = binary.Size()
	var s *harness.Sidecar
	for range o.starts {
		if s != nil {
			s.Close()
		}
		if s, err = startSidecar(ctx, redis.Addrs(), postgres.URL("postgres"), 2); err != nil {
			return err
		}
		result.starts = append(result.starts, s.StartTime)
	}
	done.add(s.Close)
	if result.rss, err = rssAfter(ctx, s, o.settle); err != nil {
		return err
	}
	conns, err := crowd(ctx, s.Addr(), o.clients)
	done.add(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	if err != nil {
		return fmt.Errorf("%d idle clients: %w", o.clients, err)
	}
	connected, err := metric(ctx, s, "readthrough_clients")
	if err != nil {
		return err
	}
	if int(connected) != o.clients {
		return fmt.Errorf("the sidecar counts %v clients, not %d", connected, o.clients)
	}
	if result.crowd, err = rssAfter(ctx, s, o.settle); err != nil {
		return err
	}
	r.idle = result
	return nil
}

// rssAfter is the memory of a sidecar that was left alone for a while.
func rssAfter(ctx context.Context, s *harness.Sidecar, settle time.Duration) (int64, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(settle):
		return s.RSS()
	}
}

// crowd opens connections, each of which has been served once. They come from several loopback addresses, since one has too few
// ports where the system's range is narrow.
func crowd(ctx context.Context, addr string, n int) ([]net.Conn, error) {
	const perAddress, spare = 5000, 200
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	if limit.Max < uint64(n+spare) {
		return nil, fmt.Errorf("the limit of open files is %d: raise it, as by \"ulimit -n %d\"", limit.Max, n+spare)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	conns := make([]net.Conn, 0, n)
	reply := make([]byte, 16)
	for i := range n {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i/perAddress))}}
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
		if _, err := c.Write(harness.Command("PING")); err != nil {
			return conns, err
		}
		if _, err := io.ReadFull(c, reply[:len("+PONG\r\n")]); err != nil {
			return conns, err
		}
	}
	return conns, nil
}

// metric returns the value of a metric without labels.
func metric(ctx context.Context, s *harness.Sidecar, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.AdminURL()+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(lines.Err(), fmt.Errorf("/metrics has no %s", name))
}

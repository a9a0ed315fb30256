package parity

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// framingMemory is the most resident memory that the sidecar may need, in bytes, whatever its clients do.
const framingMemory = 128 << 20

// TestFramingMemory holds many connections that announce much and finish nothing, or never stop, and looks at the sidecar's memory
// while another client is served.
func TestFramingMemory(t *testing.T) {
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		clients int
		in      string
		rest    string // sent again and again until the sidecar closes the connection, or 32 MiB were sent
	}{
		"arguments of almost 1 MiB":       {clients: 200, in: fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s", mib-1, strings.Repeat("v", mib-2))},
		"arguments over 1 MiB":            {clients: 50, in: fmt.Sprintf("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s", 100*mib, strings.Repeat("v", mib))},
		"counts of a million":             {clients: 1000, in: "*1000000\r\n"},
		"a million arguments":             {clients: 5, in: "*1000001\r\n$4\r\nMGET\r\n" + strings.Repeat("$1\r\nk\r\n", 999_999)},
		"many arguments of 1 MiB":         {clients: 2, in: "*2000000\r\n$4\r\nMSET\r\n", rest: fmt.Sprintf("$%d\r\n%s\r\n", mib, strings.Repeat("v", mib))},
		"lines that almost end":           {clients: 1000, in: strings.Repeat("x", 60<<10)},
		"lines that never end":            {clients: 20, in: "PING ", rest: strings.Repeat("x", mib)},
		"counts that never end":           {clients: 20, in: "*", rest: strings.Repeat("1", mib)},
		"empty commands":                  {clients: 2, rest: strings.Repeat("*0\r\n\r\n*-1\r\n", 100_000)},
		"replies that nobody reads":       {clients: 50, in: "SET k " + strings.Repeat("v", 60<<10) + "\r\n" + strings.Repeat("GET k\r\n", 2000)},
		"errors that nobody reads":        {clients: 30, in: strings.Repeat("NOSUCH\r\n", 100_000)},
		"local answers that nobody reads": {clients: 20, in: strings.Repeat("HELLO\r\n", 100_000)},
		"protocol errors behind big ones": {clients: 50, in: fmt.Sprintf("*2\r\n$%d\r\n%s\r\nx\r\n", 2*mib, strings.Repeat("v", 2*mib))},
	} {
		t.Run(name, func(t *testing.T) {
			redis := harness.NewRedis(t, harness.RedisOptions{})
			sidecar := harness.NewSidecar(t, harness.SidecarOptions{
				Plain:  true,
				Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%q]}", redis.Addr()),
			})
			other := framingParty{addr: sidecar.Addr(), control: harness.NewConn(t, sidecar.Addr())}
			other.roundTrip(t)
			for range tc.clients {
				c := other.dial(t)
				defer func() { _ = c.Close() }()
				framingFlood(c, tc.in, tc.rest)
				other.roundTrip(t)
			}
			rss, err := sidecar.RSS()
			if err != nil {
				t.Fatal(err)
			}
			if rss > framingMemory {
				t.Errorf("resident memory is %d MiB, more than %d", rss/mib, framingMemory/mib)
			}
		})
	}
}

// TestFramingMemoryIsShared has more clients send a large value at once than the sidecar may collect. None is turned away.
func TestFramingMemoryIsShared(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	sidecar := harness.NewSidecar(t, harness.SidecarOptions{
		Plain:  true,
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%q]}", redis.Addr()),
	})
	other := framingParty{addr: sidecar.Addr(), control: harness.NewConn(t, sidecar.Addr())}
	value := strings.Repeat("v", 1_000_000)
	var clients []*net.TCPConn
	for i := range 100 {
		c := other.dial(t)
		defer func() { _ = c.Close() }()
		clients = append(clients, c)
		set := harness.Command("SET", fmt.Sprintf("k%02d", i), value)
		framingSend(c, set[:len(set)-10])
		other.roundTrip(t)
	}
	for i, c := range clients {
		framingSend(c, append([]byte("vvvvvvvv\r\n"), harness.Command("STRLEN", fmt.Sprintf("k%02d", i))...))
		framingRead(t, c, []byte("+OK\r\n:1000000\r\n"))
	}
	rss, err := sidecar.RSS()
	if err != nil {
		t.Fatal(err)
	}
	if rss > framingMemory {
		t.Errorf("resident memory is %d bytes, more than %d", rss, framingMemory)
	}
}

// framingFlood sends bytes without reading what comes back.
func framingFlood(c *net.TCPConn, in, rest string) {
	framingSend(c, []byte(in))
	for sent := 0; rest != "" && sent < 32<<20; sent += len(rest) {
		if _, err := c.Write([]byte(rest)); err != nil {
			return
		}
	}
}

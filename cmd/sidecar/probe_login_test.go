package main

import (
	"net"
	"strings"
	"testing"
	"time"
)

// TestProbeLogin asks a server that says one thing to everybody.
func TestProbeLogin(t *testing.T) {
	for name, test := range map[string]struct{ says, want string }{
		"a login is demanded":    {"-NOAUTH Authentication required.\r\n", ""},
		"everybody is served":    {"+PONG\r\n", `asks for no login: it answers "+PONG"`},
		"another error":          {"-NOAUTHENTICATION\r\n", `asks for no login: it answers "-NOAUTHENTICATION"`},
		"no whole answer":        {"-NOAUTH", "no answer from"},
		"a line without an end":  {"-NOAUTH " + strings.Repeat("x", maxErrorLine), "no answer from"},
		"nothing, and it closes": {"", "no answer from"},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			asked := make(chan string, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					asked <- err.Error()
					return
				}
				buffer := make([]byte, 64)
				n, _ := conn.Read(buffer)
				_, _ = conn.Write([]byte(test.says))
				conn.Close()
				asked <- string(buffer[:n])
			}()
			got, err := probeLogin(t.Context(), l.Addr().String())
			if test.want == "" && (got != "ok" || err != nil) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
			l.Close()
			if command := <-asked; command != "*1\r\n$4\r\nPING\r\n" {
				t.Errorf("it was asked %q", command)
			}
		})
	}
}

// TestProbeLoginWaitsNoLonger has a server that accepts and says nothing.
func TestProbeLoginWaitsNoLonger(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := probeLoginCommand()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs([]string{l.Addr().String(), "--timeout", "50ms"})
	began := time.Now()
	if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer from") {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Package commands holds tests of what becomes of commands before they reach Redis: those that the configuration denies, those
// that nobody knew when the sidecar started; and of what one client is told in the place of another.
package commands

import (
	"fmt"
	"strings"
	"testing"

	"readthrough/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// newSidecar starts a sidecar with more lines of configuration.
func newSidecar(t *testing.T, addrs []string, config ...string) *harness.Sidecar {
	t.Helper()
	return harness.NewSidecar(t, harness.SidecarOptions{
		Config: fmt.Sprintf("apiVersion: readthrough/v1\nupstream: {addresses: [%s]}\n%s\n", strings.Join(addrs, ", "), strings.Join(config, "\n")),
	})
}

// newConn connects a client over RESP2 or RESP3.
func newConn(t *testing.T, addr string, protocol int) *harness.Conn {
	t.Helper()
	c := harness.NewConn(t, addr)
	if protocol == 3 {
		c.MustDo(t, "HELLO", "3")
	}
	return c
}

// want fails where a command is not answered as it should be.
func want(t *testing.T, c *harness.Conn, reply string, args ...string) {
	t.Helper()
	if got := c.MustDo(t, args...); got != reply {
		t.Errorf("%q: %.300q, want %q", args, got, reply)
	}
}

// inBoth runs a test over RESP2 and RESP3.
func inBoth(t *testing.T, test func(t *testing.T, protocol int)) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) { test(t, protocol) })
	}
}

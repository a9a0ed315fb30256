package commands

import (
	"errors"
	"io"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// TestHTTPIsLoggedOnce holds that whoever has browsers talk to the sidecar cannot fill its log.
func TestHTTPIsLoggedOnce(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	sidecar := newSidecar(t, []string{redis.Addr()})
	for _, request := range []string{"POST / HTTP/1.1\r\n", "Host: localhost\r\n"} {
		for range 20 {
			c := harness.NewConn(t, sidecar.Addr())
			if err := c.Send([]byte(request)); err != nil {
				t.Fatal(err)
			}
			if b, err := c.ReadReply(); !errors.Is(err, io.EOF) {
				t.Fatalf("%q is answered %q, %v", request, b, err)
			}
		}
	}
	if n := strings.Count(sidecar.Logs(), "client closed: it speaks HTTP"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

package chaos

import (
	"context"
	"testing"
	"time"

	"readthrough/test/harness"
	"readthrough/test/inprocess"
	"readthrough/upstream"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

// relay is the relay within the test: one loop, no origin.
type relay struct{ *inprocess.Relay }

// newRelay starts a relay and waits until it knows Redis.
func newRelay(t testing.TB, opts upstream.Options) *relay {
	t.Helper()
	r := startRelay(t, opts)
	r.await(t)
	return r
}

// startRelay starts a relay, which is stopped when the test ends. What it leaves behind, TestMain finds.
func startRelay(t testing.TB, opts upstream.Options) *relay {
	t.Helper()
	return &relay{inprocess.Start(t, opts, nil)}
}

// await waits until the relay knows Redis.
func (r *relay) await(t testing.TB) {
	t.Helper()
	poll(t, func() error {
		c, err := harness.Dial(t.Context(), r.Addr, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.Do("GET", "awaited")
		if err == nil {
			_, err = decode(raw)
		}
		return err
	})
}

// poll waits until ready is nil.
func poll(t testing.TB, ready func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := harness.Poll(ctx, ready); err != nil {
		t.Fatal(err)
	}
}

// decode reads a reply; an error reply is an error.
func decode(raw []byte) (harness.Value, error) {
	v, err := harness.Decode(raw)
	if err == nil {
		err = v.Err()
	}
	return v, err
}

// expect reads the next replies and compares them with what they must be.
func expect(t testing.TB, c *harness.Conn, want ...string) {
	t.Helper()
	for i, w := range want {
		got, err := c.ReadReply()
		if err != nil {
			t.Fatalf("reply %d: %v, want %q", i, err, w)
		}
		if string(got) != w {
			t.Fatalf("reply %d: %.200q, want %.200q", i, got, w)
		}
	}
}

// pipeline is several commands in a row.
func pipeline(commands ...[]string) []byte {
	var b []byte
	for _, c := range commands {
		b = append(b, harness.Command(c...)...)
	}
	return b
}

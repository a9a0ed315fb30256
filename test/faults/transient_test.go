package faults

import (
	"fmt"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// flaky fails once with a code, for each session of the server that calls it: a transaction that reads can leave advisory locks.
const flaky = `CREATE FUNCTION flaky(code text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) THEN
		PERFORM pg_advisory_lock(1);
		RAISE EXCEPTION USING errcode = code;
	END IF;
	PERFORM pg_advisory_unlock_all();
	RETURN 'at the second try';
END $$`

// What fails for a moment only costs a second try, and no error.
func TestTransientErrors(t *testing.T) {
	t.Parallel()
	const maps = user + `  - {name: flaky, key: "flaky:<code>", ttl: 1h, timeout: 5s, value: column, query: "SELECT flaky(@code)"}
`
	w := newWorld(t, "pool: {max: 1}", maps, harness.SidecarOptions{})
	w.db.MustExec(t, flaky)
	c := harness.NewConn(t, w.sidecar.Addr())
	for _, code := range []string{"40001", "40P01"} {
		replyIs(t, c, bulk("at the second try"), "GET", "flaky:"+code)
	}
	replyIs(t, c, bulk("user 1"), "GET", "user:1")
	w.db.MustExec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	replyIs(t, c, bulk("user 2"), "GET", "user:2")
	w.proxy.cut() // without a word of the server
	replyIs(t, c, bulk("user 3"), "GET", "user:3")
	w.db.MustExec(t, "ALTER TABLE users ALTER COLUMN name TYPE varchar(50)") // the plan of the prepared statement is not good any more
	replyIs(t, c, bulk("user 4"), "GET", "user:4")
	for _, outcome := range []string{"error", "down", "timeout", "busy"} {
		if n := metric(t, w.sidecar, fmt.Sprintf(`readthrough_loads_total{map="user",outcome=%q}`, outcome)); n != 0 {
			t.Errorf("%v loads ended by %s", n, outcome)
		}
	}
}

// A value that is larger than its map allows is answered each time, and not cached; one that is larger than any may be is an error.
func TestValueLargerThanAllowed(t *testing.T) {
	t.Parallel()
	const maps = `  - {name: text, key: "text:<n:int>", ttl: 1h, timeout: 10s, maxValue: 1KiB, value: column, query: "SELECT repeat('x', @n)"}
`
	w := newWorld(t, "", maps, harness.SidecarOptions{})
	c := harness.NewConn(t, w.sidecar.Addr())
	for n, size := range []int{1024, 1025, 1025, 8 << 20, 16 << 20} {
		key := fmt.Sprint("text:", size)
		replyIs(t, c, bulk(strings.Repeat("x", size)), "GET", key)
		cached := map[bool]string{true: "1", false: "0"}[size <= 1024]
		if got := w.redis.MustDo(t, "EXISTS", key).Str; got != cached {
			t.Errorf("%d bytes: EXISTS answers %s, want %s", size, got, cached)
		}
		if got := metric(t, w.sidecar, `readthrough_fills_total{map="text",outcome="too_large"}`); got != float64(n) {
			t.Errorf("%d bytes: %v values are too large so far, want %d", size, got, n)
		}
		if got := metric(t, w.sidecar, `readthrough_loads_total{map="text",outcome="found"}`); got != float64(n+1) {
			t.Errorf("%d bytes: %v loads so far, want %d", size, got, n+1)
		}
	}
	replyBegins(t, c, "-ORIGINERR map text: ", "GET", fmt.Sprint("text:", 16<<20+1))
	poll(t, func() error { // leases are given back, after the answer
		if keys := w.redis.MustDo(t, "DBSIZE").Str; keys != "1" {
			return fmt.Errorf("Redis has %s keys", keys)
		}
		return nil
	})
}

package rules

import (
	"errors"
	"io"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// There is one bound of what all clients hold together. Past it the one that holds most is closed, and the others are not.
func TestTheClientThatHoldsMostIsClosed(t *testing.T) {
	redis := harness.NewRedis(t, harness.RedisOptions{})
	r := newRelay(t, nil, redis.Addr())
	keys := func(size int) string {
		var b strings.Builder
		for b.Len() < size {
			b.WriteString(" queue" + strings.Repeat("x", 50<<10))
		}
		return b.String()
	}
	largest, modest := r.connect(t), r.connect(t)
	send(t, modest, "BLPOP queue 0")
	send(t, largest, "BLPOP"+keys(3<<20)+" 0") // which is kept: its slot may move
	await(t, redis, "flags=b", 2)
	const count = 25 // of these, they hold some 50 MiB
	several := "BLPOP" + keys(2<<20) + " 0"
	var clients []*harness.Conn
	for range count {
		c := r.connect(t)
		send(t, c, several)
		clients = append(clients, c)
	}
	if got, err := largest.ReadReply(); !errors.Is(err, io.EOF) {
		t.Fatalf("the largest one is answered %q, %v", got, err)
	}
	silent(t, r.connect(t))
	left := 0
	for _, c := range clients {
		redis.MustDo(t, "RPUSH", "queue"+strings.Repeat("x", 50<<10), "v")
		if _, err := c.ReadReply(); err == nil {
			left++
		}
	}
	if left < 5 || left > 16 {
		t.Errorf("%d of %d clients are left, want what 32 MiB hold", left, count)
	}
	redis.MustDo(t, "RPUSH", "queue", "v")
	expect(t, modest, "*2\r\n"+bulk("queue")+bulk("v"))
}

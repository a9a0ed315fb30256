package clients

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// sessionID is where HELLO's reply has the client's id, which the sidecar gives out by itself.
var sessionID = regexp.MustCompile(`\$2\r\nid\r\n:[0-9]+\r\n`)

// TestIdentity holds that who a client is, is checked and kept as by Redis itself: each conversation, on a connection of its own,
// gets the same bytes from both.
func TestIdentity(t *testing.T) {
	conversations := map[string]string{
		"AUTH": `AUTH app wrong; AUTH nobody x; AUTH app; AUTH wrong; AUTH app app-secret extra; ACL WHOAMI; AUTH app app-secret; ACL WHOAMI
			SET app:1 v; GET app:1; GET other; SET other v; CONFIG GET maxmemory; KEYS *; MGET app:1 other; EVAL return(1) 0; AUTH app wrong
			ACL WHOAMI; GET other; AUTH default anything; ACL WHOAMI; GET other`,
		"HELLO": `HELLO; HELLO 2; HELLO 3; HELLO; HELLO 4; HELLO 1; HELLO abc; HELLO 3 NONSENSE; HELLO 3 AUTH app; HELLO 3 SETNAME; HELLO 3 SETNAME one
			CLIENT GETNAME; HELLO 2 AUTH app wrong; ACL WHOAMI; HGETALL nothing; HELLO 3 AUTH app app-secret SETNAME two
			ACL WHOAMI; CLIENT GETNAME; GET nothing; GET app:nothing; HELLO 2; ACL WHOAMI; GET app:nothing`,
		"names": `CLIENT GETNAME; CLIENT SETNAME one; CLIENT GETNAME; CLIENT SETNAME; CLIENT SETNAME a  b; CLIENT SETNAME \n; CLIENT GETNAME
			CLIENT NOSUCH; CLIENT; HELLO 3; CLIENT GETNAME; RESET; CLIENT GETNAME; HELLO 3; CLIENT GETNAME`,
		"SELECT": `SELECT 0; SELECT 1; SET k in1; GET k; SELECT 0; GET k; SELECT 16; SELECT -1; SELECT x; SELECT; SELECT 1 2; SELECT 01
			SELECT 99999999999999999999; GET k; SELECT 1; HELLO 3; GET k; AUTH app app-secret; SELECT 1; RESET; GET k`,
		"RESET":          `HELLO 3 AUTH app app-secret SETNAME one; SELECT 1; RESET; ACL WHOAMI; CLIENT GETNAME; GET nothing; GET k; RESET now`,
		"QUIT":           `SET k v; QUIT`,
		"QUIT with more": `GET k; QUIT now`,
	}
	config := harness.RedisOptions{Config: []string{user}}
	for name, text := range conversations {
		t.Run(name, func(t *testing.T) {
			bare := harness.NewConn(t, harness.NewRedis(t, config).Addr())
			sidecar := harness.NewConn(t, newTarget(t, false, harness.NewRedis(t, config)).addr())
			for command := range strings.SplitSeq(strings.ReplaceAll(text, "\n", ";"), ";") {
				args := words(command)
				want, wantErr := bare.Do(args...)
				got, gotErr := sidecar.Do(args...)
				if (wantErr == nil) != (gotErr == nil) {
					t.Fatalf("%q: %q, %v; want %q, %v", args, got, gotErr, want, wantErr)
				}
				w, g := sessionID.ReplaceAll(want, nil), sessionID.ReplaceAll(got, nil)
				if string(w) != string(g) {
					t.Errorf("%q:\n%q, want\n%q", args, g, w)
				}
			}
			_, wantEnd := bare.Do("PING")
			_, gotEnd := sidecar.Do("PING")
			if (wantEnd == nil) != (gotEnd == nil) {
				t.Errorf("the connection's end: %v, want %v", gotEnd, wantEnd)
			}
		})
	}
}

// words splits a command at single blanks; \n is a line end.
func words(command string) []string {
	return strings.Split(strings.ReplaceAll(strings.TrimSpace(command), `\n`, "\n"), " ")
}

// TestHelloBeforeRedis holds that a client that greets before Redis has been found is told of the Redis that is then found.
func TestHelloBeforeRedis(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{Masters: 1})
	redis := cluster.Nodes()[0]
	if err := redis.Pause(); err != nil {
		t.Fatal(err)
	}
	c := harness.NewConn(t, newTarget(t, true, redis).addr())
	if err := c.Send(harness.Command("HELLO", "3")); err != nil {
		t.Fatal(err)
	}
	if err := redis.Resume(); err != nil {
		t.Fatal(err)
	}
	got, err := c.ReadReply()
	if err != nil {
		t.Fatal(err)
	}
	bare, err := harness.NewConn(t, redis.Addr()).Do("HELLO", "3")
	if err != nil {
		t.Fatal(err)
	}
	if g, w := sessionID.ReplaceAllString(string(got), ""), sessionID.ReplaceAllString(string(bare), ""); g != w {
		t.Errorf("%q, want %q", g, w)
	}
}

func TestClientIDs(t *testing.T) {
	onEach(t, func(t *testing.T, to target) {
		seen := map[string]bool{}
		for range 3 {
			c := harness.NewConn(t, to.addr())
			id := c.MustDo(t, "CLIENT", "ID")
			if again := c.MustDo(t, "CLIENT", "ID"); again != id {
				t.Errorf("CLIENT ID answers %q, and then %q", id, again)
			}
			hello := c.MustDo(t, "HELLO", "3")
			if want := "$2\r\nid\r\n" + id; !strings.Contains(hello, want) {
				t.Errorf("HELLO answers %q, which lacks %q", hello, want)
			}
			if seen[id] {
				t.Errorf("two clients have the id %q", id)
			}
			seen[id] = true
		}
	})
}

// TestUsersHold holds that the rights of a client's own user count on every node, also in a pipeline that changes between users,
// and end with that user.
func TestUsersHold(t *testing.T) {
	onEach(t, func(t *testing.T, to target) {
		c := harness.NewConn(t, to.addr())
		var raw []byte
		var want []string
		ask := func(reply string, args ...string) {
			raw = append(raw, harness.Command(args...)...)
			want = append(want, reply)
		}
		const noKey = "-NOPERM this user has no permissions to access one of the keys used as arguments\r\n"
		for i := range 20 { // keys on every node
			ask("+OK\r\n", "SET", fmt.Sprint("other:", i), "v")
			ask("+OK\r\n", "AUTH", "app", "app-secret")
			ask(noKey, "GET", fmt.Sprint("other:", i))
			ask("+OK\r\n", "SET", fmt.Sprint("app:", i), "v")
			ask("+RESET\r\n", "RESET")
			ask("$1\r\nv\r\n", "GET", fmt.Sprint("other:", i))
		}
		if err := c.Send(raw); err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			got, err := c.ReadReply()
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != w {
				t.Fatalf("reply %d: %q, want %q", i, got, w)
			}
		}
		c.MustDo(t, "QUIT")
		if _, err := c.ReadReply(); !errors.Is(err, io.EOF) {
			t.Errorf("after QUIT: %v, want the end", err)
		}
	})
}

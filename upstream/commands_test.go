package upstream

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"readthrough/internal/command"
)

// The table made of rueidis' messages is the one made of redis-cli's JSON of the same reply.
func TestFetchCommands(t *testing.T) {
	noLeaks(t)
	server := startRedis(t, "127.0.0.1")
	f := discover(t, &Options{Addresses: []string{server.addr()}})
	eventually(t, 5*time.Second, "a table", func() bool { return f.table() != nil })
	var reply any
	if err := json.Unmarshal([]byte(server.cli("--json", "COMMAND")), &reply); err != nil {
		t.Fatal(err)
	}
	entries, err := command.Entries(reply)
	if err != nil {
		t.Fatal(err)
	}
	got, want := f.table().All(), command.New(entries).All()
	if len(got) != len(want) || len(got) < 300 {
		t.Fatalf("%d commands, want %d", len(got), len(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("%s:\n%+v\nwant\n%+v", want[i].Name, got[i], want[i])
		}
	}
}

// Redis 6.2 has neither tips, key specs nor subcommands in its reply.
func TestFetchCommandsBeforeKeySpecs(t *testing.T) {
	noLeaks(t)
	version := atomic.Pointer[string]{}
	set := func(v string) { version.Store(&v) }
	set("6.2.14")
	var asked atomic.Int64
	addr := fakeRedis(t, func(args []string) string {
		switch args[0] {
		case "HELLO":
			return fmt.Sprintf("%%4\r\n+proto\r\n:3\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n+version\r\n%s", bulk(*version.Load()))
		case "COMMAND":
			asked.Add(1)
			return "*2\r\n" +
				"*7\r\n$3\r\nget\r\n:2\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n~3\r\n+@read\r\n+@string\r\n+@fast\r\n" +
				"*7\r\n$4\r\nping\r\n:-1\r\n~2\r\n+stale\r\n+fast\r\n:0\r\n:0\r\n:0\r\n~2\r\n+@fast\r\n+@connection\r\n"
		}
		return "-ERR unknown command\r\n"
	})
	f := discover(t, &Options{Addresses: []string{addr}})
	eventually(t, 5*time.Second, "a table", func() bool { return f.table() != nil })
	if f.table() != command.Snapshot() {
		t.Errorf("a table of %d commands, want the snapshot", f.table().Len())
	}
	// It is not fetched again, until the server becomes another.
	refresh := func() {
		t.Helper()
		before := f.State().LastSuccess
		f.Refresh()
		eventually(t, 5*time.Second, "a refresh", func() bool { return f.State().LastSuccess.After(before) })
	}
	refresh()
	refresh()
	if n := asked.Load(); n != 1 {
		t.Errorf("COMMAND was sent %d times", n)
	}
	set("7.2.4")
	refresh()
	eventually(t, 5*time.Second, "COMMAND is sent again", func() bool { return asked.Load() == 2 })
	if got := f.State().Version; got != "7.2.4" {
		t.Errorf("version %q", got)
	}
}

// RESP2 alone, no HELLO, no CLUSTER: Redis 5 and some that speak its protocol.
func TestWithoutHello(t *testing.T) {
	noLeaks(t)
	addr := fakeRedis(t, func(args []string) string {
		switch {
		case args[0] == "HELLO":
			return "-ERR unknown command `HELLO`, with args beginning with: \r\n"
		case args[0] == "AUTH" && len(args) == 2 && args[1] == "pw", args[0] == "CLIENT" && args[1] == "SETNAME":
			return "+OK\r\n"
		case args[0] == "EVALSHA" && args[1] == acquireScript.hash:
			return "*1\r\n:4\r\n"
		case args[0] == "EVALSHA" && args[1] == fillScript.hash:
			return ":1\r\n"
		case args[0] == "CLUSTER":
			return "-ERR This instance has cluster support disabled\r\n"
		case args[0] == "COMMAND":
			return "*1\r\n*6\r\n+get\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n"
		}
		return "-ERR not expected: " + strings.Join(args, " ") + "\r\n"
	})
	f := discover(t, &Options{Addresses: []string{addr}, ClientName: "ours", Credentials: (&password{text: "pw"}).credentials})
	if got := f.await(t); !got.Equal(standalone(addr)) {
		t.Errorf("topology %v", got.Nodes)
	}
	stored, err := store(newLeases(f.clients, f.topology, f.Refresh), "k")
	if err != nil || !stored {
		t.Errorf("stored %v, %v", stored, err)
	}
}

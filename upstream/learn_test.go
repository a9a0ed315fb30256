package upstream

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"readthrough/internal/command"
	"readthrough/internal/loop"
)

// A server of before key specs, to which a module comes and which has renamed a command: what the snapshot lacks is asked about, all
// names at once, and what the server does not know either is not asked again.
func TestLearn(t *testing.T) {
	noLeaks(t)
	const get, module = "*7\r\n$3\r\nget\r\n:2\r\n~1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n~0\r\n",
		"*7\r\n$8\r\njson.get\r\n:-2\r\n~2\r\n+readonly\r\n+module\r\n:1\r\n:1\r\n:1\r\n~0\r\n"
	var mu sync.Mutex
	var asked []string
	loaded, refuses := false, false
	addr := fakeRedis(t, func(args []string) string {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case args[0] == "HELLO":
			return "%4\r\n+proto\r\n:3\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n+version\r\n" + bulk("6.2.14")
		case args[0] == "COMMAND" && len(args) == 1 && loaded:
			return "*2\r\n" + get + module
		case args[0] == "COMMAND" && len(args) == 1:
			return "*1\r\n" + get
		case args[0] == "COMMAND" && refuses:
			return "-NOPERM no\r\n"
		case args[0] == "COMMAND" && args[2][0] == 'x':
			return fmt.Sprintf("*%d\r\n", len(args)-2) + strings.Repeat("_\r\n", len(args)-2)
		case args[0] == "COMMAND":
			asked = append(asked, args[2:]...)
			reply := fmt.Sprintf("*%d\r\n", len(args)-2)
			for _, name := range args[2:] {
				switch name {
				case "fetch":
					reply += get
				case "json.get":
					reply += module
				default:
					reply += "_\r\n"
				}
			}
			return reply
		}
		return "-ERR unknown command\r\n"
	})
	l, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	up, err := New(Options{Addresses: []string{addr}}, []*loop.Loop{l})
	if err != nil {
		t.Fatal(err)
	}
	up.Start()
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		up.Close()
	})
	side := up.Side(0)
	on := func(f func()) {
		t.Helper()
		done := make(chan struct{})
		if !l.Post(func() { f(); close(done) }) {
			t.Fatal("the loop has stopped")
		}
		<-done
	}
	eventually(t, 5*time.Second, "a table of the server", func() bool {
		up.words.mu.Lock()
		defer up.words.mu.Unlock()
		return up.words.table != nil
	})
	mu.Lock()
	loaded = true
	mu.Unlock()

	// learn asks about names, each twice, and returns those that there was nothing to learn of. refusals is how often that was since the
	// server had not answered.
	refusals := 0
	learn := func(names ...string) (settled []string) {
		t.Helper()
		answered := make(chan struct{}, 2*len(names))
		waiting := 0
		refusals = 0
		on(func() {
			for _, name := range names {
				for _, called := range []string{name, strings.ToUpper(name)} {
					asking, err := side.Learn([]byte(called), func() { answered <- struct{}{} })
					switch {
					case err != nil:
						refusals++
					case asking:
						waiting++
					case called == name:
						settled = append(settled, name)
					}
				}
			}
		})
		for range waiting {
			select {
			case <-answered:
			case <-time.After(5 * time.Second):
				t.Fatal("nobody says what became of it")
			}
		}
		return settled
	}
	// A question that is not answered says nothing about a name.
	mu.Lock()
	refuses = true
	mu.Unlock()
	if settled := learn("fetch"); len(settled) != 0 || refusals > 0 {
		t.Errorf("nothing to learn of %q, %d refusals", settled, refusals)
	}
	if settled := learn("fetch", "nonesuch"); len(settled) != 0 || refusals != 4 {
		t.Errorf("when the server has not answered: nothing to learn of %q, %d refusals", settled, refusals)
	}
	mu.Lock()
	refuses = false
	mu.Unlock()
	eventually(t, 5*time.Second, "another question", func() bool {
		settled := learn("fetch")
		return len(settled) == 0 && refusals == 0
	})
	// Neither does one about many others: of those, a bounded number is kept.
	var nonsense []string
	for i := range 3 * maxUnknown {
		nonsense = append(nonsense, fmt.Sprint("x", i))
	}
	if settled := learn(nonsense...); len(settled) != 0 {
		t.Errorf("nothing to learn of %d names", len(settled))
	}
	if settled := learn(nonsense...); len(settled) != maxUnknown {
		t.Errorf("%d names are known to be unknown", len(settled))
	}

	if settled := learn("json.get", "nonesuch"); len(settled) != 0 {
		t.Errorf("nothing to learn of %q", settled)
	}
	on(func() {
		table := side.Table()
		if i := table.Lookup([]byte("Fetch")); i == nil || i.Name != "get" || i != table.Named("get") {
			t.Errorf("FETCH is %v", i)
		}
		if i := table.Lookup([]byte("JSON.GET")); i == nil || !i.SingleKey || i.Handling != command.ByKey {
			t.Errorf("JSON.GET is %v", i)
		}
		if i := table.Lookup([]byte("nonesuch")); i != nil {
			t.Errorf("NONESUCH is %v", i)
		}
	})
	if settled := learn("nonesuch", "config|set", strings.Repeat("x", 65)); len(settled) != 3 {
		t.Errorf("nothing to learn of %q alone", settled)
	}
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(asked)
	if want := []string{"fetch", "json.get", "nonesuch"}; !slices.Equal(asked, want) {
		t.Errorf("asked about %q, want %q", asked, want)
	}
}

package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The clients of other languages are used by programs, which print "ok" when they have found what they expect.

func TestRedisPy(t *testing.T) {
	// The interpreter for which Debian installs its packages.
	runOnEach(t, ".", "/usr/bin/python3", "-W", "error", "python/main.py")
}

func TestPHPRedis(t *testing.T) { runOnEach(t, ".", "php", "php/main.php") }

func TestRedisRB(t *testing.T) { runOnEach(t, ".", "ruby", "ruby/main.rb") }

// TestNode runs the programs of the folder node with the versions of the clients that the lock file names, in a folder of its own.
func TestNode(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("node")); err != nil {
		t.Fatal(err)
	}
	output(t.Context(), t, dir, "", "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund")
	programs, err := filepath.Glob(filepath.Join(dir, "*.js"))
	if err != nil || len(programs) == 0 {
		t.Fatalf("there is no program: %v", err)
	}
	for _, program := range programs {
		name := filepath.Base(program)
		t.Run(strings.TrimSuffix(name, ".js"), func(t *testing.T) { runOnEach(t, dir, "node", name) })
	}
}

// runOnEach runs a program with where it finds a Redis: … HOST PORT standalone|cluster.
func runOnEach(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	onEach(t, func(t *testing.T, to target) {
		t.Helper()
		mode := "standalone"
		if to.cluster {
			mode = "cluster"
		}
		got := output(t.Context(), t, dir, "", name, append(args[:len(args):len(args)], to.host, to.port, mode)...)
		if got != "ok\n" && !strings.HasSuffix(got, "\nok\n") {
			t.Errorf("it prints %s", got)
		}
	})
}

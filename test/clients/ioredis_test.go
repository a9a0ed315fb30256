package clients

import (
	"os"
	"path/filepath"
	"testing"
)

// TestIORedis runs ioredis/main.js, with the versions that the lock file names, in a folder of its own.
func TestIORedis(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc", "main.js"} {
		content, err := os.ReadFile(filepath.Join("ioredis", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	output(t.Context(), t, dir, "", "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund")
	onEach(t, func(t *testing.T, to target) {
		mode := "standalone"
		if to.cluster {
			mode = "cluster"
		}
		if got := output(t.Context(), t, dir, "", "node", "main.js", to.host, to.port, mode); got != "ok\n" {
			t.Errorf("it prints %s", got)
		}
	})
}

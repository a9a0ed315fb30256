package parity

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"readthrough/test/harness"
)

// monitored is a line of MONITOR: the time, the database and who, and the command.
var monitored = regexp.MustCompile(`^\+\d+\.\d{6} \[(\d+) [^ ]+\] (.*)\r\n$`)

// TestMonitor holds that a client that monitors sees what the others do as it does at Redis itself, but for times and addresses, and
// for what the sidecar does for itself.
func TestMonitor(t *testing.T) {
	for name, p := range map[string]*pair{"standalone": newStandalonePair(t), "three masters": newClusterPair(t, 3)} {
		for _, protocol := range []string{"2", "3"} {
			t.Run(name+" RESP"+protocol, func(t *testing.T) {
				var seen [2][]string
				for i, addr := range []string{p.bare, p.sidecar} {
					monitor, other := harness.NewConn(t, addr), harness.NewConn(t, addr)
					monitor.MustDo(t, "HELLO", protocol)
					if got := monitor.MustDo(t, "MONITOR"); got != "+OK\r\n" {
						t.Fatalf("MONITOR answers %q", got)
					}
					for n := range 30 {
						other.MustDo(t, "SET", fmt.Sprintf("{monitored}%d", n), "a\r\n\"b\"")
					}
					other.MustDo(t, "EVAL", "return redis.call('GET', KEYS[1])", "1", "{monitored}")
					other.MustDo(t, "MULTI")
					other.MustDo(t, "INCR", "{monitored}n")
					other.MustDo(t, "EXEC")
					other.MustDo(t, "GET", "{monitored}end")
					for len(seen[i]) == 0 || !strings.Contains(seen[i][len(seen[i])-1], "{monitored}end") {
						line, err := monitor.ReadReply()
						if err != nil {
							t.Fatalf("after %q: %v", seen[i], err)
						}
						parts := monitored.FindStringSubmatch(string(line))
						if parts == nil {
							t.Fatalf("%q is no line of MONITOR", line)
						}
						if strings.Contains(parts[2], "{monitored}") {
							seen[i] = append(seen[i], parts[1]+" "+parts[2])
						}
					}
					if got := monitor.MustDo(t, "RESET"); !strings.Contains(got, "RESET") && !monitored.MatchString(got) {
						t.Errorf("RESET answers %q", got)
					}
				}
				if !slices.Equal(seen[0], seen[1]) {
					t.Errorf("Redis:   %q\nsidecar: %q", seen[0], seen[1])
				}
			})
		}
	}
}

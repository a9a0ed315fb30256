package commands

import (
	"strings"
	"testing"

	"readthrough/test/harness"
)

// TestAdvertise holds that cluster clients are shown the sidecar, or with cluster.advertise: upstream the real nodes, in Redis's own
// bytes.
func TestAdvertise(t *testing.T) {
	cluster := harness.NewCluster(t, harness.ClusterOptions{})
	ours := newSidecar(t, cluster.Addrs())
	theirs := newSidecar(t, cluster.Addrs(), "cluster: {advertise: upstream}")
	inBoth(t, func(t *testing.T, protocol int) {
		hidden, shown := newConn(t, ours.Addr(), protocol), newConn(t, theirs.Addr(), protocol)
		var nodes []*harness.Conn
		for _, addr := range cluster.Addrs() {
			nodes = append(nodes, newConn(t, addr, protocol))
		}
		for _, what := range []string{"SLOTS", "SHARDS", "NODES"} {
			if reply := hidden.MustDo(t, "CLUSTER", what); mentions(reply, cluster) {
				t.Errorf("CLUSTER %s names nodes behind the sidecar: %q", what, reply)
			}
			var direct []string // the fixed node is any of them
			for _, node := range nodes {
				direct = append(direct, steady(node.MustDo(t, "CLUSTER", what)))
			}
			got := steady(shown.MustDo(t, "CLUSTER", what))
			equal := false
			for _, d := range direct {
				equal = equal || d == got
			}
			if !equal || !mentions(got, cluster) {
				t.Errorf("CLUSTER %s: %q\nno node says so: %q", what, got, direct)
			}
		}
	})
}

func mentions(reply string, cluster *harness.Cluster) bool {
	for _, node := range cluster.Nodes() {
		if strings.Contains(reply, node.ID()) {
			return true
		}
	}
	return false
}

// steady is a reply without the times of the cluster's heartbeats in CLUSTER NODES and without the replication offsets in CLUSTER
// SHARDS, which change from one moment to the next.
func steady(reply string) string {
	lines := strings.SplitAfter(reply, "\n")
	for i, line := range lines {
		switch fields := strings.Fields(line); {
		case len(fields) >= 8 && strings.Contains(fields[1], "@"):
			fields[4], fields[5] = "", ""
			lines[i] = strings.Join(fields, " ")
		case i > 0 && strings.HasPrefix(lines[i-1], "replication-offset"):
			lines[i] = ""
		case strings.HasPrefix(line, "$") || strings.HasPrefix(line, "="): // the length of the above
			lines[i] = line[:1]
		}
	}
	return strings.Join(lines, "")
}

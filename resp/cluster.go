package resp

import (
	"bytes"
	"fmt"
	"net"
	"strconv"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/relay"
	"readthrough/internal/slot"
)

// A client of a Redis Cluster looks up which node owns which slot, and then talks to the nodes. It would go round the sidecar,
// so it is shown a cluster of one node: the sidecar, at the address that the client used, with every slot.

func (s *session) clusterSlots(info *command.Info, _ [][]byte) bool {
	host, port := s.address()
	b := redcon.AppendArray(nil, 1)
	b = redcon.AppendArray(b, 3)
	b = redcon.AppendInt(b, 0)
	b = redcon.AppendInt(b, slot.Count-1)
	b = redcon.AppendArray(b, 4)
	b = redcon.AppendBulkString(b, host)
	b = redcon.AppendInt(b, port)
	b = redcon.AppendBulkString(b, s.front.server.nodeID)
	s.reply(info, s.appendMap(b, 0))
	return true
}

func (s *session) clusterShards(info *command.Info, _ [][]byte) bool {
	host, port := s.address()
	b := redcon.AppendArray(nil, 1)
	b = s.appendMap(b, 2)
	b = redcon.AppendBulkString(b, "slots")
	b = redcon.AppendArray(b, 2)
	b = redcon.AppendInt(b, 0)
	b = redcon.AppendInt(b, slot.Count-1)
	b = redcon.AppendBulkString(b, "nodes")
	b = redcon.AppendArray(b, 1)
	b = s.appendMap(b, 7)
	b = redcon.AppendBulkString(b, "id")
	b = redcon.AppendBulkString(b, s.front.server.nodeID)
	b = redcon.AppendBulkString(b, "port")
	b = redcon.AppendInt(b, port)
	for _, pair := range [][2]string{{"ip", host}, {"endpoint", host}, {"role", "master"}} {
		b = redcon.AppendBulkString(b, pair[0])
		b = redcon.AppendBulkString(b, pair[1])
	}
	b = redcon.AppendBulkString(b, "replication-offset")
	b = redcon.AppendInt(b, 0)
	b = redcon.AppendBulkString(b, "health")
	s.reply(info, redcon.AppendBulkString(b, "online"))
	return true
}

func (s *session) clusterNodes(info *command.Info, _ [][]byte) bool {
	host, port := s.address()
	s.reply(info, s.text(fmt.Sprintf("%s %s:%d@%d myself,master - 0 0 1 connected 0-%d\n",
		s.front.server.nodeID, host, port, port, slot.Count-1)))
	return true
}

func (s *session) clusterInfo(info *command.Info, _ [][]byte) bool {
	s.reply(info, s.text(fmt.Sprintf("cluster_state:ok\r\ncluster_slots_assigned:%d\r\ncluster_slots_ok:%d\r\n"+
		"cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:1\r\ncluster_size:1\r\ncluster_current_epoch:1\r\n"+
		"cluster_my_epoch:1\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n"+
		"total_cluster_links_buffer_limit_exceeded:0\r\n", slot.Count, slot.Count)))
	return true
}

func (s *session) clusterMyID(info *command.Info, _ [][]byte) bool {
	s.reply(info, redcon.AppendBulkString(nil, s.front.server.nodeID))
	return true
}

func (s *session) clusterLinks(info *command.Info, _ [][]byte) bool {
	s.reply(info, redcon.AppendArray(nil, 0))
	return true
}

// clusterAbout answers what is asked about a node: there is one, and it has neither replicas nor failures.
func (s *session) clusterAbout(info *command.Info, args [][]byte) bool {
	switch {
	case !bytes.Equal(args[2], []byte(s.front.server.nodeID)):
		return s.error(info, "ERR Unknown node "+string(args[2]))
	case info.Action == command.ActionClusterReplicas:
		s.reply(info, redcon.AppendArray(nil, 0))
	default:
		s.reply(info, redcon.AppendInt(nil, 0))
	}
	return true
}

func (s *session) clusterKeySlot(info *command.Info, args [][]byte) bool {
	s.reply(info, redcon.AppendInt(nil, int64(slot.Of(args[2]))))
	return true
}

// describe answers a command of CLUSTER about the topology by f, unless the upstream is no cluster, which Redis says best, or the
// real topology is to be shown.
func describe(f func(s *session, info *command.Info, args [][]byte) bool) func(s *session, info *command.Info, args [][]byte) bool {
	return func(s *session, info *command.Info, args [][]byte) bool {
		if !s.front.side.Server().Cluster || s.front.advertiseUpstream {
			return s.relay(info, relay.AnyNode, false)
		}
		return f(s, info, args)
	}
}

// address is where the client has connected to.
func (s *session) address() (host string, port int64) {
	host, text, err := net.SplitHostPort(s.conn.LocalAddr())
	if err != nil {
		return "", 0
	}
	port, _ = strconv.ParseInt(text, 10, 64) // the kernel's own
	return host, port
}

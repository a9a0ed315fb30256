package resp

import (
	"bytes"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// monitor handles MONITOR: a link to each master, whose lines are passed on as they come, those of one master in their order. The
// commands that the sidecar sends for itself are among them.
func (s *session) monitor(info *command.Info) bool {
	if !s.quiet() {
		return false
	}
	if len(s.monitors) > 0 {
		return s.ok(info)
	}
	var addrs []string
	for _, node := range s.front.side.Nodes() {
		if node.Slot != relay.AnyNode {
			addrs = append(addrs, node.Addr)
		}
	}
	if len(addrs) == 0 {
		addrs = append(addrs, "") // the link fails with the reason
	}
	p := s.front.take(s, info)
	watching := false
	p.inspect = func(b []byte, _, _ bool) bool {
		if watching = b[0] == '+'; !watching {
			s.endMonitor()
		}
		return false
	}
	s.send(p, 0)
	for i, addr := range addrs {
		var link relay.Link
		if addr == "" {
			link = s.lane.Link(relay.AnyNode)
		} else {
			link = s.lane.LinkTo(addr)
		}
		link = s.feed(link, func(line []byte) bool { return !watching || s.push(line) }) // none comes before the answer
		s.monitors = append(s.monitors, link)
		link.Lasts()
		link.OnLost(func(err error) {
			switch {
			case watching && len(s.monitors) > 0:
				s.kill("a connection of its MONITOR was lost: " + err.Error())
			case !watching: // and will not
				s.endMonitor()
			}
		})
		r := &p.Request // the first one's reply is the client's
		if i > 0 {
			r = &relay.Request{Sink: silence{}, Owner: &s.owner}
		}
		link.Send(r, bytes.Clone(s.commands.Raw))
	}
	return true
}

// endMonitor closes the links of MONITOR.
func (s *session) endMonitor() {
	links := s.monitors
	s.monitors = nil
	for _, link := range links {
		link.Release(false)
	}
}

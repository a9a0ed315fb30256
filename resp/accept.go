package resp

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// maxReserve is how many descriptors clients leave, at most, to all else: connections to Redis and to origins, probes and metrics. It is
// no more than a quarter of those that the process may have.
const maxReserve = 128

// acceptPause is how long nothing is accepted where that was not possible.
const acceptPause = 50 * time.Millisecond

// accept hands new connections to the loops, in turn. Without descriptors for more, clients wait in the listener's queue.
func (s *Server) accept(l net.Listener) {
	room := newRoom(l)
	for {
		err := room.check()
		var conn net.Conn
		if err == nil {
			conn, err = l.Accept()
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.seldom.Warn("no connection can be accepted now, trying again", zap.Error(err), zap.Int("clients", s.Clients()))
			time.Sleep(acceptPause)
			continue
		}
		id := s.ids.Add(1)
		f := s.fronts[int(id)%len(s.fronts)]
		fd, err := f.loop.Detach(conn)
		if err != nil {
			s.seldom.Warn("a client's connection cannot be served", zap.Error(err))
			continue
		}
		s.clients.Add(1)
		if !f.loop.Post(func() { f.open(fd, id) }) {
			_ = unix.Close(fd)
			s.clients.Add(-1)
		}
	}
}

// room tells whether there are descriptors for another client. The kernel gives the lowest number that is free, so when clients have only
// numbers below a limit, those from there on are for all else.
type room struct {
	socket syscall.RawConn // the listener's; nil where it has none
	limit  int             // 0: unknown
}

func newRoom(l net.Listener) room {
	var r room
	if c, ok := l.(syscall.Conn); ok {
		r.socket, _ = c.SyscallConn()
	}
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		most := int(min(files.Cur, 1<<30))
		r.limit = most - min(most/4, maxReserve)
	}
	return r
}

// check is an error while there is no room.
func (r room) check() error {
	if r.socket == nil || r.limit == 0 {
		return nil
	}
	var fds [2]int // of an accepted connection, and what Detach makes of it
	var refused error
	err := r.socket.Control(func(s uintptr) {
		for i := range fds {
			if fds[i], refused = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0); refused != nil {
				return
			}
			defer func() { _ = unix.Close(fds[i]) }()
		}
	})
	switch {
	case err != nil:
		return err
	case refused != nil:
		return refused
	case fds[1] >= r.limit:
		return fmt.Errorf("%d file descriptors are in use, and the rest is not for clients", fds[1])
	}
	return nil
}

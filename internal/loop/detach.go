package loop

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Detach makes a connection that was dialled or accepted with package net into a descriptor for Add, and closes it where it no
// longer serves. A connection that is no plain socket, such as TLS, stays open and is pumped by two goroutines through a socket
// pair, so that the loop sees plain bytes; back-pressure, half-close and failure of either side reach the other. It may be
// called from any goroutine.
func (l *Loop) Detach(conn net.Conn) (fd int, err error) {
	if sc, ok := conn.(syscall.Conn); ok {
		defer conn.Close()
		raw, err := sc.SyscallConn()
		if err != nil {
			return -1, fmt.Errorf("detach: %w", err)
		}
		fd = -1
		if err := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
			return -1, fmt.Errorf("detach: %w", err)
		}
		if err != nil {
			return -1, fmt.Errorf("detach: dup: %w", err)
		}
		return fd, nil // package net has made it non-blocking
	}
	return l.pump(conn)
}

func (l *Loop) pump(conn net.Conn) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		conn.Close()
		return -1, fmt.Errorf("detach: socketpair: %w", err)
	}
	unix.CloseOnExec(pair[0])
	unix.CloseOnExec(pair[1])
	file := os.NewFile(uintptr(pair[1]), "pump")
	inner, err := net.FileConn(file)
	file.Close()
	if err == nil {
		err = unix.SetNonblock(pair[0], true)
	}
	if err != nil {
		unix.Close(pair[0])
		conn.Close()
		return -1, fmt.Errorf("detach: %w", err)
	}
	l.pumps.start(pair[0], &pump{conn, inner.(*net.UnixConn)})
	return pair[0], nil
}

// pump passes on what comes between a connection and the socket pair whose other end is on the loop.
type pump struct {
	conn  net.Conn
	inner *net.UnixConn
}

// fromPeer runs until the peer has closed its direction, which the loop is told, or one side fails.
func (p *pump) fromPeer() {
	if move(p.inner, p.conn) != nil || p.inner.CloseWrite() != nil {
		p.close()
	}
}

// fromLoop runs until the loop has closed its end, which is never half a close, or one side fails.
func (p *pump) fromLoop() {
	_ = move(p.conn, p.inner)
	p.close()
}

func (p *pump) close() {
	_ = p.conn.Close()
	_ = p.inner.Close()
}

// move copies through a buffer of a known size.
func move(to, from net.Conn) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, pumpSize))
	return err
}

// pumps are those of a loop, by the descriptor of the loop's end.
type pumps struct {
	mu      sync.Mutex
	byFD    map[int]*pump
	running sync.WaitGroup
}

func (ps *pumps) start(fd int, p *pump) {
	ps.mu.Lock()
	if ps.byFD == nil {
		ps.byFD = map[int]*pump{}
	}
	ps.byFD[fd] = p
	ps.mu.Unlock()
	var directions sync.WaitGroup
	directions.Go(p.fromPeer)
	directions.Go(p.fromLoop)
	ps.running.Go(func() {
		directions.Wait()
		p.close()
		ps.mu.Lock()
		defer ps.mu.Unlock()
		if ps.byFD[fd] == p {
			delete(ps.byFD, fd)
		}
	})
}

// release says that the loop closes fd. What it has written is still passed on, but a peer that hangs is not waited for.
func (ps *pumps) release(fd int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.byFD[fd]; p != nil {
		_ = p.conn.SetDeadline(time.Now().Add(pumpLinger))
	}
}

// pumpLinger is how long a pump may take to pass on the last bytes.
const pumpLinger = 2 * time.Second

// pumpSize is the buffer of each direction of a pump, in bytes: one TLS record.
const pumpSize = 16 << 10

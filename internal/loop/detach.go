package loop

import (
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

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

// halfCloser is what a pumped connection may offer beside net.Conn; *tls.Conn does.
type halfCloser interface{ CloseWrite() error }

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
	ends := make(chan struct{}, 2)
	move := func(to, from net.Conn) {
		_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, pumpSize))
		half, ok := to.(halfCloser)
		if err != nil || !ok || half.CloseWrite() != nil {
			conn.Close()
			inner.Close()
		}
		ends <- struct{}{}
	}
	go move(inner, conn)
	go move(conn, inner)
	l.pumps.Go(func() {
		<-ends
		<-ends
		conn.Close()
		inner.Close()
	})
	return pair[0], nil
}

// pumpSize is the buffer of each direction of a pump, in bytes: one TLS record.
const pumpSize = 16 << 10

//go:build darwin || freebsd

package loop

import "golang.org/x/sys/unix"

func readFD(fd int, b []byte) (int, error) { return unix.Read(fd, b) }

// writeFD relies on the runtime, which turns a SIGPIPE on a socket into EPIPE.
func writeFD(fd int, b []byte) (int, error) { return unix.Write(fd, b) }

func closeFD(fd int) { _ = unix.Close(fd) }

func shutFD(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

// underway is not known here.
func underway(int) bool { return false }

package loop

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readFD and writeFD are raw system calls: on a socket that never blocks they return at once, and the scheduler need not hear of
// them. That saves about a seventh of the cost of a command at one connection.

func readFD(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// writeFD sends rather than writes, since a write to a socket whose peer is gone raises SIGPIPE.
func writeFD(fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func closeFD(fd int) { _ = unix.Close(fd) }

func shutFD(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

// underway tells whether the peer has not got all that was written to a socket, or not all is read that it has sent. To close the socket
// would then lose the former.
func underway(fd int) bool {
	out, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil || out > 0 {
		return err == nil
	}
	in, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	return err == nil && in > 0
}

package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// port is a loopback TCP port set aside for one server. The number stays reserved until release, so that a server that is
// restarted finds it free, though nothing listens on it meanwhile.
type port struct {
	number int
	guard  net.Listener
}

// reservePort picks a port that is free on 127.0.0.1 and, where IPv6 exists, on ::1. It lies below the range from which the
// kernel takes the ports of outgoing connections. An abstract unix socket named after the port reserves it among all test
// processes of the machine: the kernel drops it when its process ends, however that happens.
func reservePort() (port, error) {
	const lowest, count = 10_000, 22_000
	var err error
	for range 1000 {
		n := lowest + rand.IntN(count)
		var guard net.Listener
		guard, err = net.Listen("unix", fmt.Sprintf("@readthrough-port-%d", n))
		if err != nil {
			continue
		}
		if err = portFree(n); err != nil {
			_ = guard.Close()
			continue
		}
		return port{n, guard}, nil
	}
	return port{}, fmt.Errorf("no free loopback port: %w", err)
}

func (p port) release() {
	if p.guard != nil {
		_ = p.guard.Close()
	}
}

func (p port) String() string { return strconv.Itoa(p.number) }

func portFree(n int) error {
	hosts := []string{"127.0.0.1"}
	if HasIPv6() {
		hosts = append(hosts, "::1")
	}
	var errs []error
	for _, host := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(n)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// HasIPv6 says whether this machine has the loopback address ::1; a container often has not.
func HasIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

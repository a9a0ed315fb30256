package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// available is an error that names the owner when a loopback port is in use.
func available(port int) error {
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			l.Close()
			continue
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("port %d is in use by %s: end it, or choose another one: make demo DEMOFLAGS='-port 7380'", port, owner(port))
		}
	}
	return nil
}

// owner finds the process that listens on a TCP port, as far as /proc lets this user see it.
func owner(port int) string {
	const unknown = "another program"
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, _ := os.ReadFile(table) // absent where there is no Linux
		for _, line := range strings.Split(string(content), "\n") {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode; 0A is LISTEN
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is good
	for _, fd := range descriptors {
		if target, err := os.Readlink(fd); err == nil && inodes[target] {
			pid := strings.Split(fd, "/")[2]
			name, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return unknown
}

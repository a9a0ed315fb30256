package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// kill ends every process whose program has this name. Those of other containers are seen, and may be killed, where the pod
// shares its processes and they run under the same user.
func kill(out io.Writer, name string) error {
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	killed := 0
	for _, file := range files {
		comm, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue // another program, or one that has ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %d (%s): %w", pid, name, err)
		}
		killed++
	}
	if killed == 0 {
		return fmt.Errorf("no process of a program %s among %d", name, len(files))
	}
	fmt.Fprintln(out, "killed", killed)
	return nil
}

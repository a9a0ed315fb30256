package command

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// server is a connection to a real redis-server, for use by one goroutine.
type server struct {
	conn net.Conn
	r    *bufio.Reader
}

// replyError is an error reply.
type replyError string

func (e replyError) Error() string { return string(e) }

// startServer runs a redis-server until the test ends and connects to it.
func startServer(t testing.TB) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "command") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "redis.sock")
	var log bytes.Buffer
	process := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "")
	process.Stdout = &log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
	})
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-retry.C {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			return &server{conn, bufio.NewReader(conn)}
		}
		if time.Now().After(deadline) {
			t.Fatalf("redis-server does not answer: %v\n%s", err, log.String())
		}
	}
}

// do sends the commands in one pipeline and returns their replies, an error reply as a replyError.
func (s *server) do(t testing.TB, commands ...[]string) []any {
	t.Helper()
	var out bytes.Buffer
	for _, args := range commands {
		fmt.Fprintf(&out, "*%d\r\n", len(args))
		for _, arg := range args {
			fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(arg), arg)
		}
	}
	if _, err := s.conn.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	replies := make([]any, len(commands))
	for i := range replies {
		reply, err := s.read()
		if err != nil {
			t.Fatalf("reply of %q: %v", commands[i], err)
		}
		replies[i] = reply
	}
	return replies
}

// do1 is do for one command that must succeed.
func (s *server) do1(t testing.TB, args ...string) any {
	t.Helper()
	reply := s.do(t, args)[0]
	if err, ok := reply.(replyError); ok {
		t.Fatalf("%q: %v", args, err)
	}
	return reply
}

func (s *server) read() (any, error) {
	line, err := s.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, text := line[0], line[1:len(line)-2]
	switch kind {
	case '+':
		return text, nil
	case '-':
		return replyError(text), nil
	}
	if kind == '_' {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	switch kind {
	case ':':
		return int64(n), nil
	case '$':
		if n < 0 {
			return nil, nil
		}
		body := make([]byte, n+2)
		_, err := io.ReadFull(s.r, body)
		return string(body[:n]), err
	case '*', '~':
		if n < 0 {
			return nil, nil
		}
		list := make([]any, n)
		for i := range list {
			if list[i], err = s.read(); err != nil {
				return nil, err
			}
		}
		return list, nil
	case '%':
		m := make(map[string]any, n)
		for range n {
			key, err := s.read()
			if err != nil {
				return nil, err
			}
			name, ok := key.(string)
			if !ok {
				return nil, errors.New("a map's key is no string")
			}
			if m[name], err = s.read(); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	return nil, fmt.Errorf("unknown reply %q", line)
}

// liveEntries returns the server's own COMMAND.
func liveEntries(t testing.TB, s *server) []Entry {
	t.Helper()
	entries, err := Entries(s.do1(t, "COMMAND"))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

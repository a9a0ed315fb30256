package slot_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"readthrough/internal/slot"
)

func TestOfKnownVectors(t *testing.T) {
	for key, want := range map[string]uint16{
		"":          0,
		"123456789": 0x31C3 % slot.Count, // the check value of CRC-16/XMODEM
		"foo":       12182,
		"bar":       5061,
		"hello":     866,
		"foo{bar}":  5061,
		"{bar}foo":  5061,
	} {
		if got := slot.Of([]byte(key)); got != want {
			t.Errorf("Of(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestTag(t *testing.T) {
	for key, want := range map[string]string{
		"":                    "",
		"plain":               "plain",
		"{user1000}.followed": "user1000",
		"foo{}{bar}":          "foo{}{bar}", // an empty tag is none, and no second is looked for
		"foo{{bar}}zap":       "{bar",
		"foo{bar}{zap}":       "bar",
		"foo{bar":             "foo{bar",
		"foo}bar{":            "foo}bar{",
		"}{a}":                "a",
		"{":                   "{",
		"{}":                  "{}",
		"{\x00}":              "\x00",
	} {
		if got := slot.Tag([]byte(key)); string(got) != want {
			t.Errorf("Tag(%q) = %q, want %q", key, got, want)
		}
	}
}

// TestOfAgreesWithRedis asks a real server for the slots of keys made mostly of
// braces, so that every form of the hash tag rule is met.
func TestOfAgreesWithRedis(t *testing.T) {
	socket := startClusterNode(t)
	random := rand.New(rand.NewPCG(1, 2))
	const keys = 5000
	var pipeline bytes.Buffer
	want := make([][]byte, keys)
	for i := range want {
		key := make([]byte, random.IntN(24))
		for j := range key {
			if key[j] = byte(random.Uint32()); random.IntN(3) == 0 {
				key[j] = "{}"[random.IntN(2)]
			}
		}
		want[i] = key
		fmt.Fprintf(&pipeline, "*3\r\n$7\r\nCLUSTER\r\n$7\r\nKEYSLOT\r\n$%d\r\n%s\r\n", len(key), key)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(pipeline.Bytes())
		sent <- err
	}()
	for _, key := range want {
		if got, redis := int(slot.Of(key)), readInteger(t, conn); got != redis {
			t.Errorf("Of(%q) = %d, Redis says %d", key, got, redis)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// readInteger reads one integer reply, byte by byte so that nothing of the next is taken.
func readInteger(t *testing.T, conn net.Conn) int {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\r\n")); line = append(line, b[0]) {
		if _, err := conn.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(line[1:])))
	if line[0] != ':' || err != nil {
		t.Fatalf("CLUSTER KEYSLOT answered %q", line)
	}
	return n
}

// startClusterNode runs a redis-server in cluster mode until the test ends and
// returns the path of its socket.
func startClusterNode(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "slot") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "redis.sock")
	// CLUSTER needs a port; the kernel picks a free one.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	busPort := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	var log bytes.Buffer
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "",
		"--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(busPort))
	server.Stdout = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-retry.C {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatalf("redis-server does not answer: %v\n%s", err, log.String())
		}
	}
}

func TestOfDoesNotAllocate(t *testing.T) {
	key := []byte("prefix:{user:123456}:name")
	if n := testing.AllocsPerRun(100, func() { slot.Of(key) }); n != 0 {
		t.Errorf("Of allocates %v times", n)
	}
}

func BenchmarkOf(b *testing.B) {
	for _, key := range []string{"user:123456", "prefix:{user:123456}:name"} {
		b.Run(key, func(b *testing.B) {
			k := []byte(key)
			for b.Loop() {
				slot.Of(k)
			}
		})
	}
}

package faults

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"readthrough/test/harness"
)

// crowdVariable has the test's own program be a crowd: many clients in a process of their own, which has the descriptors for it.
const crowdVariable = "FAULTS_CROWD"

// crowd is what such a process does: so many clients connect, and then each sends a command, all at once, and reads the answer.
type crowd struct {
	Addr    string
	Clients int
	Command []string // %d stands for the client's number
	Stay    bool     // connected, until the process is killed
}

// answers is what some of them were answered.
type answers struct {
	Count       int
	Median, Max time.Duration
}

func (a answers) String() string {
	return fmt.Sprintf("%d (median %v, max %v)", a.Count, round(a.Median), round(a.Max))
}

// start begins a crowd.
func (o crowd) start(t testing.TB) *harness.Process {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	text, err := json.Marshal(o)
	must(t, err)
	p, err := harness.StartProcess(harness.ProcessOptions{Path: self, Env: append(os.Environ(), crowdVariable+"="+string(text))})
	must(t, err)
	t.Cleanup(p.Kill)
	return p
}

// said waits until the crowd has said something, and returns the rest of the line.
func said(t testing.TB, p *harness.Process, word string) string {
	t.Helper()
	var rest string
	poll(t, func() error {
		for line := range strings.Lines(p.Output()) {
			if after, ok := strings.CutPrefix(line, word+" "); ok && strings.HasSuffix(line, "\n") {
				rest = after
				return nil
			}
		}
		if !p.Running() {
			t.Fatalf("the crowd has ended:\n%s", p.Output())
		}
		return errors.New("the crowd has not said " + word)
	})
	return rest
}

// result waits for the answers, by how they begin: the first word of an error, or the type of another reply.
func result(t testing.TB, p *harness.Process) map[string]answers {
	t.Helper()
	var got map[string]answers
	must(t, json.Unmarshal([]byte(said(t, p, "answered")), &got))
	return got
}

// crowdMain is the process.
func crowdMain(text string) int {
	var o crowd
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println(err)
		return 2
	}
	if err := o.run(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// hands is how many goroutines work for a crowd whose answers come at once: the race detector bounds how many there are.
const hands = 64

func (o crowd) run() error {
	conns := make([]net.Conn, o.Clients)
	var all sync.WaitGroup
	failed := make(chan error, o.Clients)
	for part := range hands {
		all.Go(func() {
			for i := part; i < o.Clients; i += hands {
				// Several source addresses, so that ports do not run short.
				from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i%8))}
				c, err := (&net.Dialer{LocalAddr: from, Timeout: 30 * time.Second}).Dial("tcp", o.Addr)
				if err != nil {
					failed <- err
					return
				}
				conns[i] = c
			}
		})
	}
	all.Wait()
	if len(failed) > 0 {
		return <-failed
	}
	fmt.Println("connected", o.Clients)

	workers := o.Clients
	if workers > 6000 {
		workers = hands
	}
	replies, took := make([]string, o.Clients), make(times, o.Clients)
	for part := range workers {
		all.Go(func() {
			for i := part; i < o.Clients; i += workers {
				began := time.Now()
				reply, err := o.ask(conns[i], i)
				if err != nil {
					reply = "lost: " + err.Error()
				}
				replies[i], took[i] = reply, time.Since(began)
			}
		})
	}
	all.Wait()
	sorted := map[string]times{}
	for i, r := range replies {
		kind, _, _ := strings.Cut(r, " ")
		if !strings.HasPrefix(r, "-") && !strings.HasPrefix(r, "lost") {
			kind = r[:1]
		}
		sorted[kind] = append(sorted[kind], took[i])
	}
	summary := map[string]answers{}
	for kind, ts := range sorted {
		summary[kind] = answers{len(ts), ts.median(), ts.max()}
	}
	text, err := json.Marshal(summary)
	fmt.Printf("answered %s\n", text)
	if o.Stay {
		select {}
	}
	return err
}

// ask sends a client's command and returns the first line of the answer.
func (o crowd) ask(c net.Conn, i int) (string, error) {
	args := make([]string, len(o.Command))
	for n, arg := range o.Command {
		args[n] = strings.ReplaceAll(arg, "%d", fmt.Sprint(i))
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(harness.Command(args...)); err != nil {
		return "", err
	}
	buffer := make([]byte, 512)
	n := 0
	for !bytes.Contains(buffer[:n], []byte("\r\n")) {
		more, err := c.Read(buffer[n:])
		if err != nil {
			return "", err
		}
		n += more
	}
	return string(buffer[:n]), nil
}

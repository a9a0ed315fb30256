package loop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for.
const patience = 10 * time.Second

// handler is a Handler of functions; those that are nil do nothing, and Data takes all.
type handler struct {
	c       *Conn // whose handler it is, once added
	data    func(b []byte) int
	eof     func()
	drained func()
	closed  func(err error)
}

func (h *handler) Data(b []byte) int {
	if h.data == nil {
		return len(b)
	}
	return h.data(b)
}

func (h *handler) EOF() {
	if h.eof != nil {
		h.eof()
	}
}

func (h *handler) Hangup() {}

func (h *handler) Drained() {
	if h.drained != nil {
		h.drained()
	}
}

func (h *handler) Closed(err error) {
	if h.closed != nil {
		h.closed(err)
	}
}

// still returns a loop that turns only when the test says so, by calling turn.
func still(t testing.TB) *Loop {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.shut)
	return l
}

// turn has a still loop do one turn, for which it does not wait.
func turn(t testing.TB, l *Loop) {
	t.Helper()
	l.Post(func() {})
	if err := l.turn(); err != nil {
		t.Fatal(err)
	}
}

// turnUntil has a still loop turn until done is true.
func turnUntil(t testing.TB, l *Loop, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		l.After(time.Millisecond, func() {})
		if err := l.turn(); err != nil {
			t.Fatal(err)
		}
	}
}

// running returns a loop that runs until the test ends.
func running(t testing.TB) *Loop {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the loop does not stop")
		}
	})
	return l
}

// on calls f on a running loop and waits for it.
func on(t testing.TB, l *Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { f(); close(done) }) {
		t.Fatal("the loop has stopped")
	}
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the loop does not turn")
	}
}

// pair returns the two ends of a stream socket: a descriptor for the loop, and what the test holds, both non-blocking.
func pair(t testing.TB) (fd, peer int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range p {
		if err := unix.SetNonblock(end, true); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unix.Close(p[1]) })
	return p[0], p[1]
}

// add puts one end of a socket pair on a still loop and returns the connection and the other end.
func add(t testing.TB, l *Loop, h *handler) (c *Conn, peer int) {
	t.Helper()
	fd, peer := pair(t)
	if c, err := l.Add(fd, h); err != nil {
		t.Fatal(err)
	} else {
		h.c = c
	}
	return h.c, peer
}

// addTCP is add over loopback, where the kernel behaves as it does between programs.
func addTCP(t testing.TB, l *Loop, h *handler) (c *Conn, peer int) {
	t.Helper()
	ours, theirs := tcpPair(t)
	fd, err := l.Detach(ours)
	if err != nil {
		t.Fatal(err)
	}
	if peer, err = l.Detach(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(peer) })
	if h.c, err = l.Add(fd, h); err != nil {
		t.Fatal(err)
	}
	return h.c, peer
}

func send(t testing.TB, peer int, text string) {
	t.Helper()
	if n, err := unix.Write(peer, []byte(text)); err != nil || n != len(text) {
		t.Fatalf("peer wrote %d of %d bytes: %v", n, len(text), err)
	}
}

// take reads what there is at the peer.
func take(t testing.TB, peer int) string {
	t.Helper()
	var all []byte
	for buf := make([]byte, 64<<10); ; {
		n, err := unix.Read(peer, buf)
		if n <= 0 {
			if err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
			return string(all)
		}
		all = append(all, buf[:n]...)
	}
}

// tcpPair returns the two ends of a TCP connection over loopback.
func tcpPair(t testing.TB) (ours, peer *net.TCPConn) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	dialled, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := lis.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dialled.Close(); _ = accepted.Close() })
	return accepted.(*net.TCPConn), dialled.(*net.TCPConn)
}

func TestWhatIsWrittenInATurnLeavesWhenItEnds(t *testing.T) {
	l := still(t)
	c, peer := add(t, l, &handler{})
	c.Write([]byte("one "))
	c.SetOut(append(c.Out(), "two "...))
	c.Write([]byte("three"))
	if got := take(t, peer); got != "" || c.Buffered() != 13 {
		t.Fatalf("before the turn: peer has %q, %d bytes wait", got, c.Buffered())
	}
	turn(t, l)
	if got := take(t, peer); got != "one two three" || c.Buffered() != 0 || c.Held() != 0 {
		t.Fatalf("peer has %q, %d bytes wait, %d are held", got, c.Buffered(), c.Held())
	}
	if st := l.Stats(); st.Buffered != 0 || st.Conns != 1 {
		t.Fatalf("stats of an idle connection: %+v", st)
	}
}

func TestInputThatIsNotUsedIsShownAgain(t *testing.T) {
	l := still(t)
	var shown []string
	h := &handler{}
	h.data = func(b []byte) int {
		shown = append(shown, string(b))
		return bytes.LastIndexByte(b, '\n') + 1 // whole lines
	}
	c, peer := add(t, l, h)
	for _, part := range []string{"a", "b\nc", "d", "\n"} {
		send(t, peer, part)
		turn(t, l)
	}
	if want := []string{"a", "ab\nc", "cd", "cd\n"}; !slices.Equal(shown, want) {
		t.Fatalf("shown %q, want %q", shown, want)
	}
	if c.Unread() != 0 || l.Stats().Buffered != 0 {
		t.Fatalf("%d bytes unread, %d bytes of buffers in use", c.Unread(), l.Stats().Buffered)
	}
}

func TestAPausedConnectionIsNotReadUntilResume(t *testing.T) {
	l := still(t)
	var shown []string
	h := &handler{}
	var c *Conn
	h.data = func(b []byte) int {
		shown = append(shown, string(b))
		if len(shown) == 1 {
			c.Pause()
			return 1
		}
		return len(b)
	}
	c, peer := add(t, l, h)
	send(t, peer, "abc")
	turn(t, l)
	send(t, peer, "def")
	turn(t, l)
	if want := []string{"abc"}; !slices.Equal(shown, want) || !c.Paused() || c.Unread() != 2 {
		t.Fatalf("while paused: shown %q, %d bytes unread", shown, c.Unread())
	}
	c.Resume()
	if len(shown) != 1 {
		t.Fatal("Resume called the handler before it returned")
	}
	turn(t, l)
	if want := []string{"abc", "bcdef"}; !slices.Equal(shown, want) || c.Unread() != 0 {
		t.Fatalf("shown %q, want %q; %d bytes unread", shown, want, c.Unread())
	}
}

func TestResumeFromAnotherHandlerIsHeededInTheSameTurn(t *testing.T) {
	l := still(t)
	var got string
	held, heldPeer := add(t, l, &handler{data: func(b []byte) int { got += string(b); return len(b) }})
	held.h.(*handler).data = func(b []byte) int { held.Pause(); return 0 }
	send(t, heldPeer, "kept")
	turn(t, l)
	held.h.(*handler).data = func(b []byte) int { got += string(b); return len(b) }
	_, other := add(t, l, &handler{data: func(b []byte) int { held.Resume(); return len(b) }})
	send(t, other, "x")
	turn(t, l)
	if got != "kept" {
		t.Fatalf("got %q in the turn of Resume, want %q", got, "kept")
	}
}

func TestNotifyBelowTellsOnceWhenThePeerHasRead(t *testing.T) {
	l := still(t)
	calls := 0
	h := &handler{drained: func() { calls++ }}
	c, peer := add(t, l, h)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	c.Write(big)
	turn(t, l)
	if c.Buffered() == 0 {
		t.Fatal("the socket took all of it")
	}
	c.NotifyBelow(1000)
	if calls != 0 {
		t.Fatal("Drained was called before NotifyBelow returned")
	}
	turn(t, l)
	if calls != 0 {
		t.Fatalf("Drained was called with %d bytes waiting", c.Buffered())
	}
	var read bytes.Buffer
	turnUntil(t, l, "Drained", func() bool {
		read.WriteString(take(t, peer))
		if calls > 0 && c.Buffered() > 1000 {
			t.Fatalf("Drained was called with %d bytes waiting", c.Buffered())
		}
		return calls > 0
	})
	turnUntil(t, l, "the rest", func() bool { read.WriteString(take(t, peer)); return read.Len() == len(big) })
	if calls != 1 || !bytes.Equal(read.Bytes(), big) {
		t.Fatalf("Drained was called %d times; what was read is right: %v", calls, bytes.Equal(read.Bytes(), big))
	}
	c.NotifyBelow(0) // with nothing waiting: in this turn
	turn(t, l)
	if calls != 2 {
		t.Fatalf("Drained was called %d times, want 2", calls)
	}
}

func TestFinishWritesWhatWaitsAndThenCloses(t *testing.T) {
	l := still(t)
	finished := 0
	c, peer := add(t, l, &handler{
		closed: func(err error) { t.Errorf("Closed(%v) after Finish", err) },
	})
	big := bytes.Repeat([]byte("x"), 1<<20)
	c.Write(big)
	c.Finish(patience, func() { finished++ })
	total := 0
	turnUntil(t, l, "close", func() bool { total += len(take(t, peer)); return c.Closed() })
	total += len(take(t, peer))
	if total != len(big) || finished != 1 || l.Stats().Conns != 0 || l.Stats().Buffered != 0 {
		t.Fatalf("%d of %d bytes arrived, it was finished %d times, stats %+v", total, len(big), finished, l.Stats())
	}
}

// Bytes that are not read would have the kernel drop what the peer has not taken yet.
func TestFinishReadsWhatAPeerGoesOnSending(t *testing.T) {
	l := still(t)
	finished := 0
	c, peer := addTCP(t, l, &handler{
		data:   func([]byte) int { return 0 },
		closed: func(err error) { t.Errorf("Closed(%v) after Finish", err) },
	})
	sent := 0
	for part := bytes.Repeat([]byte("x"), 64<<10); ; sent += len(part) { // until the kernel takes no more
		c.Write(part)
		turn(t, l)
		if c.Buffered() > 0 {
			sent += len(part)
			break
		}
	}
	send(t, peer, "unread")
	c.Finish(patience, func() { finished++ })
	total := 0
	for c.Buffered() > 0 { // the kernel has the rest
		total += len(take(t, peer))
		turn(t, l)
	}
	send(t, peer, "and more")
	turn(t, l)
	turnUntil(t, l, "close", func() bool { total += len(take(t, peer)); return c.Closed() })
	total += len(take(t, peer))
	if total != sent || finished != 1 {
		t.Fatalf("%d of %d bytes arrived, it was finished %d times", total, sent, finished)
	}
}

func TestFinishWaitsForASlowPeerWithinItsLimitOnly(t *testing.T) {
	l := still(t)
	finished := 0
	c, peer := add(t, l, &handler{
		data:   func(b []byte) int { t.Errorf("input after Finish: %q", b); return len(b) },
		closed: func(err error) { t.Errorf("Closed(%v) after Finish", err) },
	})
	c.Write(make([]byte, 1<<20))
	c.Finish(20*time.Millisecond, func() { finished++ })
	send(t, peer, "ignored")
	began := time.Now()
	turnUntil(t, l, "close", c.Closed)
	if since := time.Since(began); since < 20*time.Millisecond || finished != 1 {
		t.Fatalf("closed after %v, finished %d times", since, finished)
	}
}

func TestEOFIsHalfAClose(t *testing.T) {
	l := still(t)
	eofs := 0
	c, peer := add(t, l, &handler{eof: func() { eofs++ }, closed: func(err error) { t.Errorf("Closed(%v)", err) }})
	if err := unix.Shutdown(peer, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	turn(t, l)
	turn(t, l)
	c.Write([]byte("still here"))
	turn(t, l)
	if got := take(t, peer); eofs != 1 || got != "still here" {
		t.Fatalf("EOF was told %d times, peer read %q", eofs, got)
	}
	c.Close()
	turn(t, l)
	if l.Stats().Conns != 0 {
		t.Fatal("the connection is not gone after Close")
	}
}

func TestAResetIsTold(t *testing.T) {
	for name, paused := range map[string]bool{"reading": false, "paused": true} {
		t.Run(name, func(t *testing.T) {
			l := running(t)
			ours, peer := tcpPair(t)
			fd, err := l.Detach(ours)
			if err != nil {
				t.Fatal(err)
			}
			told := make(chan error, 2)
			on(t, l, func() {
				c, err := l.Add(fd, &handler{closed: func(err error) { told <- err }, eof: func() { told <- io.EOF }})
				if err != nil {
					t.Error(err)
					return
				}
				if paused {
					c.Pause()
				}
			})
			_ = peer.SetLinger(0)
			_ = peer.Close()
			select {
			case err := <-told:
				if !errors.Is(err, unix.ECONNRESET) {
					t.Fatalf("told %v, want a reset", err)
				}
			case <-time.After(patience):
				t.Fatal("nothing was told")
			}
			left := 1
			for until := time.Now().Add(patience); left > 0; { // it is gone at the end of the turn in which that was told
				on(t, l, func() { left = l.Stats().Conns })
				if left > 0 && time.Now().After(until) {
					t.Fatalf("%d connections are left", left)
				}
			}
		})
	}
}

// Two connections become readable in one batch; the first one's handler closes the second and opens a third, which may get
// the second's place. The event of the second must reach nobody.
func TestAnEventOfAConnectionClosedInTheSameBatchReachesNobody(t *testing.T) {
	l := still(t)
	var conns [2]*Conn
	var peers [2]int
	heard := [2]int{}
	var third *Conn
	for i := range conns {
		h := &handler{data: func(b []byte) int {
			heard[i]++
			if other := conns[1-i]; !other.Closed() && third == nil {
				other.Close()
				fd, _ := pair(t)
				var err error
				third, err = l.Add(fd, &handler{
					data: func(b []byte) int { t.Errorf("the new connection got %q", b); return len(b) },
					eof:  func() { t.Error("the new connection got EOF") },
				})
				if err != nil {
					t.Error(err)
				}
			}
			return len(b)
		}}
		conns[i], peers[i] = add(t, l, h)
	}
	for _, p := range peers {
		send(t, p, "x")
	}
	turn(t, l)
	if heard[0]+heard[1] != 1 {
		t.Fatalf("the two connections heard %v, want one call in all", heard)
	}
	if third.Closed() || l.Stats().Conns != 2 {
		t.Fatalf("third is closed: %v, %d connections", third.Closed(), l.Stats().Conns)
	}
	// The place of the closed one is used again, with another generation.
	places := len(l.conns)
	fd, peer := pair(t)
	got := ""
	fourth, err := l.Add(fd, &handler{data: func(b []byte) int { got += string(b); return len(b) }})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.conns) != places {
		t.Errorf("%d places, the closed connection's was not used again", len(l.conns))
	}
	for _, c := range conns {
		if fourth.gen == c.gen {
			t.Error("a generation came twice")
		}
	}
	send(t, peer, "to the fourth")
	turn(t, l)
	if got != "to the fourth" {
		t.Errorf("the fourth connection got %q", got)
	}
}

func TestADescriptorIsClosedOnlyWhenTheTurnEnds(t *testing.T) {
	l := still(t)
	c, peer := add(t, l, &handler{})
	c.Write([]byte("lost"))
	c.Close()
	if _, err := unix.FcntlInt(uintptr(c.fd), unix.F_GETFD, 0); err != nil {
		t.Fatalf("the descriptor is closed already: %v", err)
	}
	turn(t, l)
	if n, err := unix.Read(peer, make([]byte, 10)); n != 0 || err != nil {
		t.Fatalf("peer read %d bytes, %v, want the end", n, err)
	}
	if l.buffers.used != 0 {
		t.Fatalf("%d bytes of buffers in use", l.buffers.used)
	}
	c.Write([]byte("x")) // harmless
	c.Close()
	turn(t, l)
}

func TestAddOfWhatCannotBePolledClosesIt(t *testing.T) {
	l := still(t)
	fd, err := unix.Open(t.TempDir(), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Add(fd, &handler{}); err == nil {
		t.Fatal("a directory was added")
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		t.Error("the descriptor is still open")
	}
	if _, peer := add(t, l, &handler{}); peer < 0 || l.Stats().Conns != 1 {
		t.Errorf("%d connections after a failed Add and a good one", l.Stats().Conns)
	}
}

func TestPostedFunctionsRunInOrderUntilStop(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	const posters, each = 4, 1000
	got := make([][]int, posters)
	var posting sync.WaitGroup
	for p := range posters {
		posting.Go(func() {
			for i := range each {
				if !l.Post(func() { got[p] = append(got[p], i) }) {
					t.Error("Post refused before Stop")
				}
			}
		})
	}
	go func() { ended <- l.Run() }()
	posting.Wait()
	last := false
	l.Post(func() { last = true })
	l.Stop()
	if l.Post(func() { t.Error("posted after Stop, and run") }) {
		t.Error("Post took a function after Stop")
	}
	l.Stop() // a second one is harmless
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if !last {
		t.Error("what was posted before Stop has not run")
	}
	for p := range got {
		if len(got[p]) != each || !slices.IsSorted(got[p]) {
			t.Errorf("poster %d: %d functions ran, in order: %v", p, len(got[p]), slices.IsSorted(got[p]))
		}
	}
}

func TestStopClosesWhatIsOpen(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	var told error
	_, peer := add(t, l, &handler{closed: func(err error) { told = err }})
	l.Post(func() { l.Stop() })
	// Posted before Stop and run after it: its connection must not leak.
	late, latePeer := pair(t)
	l.Post(func() { _, _ = l.Add(late, &handler{}) })
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(told, ErrStopped) {
		t.Errorf("the handler was told %v", told)
	}
	for _, p := range []int{peer, latePeer} {
		if n, err := unix.Read(p, make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("peer read %d bytes, %v, want the end", n, err)
		}
	}
}

// A loop that waits does not hold up the garbage collector, which stops all that runs.
func TestAWaitingLoopDoesNotHoldUpTheGarbageCollector(t *testing.T) {
	l := running(t)
	const wait = 4 * time.Second
	on(t, l, func() { l.After(wait, func() {}) })
	began := time.Now()
	for range 3 {
		runtime.GC()
	}
	if took := time.Since(began); took > wait/2 {
		t.Errorf("it took %v", took)
	}
}

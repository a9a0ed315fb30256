package loop

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// echo is a handler that sends back what it gets.
func echo() *handler {
	h := &handler{}
	h.data = func(b []byte) int { h.c.Write(b); return len(b) }
	return h
}

func TestEchoAllocatesNothing(t *testing.T) {
	l := still(t)
	_, peer := add(t, l, echo())
	in, out := make([]byte, 1000), make([]byte, 1000)
	round := func() {
		if _, err := unix.Write(peer, in); err != nil {
			t.Fatal(err)
		}
		if err := l.turn(); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(peer, out); n != len(in) {
			t.Fatal(n, err)
		}
	}
	if n := testing.AllocsPerRun(1000, round); n != 0 {
		t.Errorf("%v allocations for each echo", n)
	}
}

// What costs an idle connection that had traffic: no buffers, and less than half a KiB for the connection itself.
func TestIdleConnectionsCostAlmostNothing(t *testing.T) {
	const count = 4000 // two descriptors each
	l := still(t)
	peers := make([]int, count)
	conns := make([]*Conn, count)
	before := liveHeap()
	for i := range conns {
		conns[i], peers[i] = add(t, l, echo())
	}
	for i, p := range peers {
		send(t, p, "ping")
		if i%100 == 99 {
			turn(t, l)
		}
	}
	turn(t, l)
	for _, p := range peers {
		if got := take(t, p); got != "ping" {
			t.Fatalf("echo of %q", got)
		}
	}
	if st := l.Stats(); st.Conns != count || st.Buffered != 0 {
		t.Errorf("stats %+v", st)
	}
	if each := int(liveHeap()-before) / count; each > 1024 { // the test's own handlers and cleanups included
		t.Errorf("an idle connection costs %d bytes of heap", each)
	}
	runtime.KeepAlive(conns)
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

package harness

import (
	"net"
	"sync"
	"testing"
)

func TestPortsAreReserved(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]bool{}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			p, err := reservePort()
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(p.release)
			mu.Lock()
			defer mu.Unlock()
			if seen[p.number] || p.number+10_000 > 65_535 {
				t.Errorf("port %d is taken, or too high", p.number)
			}
			seen[p.number] = true
		})
	}
	wg.Wait()
}

func TestPortInUseIsNotFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if portFree(l.Addr().(*net.TCPAddr).Port) == nil {
		t.Error("a port on which somebody listens is called free")
	}
}

package upstream

import "testing"

func TestServes(t *testing.T) {
	const others = "aa 10.0.0.2:6379@16379 master - 0 1 2 connected 101-16383\nbb 10.0.0.3:6379@16379,host slave aa 0 1 2 connected\n"
	to100 := func(at int) bool { return at <= 100 }
	for line, want := range map[string]bool{
		"cc 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-100\n":                 true,
		"cc 10.0.0.1:6379@16379,host myself,master - 0 0 1 connected 0-50 51 52-100\n":   true,
		"cc 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-101\n":                 false,
		"cc 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-99\n":                  false,
		"cc 10.0.0.1:6379@16379 myself,master - 0 0 1 connected\n":                       false,
		"cc 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-100 [7->-aa]\n":        false,
		"cc 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-100 [500-<-aa]\n":      false,
		"cc 10.0.0.1:6379@16379 myself,slave aa 0 0 1 connected\n":                       false, // after a failover
		"cc 10.0.0.1:6379@16379 master - 0 0 1 connected 0-100\n":                        false, // nobody speaks of itself
		"cc 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-100 16384\n":           false,
		"cc 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 100-0\n":                 false,
		"cc 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-100 500-400 -5--1 x\n": false,
	} {
		if got := serves(others+line, to100); got != want {
			t.Errorf("%q: %t, want %t", line, got, want)
		}
	}
	if none := func(int) bool { return false }; !serves(others+"cc h:1@2 myself,master - 0 0 1 connected\n", none) {
		t.Error("a master without slots is known as one, and does not count as such")
	}
}

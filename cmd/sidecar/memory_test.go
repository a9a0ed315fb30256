package main

import "testing"

func TestMemoryLimit(t *testing.T) {
	for container, want := range map[int64]int64{
		0: 96 << 20, 128 << 20: 96 << 20, 1536 << 20: 1152 << 20, 200_000_000: 150_000_000, 1 << 61: 3 << 59,
	} {
		if got := memoryLimit(container); got != want {
			t.Errorf("of %d: %d, want %d", container, got, want)
		}
	}
}

package main

import (
	"os"
	"runtime/debug"

	"readthrough/internal/cgroup"
)

// defaultMemoryLimit is three quarters of the 128 MiB that the sidecar is made for.
const defaultMemoryLimit = 96 << 20

// limitMemory has garbage collected, and its pages given back, before the container's limit is reached. GOMEMLIMIT has the last
// word.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit(cgroup.MemoryLimit(os.DirFS("/"))))
	}
}

// memoryLimit is what the runtime keeps its memory below, in bytes, as long as it can: three quarters of what the container may
// take, which leaves room for what the runtime does not count, such as the program's own text.
func memoryLimit(container int64) int64 {
	if container > 0 {
		return container / 4 * 3
	}
	return defaultMemoryLimit
}

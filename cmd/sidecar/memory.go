package main

import (
	"os"
	"runtime/debug"
)

// memoryLimit is what the runtime keeps its memory below, in bytes, as long as it can: the 128 MiB that the sidecar is made for,
// less what the runtime does not count, such as the program's own text.
const memoryLimit = 96 << 20

// limitMemory has garbage collected, and its pages given back, before the container's limit is reached. GOMEMLIMIT has the last
// word.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

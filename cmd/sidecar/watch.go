package main

import (
	"context"
	"crypto/sha256"
	"os"
	"time"
)

// watchInterval is how often a watched file is read. It is small, and reading it finds every way in which it is
// replaced: rename, symbolic link (as Kubernetes does), bind mount or writing in place.
const watchInterval = time.Second

// fingerprint tells one content of a file from another.
type fingerprint [sha256.Size]byte

// fingerprintOf reads the file; the zero fingerprint is that of a file that cannot be read.
func fingerprintOf(path string) fingerprint {
	content, err := os.ReadFile(path)
	if err != nil {
		return fingerprint{}
	}
	return sha256.Sum256(content)
}

// watchFile calls changed when the file's content is no longer that of the fingerprint and has stayed the same for one
// interval, so that a file being written is not taken half; and so on with each further change, until ctx ends.
func watchFile(ctx context.Context, path string, since fingerprint, changed func()) {
	settled, last := since, since
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := fingerprintOf(path)
		if now == last && now != settled {
			settled = now
			changed()
		}
		last = now
	}
}

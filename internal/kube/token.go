package kube

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// tokenLife is how long a token is used before its file is read again. The kubelet replaces a token long before it expires.
const tokenLife = time.Minute

// tokenFile is a bearer token that rotates.
type tokenFile struct {
	path string // none if empty

	mu   sync.Mutex
	text string
	read time.Time
}

// get gives the token, which is empty where there is no file.
func (t *tokenFile) get() (string, error) {
	if t.path == "" {
		return "", nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text != "" && time.Since(t.read) < tokenLife {
		return t.text, nil
	}
	content, err := os.ReadFile(t.path)
	text := strings.TrimSpace(string(content))
	if err == nil && text == "" {
		err = fmt.Errorf("%s is empty", t.path)
	}
	if err != nil {
		return "", fmt.Errorf("service account token: %w", err)
	}
	t.text, t.read = text, time.Now()
	return text, nil
}

// forget has the file read for the next request: the API has refused the token.
func (t *tokenFile) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = ""
}

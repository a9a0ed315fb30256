// Command gen writes the snapshot of a server's command table that package
// command embeds. It asks a running server of version 7 or later, through the
// redis-cli of version 7 or later.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"readthrough/internal/command"
)

func main() {
	url := flag.String("u", "redis://127.0.0.1:6379", "the server to ask")
	out := flag.String("o", "snapshot.json", "the file to write")
	flag.Parse()
	if err := write(*url, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func write(url, out string) error {
	info, err := exec.Command("redis-cli", "-u", url, "INFO", "server").Output()
	if err != nil {
		return fmt.Errorf("ask %s for INFO: %w", url, err)
	}
	version := regexp.MustCompile(`redis_version:(\S+)`).FindSubmatch(info)
	if version == nil {
		return errors.New("INFO names no redis_version")
	}
	reply, err := exec.Command("redis-cli", "-u", url, "--json", "COMMAND").Output()
	if err != nil {
		return fmt.Errorf("ask %s for COMMAND: %w", url, err)
	}
	var decoded any
	if err := json.Unmarshal(reply, &decoded); err != nil {
		return fmt.Errorf("decode what redis-cli --json printed: %w", err)
	}
	entries, err := command.Entries(decoded)
	if err != nil {
		return err
	}
	sortByName(entries)

	// One command a line, so that a difference can be read.
	var text bytes.Buffer
	fmt.Fprintf(&text, "{\"version\":%q,\"commands\":[\n", version[1])
	for i, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		text.Write(line)
		if i < len(entries)-1 {
			text.WriteByte(',')
		}
		text.WriteByte('\n')
	}
	text.WriteString("]}\n")
	return os.WriteFile(out, text.Bytes(), 0o644)
}

// sortByName undoes the random order of the reply, at both levels.
func sortByName(entries []command.Entry) {
	slices.SortFunc(entries, func(a, b command.Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range entries {
		sortByName(e.Subcommands)
	}
}

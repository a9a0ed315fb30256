package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"readthrough/internal/command"
)

// commandTimeout bounds the fetching of the command table, a reply of 100 KiB and more with modules.
const commandTimeout = 5 * time.Second

// fetchCommands asks a node for its command table. A server older than Redis 7 gives no key specs, and where keys stand cannot
// be told from its reply alone; the program's own snapshot serves instead, but for the commands of modules.
func fetchCommands(ctx context.Context, c *client) (*command.Table, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	results, err := c.do(ctx, []string{"COMMAND"})
	if err != nil {
		return nil, fmt.Errorf("COMMAND: %w", err)
	}
	reply, err := results[0].ToAny()
	if err != nil {
		return nil, fmt.Errorf("reply of COMMAND: %w", err)
	}
	entries, err := command.Entries(reply)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, errors.New("reply of COMMAND: it is empty")
	}
	if !slices.ContainsFunc(entries, func(e command.Entry) bool { return len(e.KeySpecs) > 0 }) {
		return command.WithSnapshot(entries), nil
	}
	return command.New(entries), nil
}

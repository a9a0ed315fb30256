package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/spf13/cobra"
)

// maxErrorLine is more than what any server says to a PING.
const maxErrorLine = 4096

func probeLoginCommand() *cobra.Command {
	var patience patience
	c := &cobra.Command{
		Use:   "login ADDRESS",
		Short: "Ask whether the clients of an address have to log in",
		Long: `Ask whether clients can reach host:port, and have to authenticate there before anything else (requireAuth); exit 0 if so and
1 if not. Neither a configuration nor a secret is needed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := patience.validate(); err != nil {
				return err
			}
			if err := checkDial(args[0]); err != nil {
				return usageError{err}
			}
			return patience.tell(cmd, func(ctx context.Context) (string, error) { return probeLogin(ctx, args[0]) })
		},
	}
	patience.register(c)
	return c
}

// probeLogin sends a command that needs a login where one is demanded, and expects that it is refused for that.
func probeLogin(ctx context.Context, address string) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", fmt.Errorf("no answer: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, "*1\r\n$4\r\nPING\r\n"); err != nil {
		return "", fmt.Errorf("no answer from %s: %w", address, err)
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxErrorLine)).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("no answer from %s: %w", address, err)
	}
	line = strings.TrimRight(line, "\r\n")
	if !strings.HasPrefix(line, "-NOAUTH ") {
		return "", fmt.Errorf("%s asks for no login: it answers %q", address, line)
	}
	return "ok", nil
}

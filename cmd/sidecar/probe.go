package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// probePaths are what the admin server answers to each probe.
var probePaths = map[string]string{"startup": "/startupz", "live": "/livez", "ready": "/readyz"}

func probeCommand() *cobra.Command {
	var config configFlag
	var admin, state string
	var wait time.Duration
	timeout := time.Second
	c := &cobra.Command{
		Use:   "probe startup|live|ready",
		Short: "Ask a running sidecar, for exec probes",
		Long: `Ask a running sidecar whether it has started, is live or is ready; exit 0 if so and 1 if not.

The admin address is --admin, or that of the configuration. Name it by --admin where the configuration may change while
the sidecar runs: a changed admin address needs a restart, and the probe would ask the new one. No secret is needed.

With --wait it asks again until the answer is ok, as a postStart hook does that has to hold back the containers to come.`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"startup", "live", "ready"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait < 0 || timeout <= 0 {
				return usageError{errors.New("--timeout is a time such as 1s, and --wait one too, or 0s to ask once")}
			}
			url, err := probeURL(cmp.Or(admin, adminAddress(config.path, stateDir(state))), probePaths[args[0]])
			if err != nil {
				return err // which no wait makes good
			}
			text, err := await(cmd.Context(), wait, func(ctx context.Context) (string, error) {
				ctx, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				return probe(ctx, url)
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), text)
			return nil
		},
	}
	c.AddCommand(probeLoginCommand())
	config.register(c)
	c.Flags().StringVar(&admin, "admin", "", "`address` of the admin server, in place of the configured one")
	c.Flags().DurationVar(&timeout, "timeout", timeout, "how much `time` one answer may take")
	c.Flags().DurationVar(&wait, "wait", 0, "ask again for so much `time` while the answer is not ok")
	c.Flags().StringVar(&state, "state-dir", filepath.Join(os.TempDir(), "readthrough"), "`directory` given to run")
	return c
}

const (
	firstProbePause = 20 * time.Millisecond // and each further one is half as long again
	maxProbePause   = 500 * time.Millisecond
)

// await asks once, and for as long as wait tells again until the answer is good. The error is that of the last whole question.
func await(ctx context.Context, wait time.Duration, ask func(context.Context) (string, error)) (string, error) {
	if wait <= 0 {
		return ask(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var last error
	for pause := firstProbePause; ; pause = min(pause*3/2, maxProbePause) {
		text, err := ask(ctx)
		if err == nil {
			return text, nil
		}
		if last == nil || ctx.Err() == nil { // else it is the end of the wait that it tells of
			last = err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w (for %s)", last, wait)
		case <-time.After(pause):
		}
	}
}

// probeURL is where the admin server answers that listens on an address.
func probeURL(admin, path string) (string, error) {
	host, port, err := splitAddress(admin)
	if err != nil {
		return "", err
	}
	if n, _ := strconv.Atoi(port); n == 0 {
		return "", fmt.Errorf("%q: nothing listens on port 0", admin)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + path, nil
}

// probe asks the admin server once.
func probe(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without a proxy
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("no answer from a sidecar: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return "", fmt.Errorf("no answer from a sidecar: %w", err)
	}
	text := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", errors.New(text)
	}
	return text, nil
}

// adminAddress is the configured one, whatever else is wrong with the file: a sidecar that serves on with its last good
// configuration must not be found dead. The variable goes before the file, which then need not be read: a probe is run every few
// seconds.
func adminAddress(path string, state stateDir) string {
	given := os.Getenv(envName("admin"))
	if given != "" && !refersToVariable(given) {
		return given
	}
	if path != "" {
		if config, _ := LoadConfig(path); config.Admin != "" {
			return config.Admin
		}
		if raw, err := state.load(path); err == nil {
			if config, _ := ParseConfig(path, raw); config.Admin != "" {
				return config.Admin
			}
		}
	}
	admin, _ := fieldsOf(configType).find("admin")
	return cmp.Or(given, admin.fallback)
}

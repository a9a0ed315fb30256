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

	"github.com/spf13/cobra"
)

// probePaths are what the admin server answers to each probe.
var probePaths = map[string]string{"startup": "/startupz", "live": "/livez", "ready": "/readyz"}

func probeCommand() *cobra.Command {
	var config configFlag
	var admin, state string
	var patience patience
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
			if err := patience.validate(); err != nil {
				return err
			}
			url, err := probeURL(cmp.Or(admin, adminAddress(config.path, stateDir(state))), probePaths[args[0]])
			if err != nil {
				return err // which no wait makes good
			}
			return patience.tell(cmd, func(ctx context.Context) (string, error) { return probe(ctx, url) })
		},
	}
	c.AddCommand(probeLoginCommand())
	config.register(c)
	c.Flags().StringVar(&admin, "admin", "", "`address` of the admin server, in place of the configured one")
	patience.register(c)
	c.Flags().StringVar(&state, "state-dir", filepath.Join(os.TempDir(), "readthrough"), "`directory` given to run")
	return c
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

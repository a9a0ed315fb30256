// Command sidecar is Readthrough: it speaks RESP to the application, relays to Redis and loads what is missing from a
// database.
//
// Exit codes: 0 when all is well, 1 for a failure, 2 for a mistake on the command line, 128 plus the signal's number when
// a second signal ended a drain.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	err := rootCommand().ExecuteContext(context.Background())
	if err == nil {
		return
	}
	if message := err.Error(); message != "" {
		fmt.Fprintln(os.Stderr, message)
	}
	os.Exit(exitCode(err))
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitCode is what the shell is told of err.
func exitCode(err error) int {
	var usage usageError
	var killed killedError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return 2
	case errors.As(err, &killed):
		return killed.code()
	}
	return 1
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "sidecar",
		Short:         "A Redis sidecar that reads through to PostgreSQL",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("name a command: run, check, explain, probe, inject, webhook or version (--help tells more)")}
		},
	}
	root.SetOut(os.Stdout)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(runCommand(), checkCommand(), explainCommand(), probeCommand(), versionCommand(), injectCommand(), webhookCommand())
	for _, c := range append(root.Commands(), root) {
		c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
			return usageError{fmt.Errorf("%w (%s --help tells more)", err, c.CommandPath())}
		})
		if args := c.Args; args != nil {
			c.Args = func(c *cobra.Command, given []string) error {
				if err := args(c, given); err != nil {
					return usageError{fmt.Errorf("%w (%s --help tells more)", err, c.CommandPath())}
				}
				return nil
			}
		}
	}
	return root
}

// configFlag is the --config that most commands take.
type configFlag struct{ path string }

func (f *configFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.path, "config", os.Getenv("READTHROUGH_CONFIG"), "configuration `file` (or READTHROUGH_CONFIG)")
}

// required gives the path, or a usage error.
func (f *configFlag) required() (string, error) {
	if f.path == "" {
		return "", usageError{errors.New("name the configuration: --config FILE, or READTHROUGH_CONFIG")}
	}
	return f.path, nil
}

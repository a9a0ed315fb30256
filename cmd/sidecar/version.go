package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set at build time by -ldflags "-X main.version=v1.2.3 -X main.commit=… -X main.date=…"; what is left empty
// comes from the version control stamp that the Go command leaves in the binary.
var (
	version string
	commit  string
	date    string
)

// build tells one build from another.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Date    string `json:"date"`
	Go      string `json:"go"`
}

func currentBuild() build {
	v := build{Version: version, Commit: commit, Date: date, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	fill := func(field *string, value, otherwise string) {
		if *field == "" {
			*field = value
		}
		if *field == "" {
			*field = otherwise
		}
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	fill(&v.Version, info.Main.Version, "(devel)")
	fill(&v.Commit, settings["vcs.revision"], "unknown")
	fill(&v.Date, settings["vcs.time"], "unknown")
	return v
}

func (b build) String() string {
	return fmt.Sprintf("readthrough %s, commit %s of %s, %s %s/%s", b.Version, b.Commit, b.Date, b.Go, runtime.GOOS, runtime.GOARCH)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), currentBuild())
			return nil
		},
	}
}

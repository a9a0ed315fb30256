package main

import (
	"errors"
	"fmt"
	"os"

	"readthrough/internal/inject"
)

// settingFlag is a flag that goes before what the settings' file says.
type settingFlag struct {
	name, key string
	value     string // empty: as the file says
}

// readSettings gives the settings of the file, or the defaults where there is none, changed by the flags. The error has a line
// for each mistake.
func readSettings(file string, flags ...settingFlag) (inject.Settings, error) {
	settings := inject.DefaultSettings()
	var problems []error
	if file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			err = errors.New(fileProblem(err))
		} else {
			settings, err = inject.ParseSettings(raw)
		}
		for _, problem := range unjoin(err) {
			problems = append(problems, fmt.Errorf("%s: %w", file, problem))
		}
	}
	for _, flag := range flags {
		if flag.value == "" {
			continue
		}
		if err := settings.Set(flag.key, flag.value); err != nil {
			problems = append(problems, usageError{fmt.Errorf("%s %w", flag.name, err)})
		}
	}
	return settings, errors.Join(problems...)
}

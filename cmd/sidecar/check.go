package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"readthrough/internal/command"
	"readthrough/internal/suggest"
	"readthrough/origin"
	"readthrough/upstream"
)

func checkCommand() *cobra.Command {
	var config configFlag
	var offline bool
	c := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Validate the configuration, the queries and the rights on Redis",
		Long: `Validate the configuration. Then connect to the origins, prepare every map's query and print its parameters and columns;
and connect to Redis, test the rights that the sidecar needs and print the least ACL rule. Nothing is changed anywhere.

With --offline only the file is read, and a ${VAR} that is not set is a warning. All errors are printed, not only the
first, and the exit code is then 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := config.required()
			if err != nil {
				return err
			}
			r := reporter{out: cmd.OutOrStdout(), warnings: cmd.ErrOrStderr()}
			if offline {
				return r.checkOffline(path)
			}
			loaded, err := LoadConfig(path)
			if err != nil {
				return err
			}
			return r.check(cmd.Context(), loaded, liveInspector{loaded})
		},
	}
	config.register(c)
	c.Flags().BoolVar(&offline, "offline", false, "read the file only, connect to nothing")
	return c
}

// reporter prints what a check finds: the report, and warnings apart from it.
type reporter struct{ out, warnings io.Writer }

func (r reporter) warn(format string, args ...any) {
	fmt.Fprintf(r.warnings, "warning: "+format+"\n", args...)
}

// checkOffline checks what can be seen without a connection and without the secrets.
func (r reporter) checkOffline(path string) error {
	config, err := LoadConfig(path)
	unset, err := onlyUnset(err)
	if err != nil {
		return err
	}
	for _, p := range unset {
		r.warn("%s", p.format(path))
	}
	r.summary(config)
	return r.table("MAP\tKEY\tCAPTURES", config.compiled.All(), func(m *origin.Map) []string {
		return []string{captures(m)}
	})
}

// check asks Redis and the origins, side by side. The error joins everything that is wrong.
func (r reporter) check(ctx context.Context, config *Config, ask inspector) error {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	r.summary(config)

	var rights upstream.Rights
	var report origin.Report
	var redisErr, originErr error
	var asked sync.WaitGroup
	asked.Go(func() { rights, redisErr = ask.Rights(ctx, needs(config.compiled)) })
	asked.Go(func() { report, originErr = ask.Origins(ctx) })
	asked.Wait()

	errs := []error{r.origins(config.compiled, report), located(config, originErr)}
	if rights.Rule != "" {
		errs = append(errs, r.rights(rights))
	}
	if redisErr != nil {
		errs = append(errs, fmt.Errorf("redis: %w", redisErr))
	}
	return errors.Join(errs...)
}

// located gives mistakes in maps the line of the file that they are on.
func located(config *Config, err error) error {
	var errs []error
	for _, err := range unjoin(err) {
		if mistake, ok := errors.AsType[*origin.DefinitionError](err); ok {
			path := fmt.Sprintf("maps[%d].%s", mistake.Index, mistake.Field)
			p := Problem{Line: config.doc.line(path), Path: path, Message: mistake.Problem}
			err = errors.New(p.format(config.doc.file))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r reporter) summary(config *Config) {
	fmt.Fprintf(r.out, "%s: %s, %s, no mistakes found in the file\n", config.doc.file,
		count(len(config.Maps), "map"), count(len(config.Origins), "origin"))
	for _, line := range doubts(config) {
		r.warn("%s", line)
	}
}

// doubts lists what is no mistake in a configuration, and yet may not be meant.
func doubts(config *Config) []string {
	var all []string
	for _, name := range config.Deny {
		if command.Snapshot().Named(name) == nil {
			all = append(all, fmt.Sprintf("deny: %s is no command of Redis itself%s A module's is denied all the same", name, similarCommand(name)))
		}
	}
	for _, m := range config.compiled.All() {
		if unused := m.Unused(); len(unused) > 0 {
			all = append(all, fmt.Sprintf("map %s: the query does not use the captured %s: is a condition missing?", m.Name, strings.Join(unused, ", ")))
		}
	}
	return all
}

// similarCommand ends a sentence about an unknown command with one that may be meant.
func similarCommand(name string) string {
	var names []string
	for _, info := range command.Snapshot().All() {
		names = append(names, info.Name)
	}
	return cmp.Or(suggest.DidYouMean(strings.ToLower(name), names), ".")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// table prints a line per map: name, key and the rest of its columns.
func (r reporter) table(header string, maps []*origin.Map, rest func(*origin.Map) []string) error {
	if len(maps) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\n", header)
	for _, m := range maps {
		fmt.Fprintln(w, strings.Join(append([]string{m.Name, m.Key}, rest(m)...), "\t"))
	}
	return w.Flush()
}

// origins prints what the databases say of the maps. The error is that of printing.
func (r reporter) origins(maps *origin.Maps, report origin.Report) error {
	for _, o := range report.Origins {
		for _, may := range o.MayWrite {
			r.warn("origin %s: the role %s %s: give it SELECT on the tables that the maps need, and nothing else", o.Origin, o.Role, may)
		}
		if o.ConnectionLimit < 0 {
			r.warn("origin %s: the role %s has no connection limit, and every pod connects: ALTER ROLE %s CONNECTION LIMIT …",
				o.Origin, o.Role, o.Role)
		}
	}
	prepared := map[string]origin.MapReport{}
	for _, m := range report.Maps {
		prepared[m.Map] = m
	}
	return r.table("MAP\tKEY\tPARAMETERS\tCOLUMNS", maps.All(), func(m *origin.Map) []string {
		p, ok := prepared[m.Name]
		if !ok {
			return []string{"-", "-"}
		}
		return []string{typedList("@", p.Params), typedList("", p.Columns)}
	})
}

// typedList is a list of names with their types, as it stands in one column.
func typedList(mark string, list []origin.TypedName) string {
	if len(list) == 0 {
		return "none"
	}
	items := make([]string, len(list))
	for i, t := range list {
		items[i] = mark + t.Name + " " + t.Type
	}
	return strings.Join(items, ", ")
}

func captures(m *origin.Map) string {
	list := make([]origin.TypedName, 0, len(m.Captures()))
	for _, c := range m.Captures() {
		list = append(list, origin.TypedName{Name: c.Name, Type: c.Type.String()})
	}
	return typedList("", list)
}

// ownUser is the name for a Redis user of the sidecar's own, where it has none: the least rule would take every other right
// from the default user.
const ownUser = "readthrough"

// rights prints the least ACL rule; the error joins what the user lacks.
func (r reporter) rights(rights upstream.Rights) error {
	rule := strings.Replace(rights.Rule, "SETUSER default ", "SETUSER "+ownUser+" ", 1)
	fmt.Fprintf(r.out, "\nredis: connected as %s. The least rule for what the sidecar does by itself, on every node; add the password,\n"+
		"and the commands and keys that the application uses, which run as the same user:\n\n  %s\n", rights.User, rule)
	var errs []error
	for _, m := range rights.Missing {
		about := ""
		if m.Map != "" {
			about = " for map " + m.Map
		}
		errs = append(errs, fmt.Errorf("redis %s: user %s may not %s%s (%s): grant %s", m.Node, rights.User, m.Command, about, m.Reason, m.Grant))
	}
	return errors.Join(errs...)
}

// needs lists the keys on which the sidecar needs its rights: a prefix and an example for each map.
func needs(maps *origin.Maps) []upstream.Need {
	var all []upstream.Need
	for _, m := range maps.All() {
		prefix, example := keyOf(m)
		all = append(all, upstream.Need{Map: m.Name, Prefix: []byte(prefix), Example: []byte(example)})
	}
	return all
}

// exampleValues are values that the captures of a key accept.
var exampleValues = map[origin.CaptureType]string{
	origin.Text: "0", origin.Int: "0", origin.UUID: "00000000-0000-0000-0000-000000000000", origin.Date: "2000-01-01",
	origin.Hex: "0", origin.Path: "0",
}

// keyOf gives the text that every key of the map begins with, and one key.
func keyOf(m *origin.Map) (prefix, example string) {
	const escaped = "\x00" // << stands for one <; no pattern holds a NUL
	literals := strings.Split(strings.ReplaceAll(m.Key, "<<", escaped), "<")
	var key strings.Builder
	for i, part := range literals {
		if i > 0 {
			key.WriteString(exampleValues[m.Captures()[i-1].Type])
			_, part, _ = strings.Cut(part, ">")
		}
		key.WriteString(strings.ReplaceAll(part, escaped, "<"))
	}
	return strings.ReplaceAll(literals[0], escaped, "<"), key.String()
}

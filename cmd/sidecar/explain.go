package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"readthrough/internal/slot"
	"readthrough/origin"
	"readthrough/upstream"
)

func explainCommand() *cobra.Command {
	var config configFlag
	var offline bool
	c := &cobra.Command{
		Use:   "explain --config FILE KEY",
		Short: "Say what a GET of a key does",
		Long: `Print the map that the key belongs to, its parameters and the SQL; or, where no map matches, which came near and where
they fail. Then the key's slot and node, and whether Redis has it and for how long. Neither the key nor its idle time is
changed, and the origin is not asked.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := config.required()
			if err != nil {
				return err
			}
			loaded, err := LoadConfig(path)
			if offline {
				_, err = onlyUnset(err)
			}
			if err != nil {
				return err
			}
			key := []byte(args[0])
			if offline {
				return explain(cmd.OutOrStdout(), loaded, key)
			}
			return explainLive(cmd.Context(), cmd.OutOrStdout(), loaded, key, liveInspector{loaded})
		},
	}
	config.register(c)
	c.Flags().BoolVar(&offline, "offline", false, "do not ask Redis")
	return c
}

// explainLive is explain, and what Redis knows of the key.
func explainLive(ctx context.Context, w io.Writer, config *Config, key []byte, ask inspector) error {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	report, err := ask.Key(ctx, key)
	if err != nil {
		return errors.Join(explain(w, config, key), fmt.Errorf("redis: %w", err))
	}
	return explain(w, config, key, line{"node", report.Node}, line{"in redis", presence(report)}, line{"lease", holding(report.Lease)})
}

// holding says what stands at the lease key.
func holding(l upstream.LeaseReport) string {
	left := l.Left.Round(time.Millisecond)
	switch {
	case l.Err != nil:
		return "unknown: " + l.Err.Error()
	case l.What == upstream.LeaseLoading:
		return fmt.Sprintf("a pod loads the key, for another %s at most", left)
	case l.What == upstream.LeaseMissing:
		return fmt.Sprintf("it is known for another %s that there is no row", left)
	case l.What == upstream.LeaseFilled:
		return "a sidecar has filled the key in, and one will load it anew past its ttl"
	case l.What == upstream.LeaseRenewing:
		return "a pod loads the key anew"
	default:
		return "none"
	}
}

// line is one line of an explanation.
type line struct{ name, text string }

// explain prints what a GET of the key does, and the lines of more.
func explain(w io.Writer, config *Config, key []byte, more ...line) error {
	lines := []line{{"key", fmt.Sprintf("%q", key)}}
	e := config.compiled.Explain(key)
	if e.Map != nil {
		lines = append(lines, matched(e)...)
	} else {
		lines = append(lines, line{"map", "none: a GET of this key is relayed and nothing more"})
		for _, near := range e.Near {
			lines = append(lines, line{"near", fmt.Sprintf("map %s, %s: fits up to byte %d, %s, then: %s",
				near.Map, near.Key, near.Position, quoteEnd(key[:near.Position]), near.Reason)})
		}
	}
	lines = append(lines, line{"slot", fmt.Sprint(slot.Of(key))})
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range append(lines, more...) {
		fmt.Fprintf(table, "%s\t%s\n", l.name, strings.ReplaceAll(l.text, "\n", "\n\t"))
	}
	return table.Flush()
}

func matched(e origin.Explanation) []line {
	m := e.Map
	lines := []line{{"map", m.Name}, {"pattern", m.Key}, {"origin", m.Origin}}
	for _, p := range e.Params {
		unused := ""
		if !p.Used {
			unused = ", not used by the query"
		}
		lines = append(lines, line{"parameter", fmt.Sprintf("@%s = %q (%s%s)", p.Name, p.Value, p.Type, unused)})
	}
	return append(lines,
		line{"sql", m.SQL()},
		line{"value", fmt.Sprintf("%s, for %s less up to %g%%", m.Value, m.TTL, 100*m.Jitter)},
		line{"missing", lasting("remembered for ", m.Missing, "not remembered")},
		line{"stale", lasting("served for another ", m.Stale, "not served")},
		line{"timeout", fmt.Sprintf("%s of a load and %s of a GET, then %s", m.Timeout, m.Wait, onError(m.OnError))})
}

func lasting(words string, d time.Duration, not string) string {
	if d == 0 {
		return not
	}
	return words + d.String()
}

func onError(mode origin.ErrorMode) string {
	if mode == origin.ErrorNil {
		return "a null"
	}
	return "an error"
}

// quoteEnd quotes text, and of long text the end.
func quoteEnd(text []byte) string {
	const most = 40
	if len(text) > most {
		return "…" + fmt.Sprintf("%q", text[len(text)-most:])
	}
	return fmt.Sprintf("%q", text)
}

func presence(k upstream.KeyReport) string {
	switch {
	case !k.Exists:
		return "no"
	case k.TTL == upstream.NoExpiry:
		return "yes, a " + k.Type + " that does not expire"
	}
	return fmt.Sprintf("yes, a %s that expires in %s", k.Type, k.TTL.Round(time.Millisecond))
}

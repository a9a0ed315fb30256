package checker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"readthrough/test/harness"
)

// quiet waits until no load is under way and nothing is on the wire, and has been so for a while.
func (w *world) quiet(ctx context.Context, keys []*key) error {
	nodes := w.dial()
	defer nodes.close()
	const enough = 20
	calm := 0
	err := harness.Poll(ctx, func() error {
		if err := w.busy(ctx, nodes, keys); err != nil {
			calm = 0
			return err
		}
		if calm++; calm < enough {
			return errors.New("it has not been quiet for long")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("it does not become quiet: %w", err)
	}
	return nil
}

// busy is nil if nothing is under way.
func (w *world) busy(ctx context.Context, nodes *nodes, keys []*key) error {
	for _, p := range w.proxies {
		if err := p.quiet(); err != nil {
			return err
		}
	}
	for _, s := range w.sidecars {
		f, err := scrape(ctx, s.process)
		if err != nil {
			return err
		}
		if n := f.sum("readthrough_origin_connections", `state="busy"`); n > 0 {
			return fmt.Errorf("%s loads something", s)
		}
	}
	for _, k := range keys {
		v, err := nodes.do(ctx, "GET", leaseKey(k.name))
		if err != nil {
			return err
		}
		if strings.HasPrefix(v.Str, "t") || strings.HasPrefix(v.Str, "r") {
			return fmt.Errorf("%s is being loaded: its lease key is %q", k.name, v.Str)
		}
	}
	return nil
}

// left judges what Redis is left with for a key, and removes it and what was beside it.
func (r *run) left(ctx context.Context, nodes *nodes, k *key) error {
	value, err := nodes.do(ctx, "GET", k.name)
	if err != nil {
		return err
	}
	mark, err := nodes.do(ctx, "GET", leaseKey(k.name))
	if err != nil {
		return err
	}
	switch {
	case !value.Null:
		version, err := strconv.Atoi(strings.TrimPrefix(value.Str, "v"))
		if err != nil {
			return fmt.Errorf("Redis has %q for %s", value.Str, k.name)
		}
		r.found = append(r.found, k.holds(version, fmt.Sprintf("v%d (lease key: %q)", version, mark.Str))...)
	case mark.Str == "m":
		r.found = append(r.found, k.holds(0, "the mark that there is no row")...)
	}
	for _, name := range []string{k.name, leaseKey(k.name), k.other()} {
		if _, err := nodes.do(ctx, "UNLINK", name); err != nil {
			return err
		}
	}
	return nil
}

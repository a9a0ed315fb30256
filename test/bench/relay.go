package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The topologies that commands are relayed to.
const (
	one     = "one"
	cluster = "cluster"
)

// workloads are the combinations that are measured, each by the name of topology/command/clients/pipeline.
func workloads() []workload {
	var all []workload
	for _, command := range []string{"SET", "GET"} { // SET first: it makes the keys that GET reads
		for _, clients := range []int{1, 50} {
			for _, pipeline := range []int{1, 16} {
				all = append(all, workload{command: command, clients: clients, pipeline: pipeline})
			}
		}
	}
	return all
}

// relayResult holds the samples of one topology, by workload and contender, one for each round.
type relayResult struct {
	topology   string
	workloads  []workload
	contenders []string
	samples    map[workload]map[string][]sample
}

// measureRelay measures commands that Redis answers.
func measureRelay(ctx context.Context, o options, r *report) error {
	for _, t := range []struct {
		name  string
		start func(context.Context, options, *closers) ([]*contender, func() (int, error), error)
	}{{one, oneRedis}, {cluster, threeMasters}} {
		wanted := slices.DeleteFunc(workloads(), func(w workload) bool { return !o.wants(t.name + "/" + w.String()) })
		if len(wanted) == 0 {
			continue
		}
		result, err := measureTopology(ctx, o, t.name, wanted, t.start)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		r.relay = append(r.relay, result)
	}
	return nil
}

func measureTopology(ctx context.Context, o options, topology string, wanted []workload,
	start func(context.Context, options, *closers) ([]*contender, func() (int, error), error),
) (*relayResult, error) {
	var done closers
	defer done.close()
	contenders, misses, err := start(ctx, o, &done)
	if err != nil {
		return nil, err
	}
	result := &relayResult{topology: topology, workloads: wanted, samples: map[workload]map[string][]sample{}}
	for _, c := range contenders {
		result.contenders = append(result.contenders, c.name)
	}
	// The first runs set the keys, warm everything up and tell how many commands a run of the wanted length has.
	rates := map[workload]map[string]float64{}
	for _, w := range wanted {
		rates[w], result.samples[w] = map[string]float64{}, map[string][]sample{}
		for _, c := range contenders {
			set := w
			set.command = "SET"
			if _, err := drive(ctx, c, set, max(o.warmUp, 20*w.clients)*w.pipeline); err != nil { // enough that each client sets its key
				return nil, err
			}
			s, err := drive(ctx, c, w, o.warmUp*w.pipeline)
			if err != nil {
				return nil, err
			}
			rates[w][c.name] = s.rate
		}
	}
	missesBefore, err := misses()
	if err != nil {
		return nil, err
	}
	for round := range o.rounds {
		o.say("%s: round %d of %d", topology, round+1, o.rounds)
		for _, w := range wanted {
			for _, c := range contenders {
				duration := o.duration
				if c.shards {
					duration = max(duration, 2500*time.Millisecond)
				}
				n := max(w.clients*w.pipeline, int(rates[w][c.name]*duration.Seconds()))
				s, err := drive(ctx, c, w, n)
				if err != nil {
					return nil, err
				}
				rates[w][c.name] = s.rate
				result.samples[w][c.name] = append(result.samples[w][c.name], s)
			}
		}
	}
	missesAfter, err := misses()
	if err != nil {
		return nil, err
	}
	if n := missesAfter - missesBefore; n > 0 {
		return nil, fmt.Errorf("%d GETs found no key: what was measured is not what is claimed", n)
	}
	return result, nil
}

// median returns the median over the rounds of a figure of a contender.
func (r *relayResult) median(w workload, contender string, figure func(sample) float64) float64 {
	return medianBy(r.samples[w][contender], figure)
}

// ratio returns the median over the rounds of the ratio of a figure of one contender to that of another. A ratio within one
// round is of runs that followed each other closely, so a slow change of the machine's speed does not touch it.
func (r *relayResult) ratio(w workload, contender, other string, figure func(sample) float64) float64 {
	return r.compare(w, contender, other, func(a, b sample) float64 { return figure(a) / figure(b) })
}

// difference is like ratio.
func (r *relayResult) difference(w workload, contender, other string, figure func(sample) float64) float64 {
	return r.compare(w, contender, other, func(a, b sample) float64 { return figure(a) - figure(b) })
}

func (r *relayResult) compare(w workload, contender, other string, by func(a, b sample) float64) float64 {
	var values []float64
	for i, s := range r.samples[w][contender] {
		values = append(values, by(s, r.samples[w][other][i]))
	}
	return median(values)
}

// Figures of a sample; times in microseconds.
func rate(s sample) float64      { return s.rate }
func p50(s sample) float64       { return microseconds(s.p50) }
func p99(s sample) float64       { return microseconds(s.p99) }
func cpu(s sample) float64       { return microseconds(s.cpu) }
func allocated(s sample) float64 { return s.allocated }

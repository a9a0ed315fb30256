package checker

import (
	"testing"
	"time"

	"readthrough/test/harness"
)

// mutations are the rules of the protocol, each broken in a sidecar of its own, and what brings that to light soon.
var mutations = []struct {
	mutation
	profile func() profile
	quick   bool // found within seconds: part of every "make test"
}{
	{mutation{"no void", []edit{{"resp/voids.go", "	if n == 0 {\n		return raw, 0\n	}\n", "	if n >= 0 {\n		return raw, 0\n	}\n"}}}, calm, true},
	{mutation{"the void after the write", []edit{{"resp/voids.go", "	unit = append(unit, raw...)\n", "	unit = append(append([]byte(nil), raw...), unit...)\n"}}}, torn, false},
	{mutation{"a fill needs no token", []edit{{"upstream/scripts.go", "if redis.call('GET', KEYS[2]) ~= 't' .. ARGV[1] then return 0 end\n", ""}}}, calm, false},
	{mutation{"who joined keeps a refused value", []edit{{
		"origin/resolve.go", "			r.opts.Observer.Filled(c.m.Name, FillRefused)\n", "			r.opts.Observer.Filled(c.m.Name, FillRefused)\n			proof = everybody\n",
	}}}, calm, true},
	{mutation{"joined after the fill was sent", []edit{{
		"origin/resolve.go", "	r.seal(c)\n	c.value, c.queried = &answer, queried\n", "	c.value, c.queried = &answer, queried\n",
	}}}, lateFills, false},
	{mutation{"a renewal does not compare", []edit{{
		"upstream/scripts.go", "if type(value) ~= 'string' or redis.sha1hex(value) ~= ARGV[8] then", "if type(value) ~= 'string' then",
	}}}, overtaken, false},
	{mutation{"a mark is good for any value", []edit{
		{"upstream/scripts.go", "if type(value) ~= 'string' or redis.sha1hex(value) ~= sum then", "if type(value) ~= 'string' then"},
		{"upstream/scripts.go", "return {4, sum}", "return {4, redis.sha1hex(value)}"},
	}}, remarked, false},
	{mutation{"a fill follows redirects", []edit{{
		"upstream/leases.go", "		accepted[c.index], errs[c.index] = readAccepted(reply, err)\n",
		"		for errors.Is(err, lease.ErrMoving) && ctx.Err() == nil {\n" +
			"			l.call(ctx, []call{*c}, true, func(_ *call, r rueidis.RedisResult, e error) { reply, err = r, e })\n" +
			"		}\n		accepted[c.index], errs[c.index] = readAccepted(reply, err)\n",
	}}}, moving, false},
}

// TestMutations is the test of the checker: it must find each of the mutations out, and nothing wrong with the sidecar as it is under
// the same load.
func TestMutations(t *testing.T) {
	for _, m := range mutations {
		if !m.quick && !harness.Long() {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			if took, found := findOut(t, m.profile(), m.build(t), time.Minute); found == "" {
				t.Errorf("it was not found out within %v", took)
			} else {
				t.Logf("found out after %v: %s", took, found)
			}
			if harness.Long() {
				if took, found := findOut(t, m.profile(), "", 20*time.Second); found != "" {
					t.Errorf("without the mutation, after %v: %s", took, found)
				}
			}
		})
	}
}

// findOut runs short rounds until one breaks a promise, or the time is over.
func findOut(t *testing.T, p profile, binary string, within time.Duration) (took time.Duration, found string) {
	t.Helper()
	w := newWorld(t, p, binary)
	began := time.Now()
	for seed := firstSeed(t); ; seed++ {
		r := w.round(t, seed, 3*time.Second)
		took = time.Since(began).Round(time.Millisecond)
		for _, err := range r.errs {
			t.Error(err)
		}
		if len(r.found) > 0 {
			return took, r.found[0].String()
		}
		if t.Failed() || took > within {
			return took, ""
		}
	}
}

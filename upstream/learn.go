package upstream

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// vocabulary is the command table together with what was learnt of names that it lacks. COMMAND lists neither the commands of
// modules that are loaded a moment later nor the names that the server's configuration has given to commands; COMMAND INFO knows
// both.
type vocabulary struct {
	mu      sync.Mutex
	table   *command.Table    // as COMMAND has it
	aliases map[string]string // of commands that the server's configuration renames
}

// onCommands takes over a new table.
func (u *Upstream) onCommands(t *command.Table) {
	u.words.mu.Lock()
	defer u.words.mu.Unlock()
	u.words.table = t
	u.publishCommands()
}

// publishCommands gives the table to all sides. The caller holds the lock, so that the last one published is the last one made.
func (u *Upstream) publishCommands() {
	t, version := u.words.table.WithAliases(u.words.aliases), u.discovery.State().Version
	for _, s := range u.sides {
		s.loop.Post(func() {
			s.table, s.version = t, version
			s.learning.forget()
		})
	}
}

// learn asks a node for commands that the table lacks, and publishes what it did not know.
func (u *Upstream) learn(ctx context.Context, addr string, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c := u.clients.get(addr)
	results, err := c.do(ctx, append([]string{"COMMAND", "INFO"}, names...))
	if err != nil {
		return fmt.Errorf("COMMAND INFO: %w", err)
	}
	reply, err := results[0].ToArray()
	if err != nil {
		return fmt.Errorf("reply of COMMAND INFO: %w", err)
	}
	found := map[string]string{} // their own names
	for i := range min(len(reply), len(names)) {
		if reply[i].IsNil() {
			continue
		}
		item, err := reply[i].ToAny()
		if err != nil {
			return fmt.Errorf("reply of COMMAND INFO: %w", err)
		}
		entries, err := command.Entries([]any{item})
		if err != nil {
			return err
		}
		for _, e := range entries {
			found[names[i]] = strings.ToLower(e.Name)
		}
	}
	if len(found) == 0 {
		return nil
	}
	t, err := fetchCommands(ctx, c) // a module that was loaded has more than the one command
	if err != nil {
		return err
	}
	u.words.mu.Lock()
	defer u.words.mu.Unlock()
	u.words.table = t
	for alias, name := range found {
		if alias != name {
			u.words.aliases[alias] = name
		}
	}
	u.publishCommands()
	return nil
}

const (
	// unknownFor is how long a name counts as unknown to Redis, and maxUnknown how many do at a time. Names that are longer than any
	// command's are not asked about.
	unknownFor = 30 * time.Second
	maxUnknown = 1024
	maxName    = 64 // bytes
	// unaskedFor is how long nothing is asked after Redis has not answered.
	unaskedFor = time.Second
)

// learning is what a side asks Redis about names, one question at a time, and the names that Redis does not know either.
type learning struct {
	waiting map[string][]func() // for the next question, by name in lower case
	asked   map[string][]func() // the question on its way; nil: there is none
	unknown map[string]struct{}
	since   time.Time // of the first of them
	failed  error     // why the last question was not answered; nil if it was
	ended   time.Time // when it was
}

func (l *learning) forget() { clear(l.unknown) }

// note notes that Redis does not know a name, in the place of another one where there are too many.
func (l *learning) note(name string, now time.Time) {
	if len(l.unknown) == 0 {
		l.since = now
	}
	for other := range l.unknown {
		if len(l.unknown) < maxUnknown {
			break
		}
		delete(l.unknown, other)
	}
	l.unknown[name] = struct{}{}
}

// Learn has Redis asked whether it has a command that Table lacks, and calls done on the loop when that is in Table if it has.
// asking is false, and done never called, where there is nothing more to learn of this name for now; err says that this is because Redis
// has not answered.
func (s *Side) Learn(name []byte, done func()) (asking bool, err error) {
	l, now := &s.learning, s.loop.Now()
	if now.Sub(l.since) > unknownFor {
		l.forget()
	}
	if len(name) > maxName || bytes.IndexByte(name, '|') >= 0 || s.view.node(relay.AnyNode) < 0 {
		return false, nil
	}
	key := strings.ToLower(string(name))
	if _, asked := l.asked[key]; asked {
		l.asked[key] = append(l.asked[key], done)
		return true, nil
	}
	if _, known := l.unknown[key]; known {
		return false, nil
	}
	if l.failed != nil && now.Sub(l.ended) < unaskedFor {
		return false, l.failed
	}
	l.waiting[key] = append(l.waiting[key], done)
	s.ask()
	return true, nil
}

// ask puts the next question, of all names that wait.
func (s *Side) ask() {
	l := &s.learning
	if l.asked != nil || len(l.waiting) == 0 {
		return
	}
	n := s.view.node(relay.AnyNode)
	if n < 0 { // the nodes are gone: what waits is dispatched as it is, and told so
		waiting := l.waiting
		l.waiting = map[string][]func(){}
		for _, all := range waiting {
			for _, done := range all {
				done()
			}
		}
		return
	}
	l.asked, l.waiting = l.waiting, map[string][]func(){}
	names := slices.Collect(maps.Keys(l.asked))
	addr := s.view.nodes[n]
	s.up.run(func(ctx context.Context) {
		err := s.up.learn(ctx, addr, names)
		s.loop.Post(func() { s.learnt(err) })
	})
}

// learnt ends a question. One that was not answered says nothing about the names.
func (s *Side) learnt(err error) {
	l := &s.learning
	if err != nil && l.failed == nil {
		s.up.log.Warn("commands that the sidecar does not know cannot be asked about", zap.Error(err))
	}
	asked := l.asked
	l.asked, l.failed, l.ended = nil, err, s.loop.Now()
	for name, waiting := range asked {
		if err == nil && s.table.Lookup([]byte(name)) == nil {
			l.note(name, l.ended)
		}
		for _, done := range waiting {
			done()
		}
	}
	s.ask()
}

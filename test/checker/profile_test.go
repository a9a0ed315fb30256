package checker

import "time"

// profile is what a run is made of: who does what how often, and how it is delayed.
type profile struct {
	readers int // for each sidecar
	writers int // for each sidecar
	// pauseRead and pauseWrite are how long a client waits after one, at most.
	pauseRead, pauseWrite time.Duration
	kinds                 []*kind
	tags                  int           // that give the keys' slots, up to 3
	keys                  int           // of each kind with each tag
	ttl                   time.Duration // of what is filled in; it is kept for longer, and renewed

	wireRequests, wireReplies     manner // of the connections that carry clients' commands
	scriptRequests, scriptReplies manner // of those over which sidecars speak for themselves
	originRequests, originReplies manner

	// The faults, and how long it takes from one of them to the next, at most; 0: there is none.
	evict, expire, move, cut, kill, pause time.Duration
	moveHold                              time.Duration // how long it takes from one key of a slot on its way to the next, at most
	// moveUnder is how long it takes from one slot that moves under a write to the next, at most, and moveRest at least.
	moveUnder, moveRest time.Duration
}

// kind is how the keys of a kind are used.
type kind struct {
	name     string
	locked   bool // its writers exclude each other
	rows     bool // rows come and go
	evicted  bool // Redis may lose its keys
	writings []writing
}

var (
	// deleted keys are deleted after each change of their row, by anybody.
	deleted = &kind{name: "del", rows: true, evicted: true, writings: []writing{
		{"DEL", (*client).del}, {"UNLINK", (*client).unlink}, {"DEL in MULTI", (*client).multi}, {"DEL by EVAL", (*client).script}, {"PEXPIRE at once", (*client).expire},
		{"DEL in a pipeline", (*client).pipelined}, {"DEL of two", (*client).pair},
	}}
	// set keys are set to the new value after the change, by one at a time.
	set = &kind{name: "set", locked: true, rows: true, evicted: true, writings: []writing{
		{"SET", (*client).setAfter}, {"SET", (*client).setAfter}, {"SET in MULTI", (*client).setMulti}, {"SET and RENAME", (*client).setByRename},
		{"SET and COPY", (*client).setByCopy}, {"DEL", (*client).del}, {"GETDEL", (*client).getdel},
	}}
	// early keys are set before the change is committed.
	early = &kind{name: "early", locked: true, writings: []writing{
		{"SET before the commit", (*client).setBefore}, {"DEL, SET before the commit", (*client).renewBefore}, {"DEL", (*client).del},
	}}
)

// everything is what the checker is run with.
func everything() profile {
	return profile{
		readers: 8, writers: 3, pauseRead: 8 * time.Millisecond, pauseWrite: 60 * time.Millisecond,
		kinds: []*kind{deleted, set, early}, tags: 3, keys: 2, ttl: 500 * time.Millisecond,
		wireRequests:   manner{chance: 0.1, upTo: 20 * time.Millisecond, split: 0.3},
		wireReplies:    manner{chance: 0.1, upTo: 20 * time.Millisecond},
		scriptRequests: manner{chance: 0.3, upTo: 40 * time.Millisecond, split: 0.3},
		scriptReplies:  manner{chance: 0.3, upTo: 40 * time.Millisecond},
		originRequests: manner{chance: 0.3, upTo: 30 * time.Millisecond},
		originReplies:  manner{chance: 0.3, upTo: 80 * time.Millisecond},
		evict:          50 * time.Millisecond, expire: 50 * time.Millisecond, move: time.Second, moveHold: 30 * time.Millisecond,
		cut: 2 * time.Second, kill: 5 * time.Second, pause: 5 * time.Second,
	}
}

// plain keys are deleted by DEL alone.
var plain = &kind{name: "del", rows: true, writings: []writing{{"DEL", (*client).del}}}

// calm is without faults: the origin is slow to answer, and three keys are busy.
func calm() profile {
	return profile{
		readers: 8, writers: 3, pauseRead: 8 * time.Millisecond, pauseWrite: 150 * time.Millisecond,
		kinds: []*kind{plain}, tags: 3, keys: 1, ttl: 500 * time.Millisecond,
		originReplies: manner{chance: 0.5, upTo: 100 * time.Millisecond},
	}
}

// torn has what goes to Redis in one piece come in several.
func torn() profile {
	p := calm()
	p.wireRequests = manner{upTo: 50 * time.Millisecond, split: 1}
	return p
}

// lateFills has Redis's answers to scripts come late.
func lateFills() profile {
	p := calm()
	p.originReplies = manner{}
	p.scriptReplies = manner{chance: 0.5, upTo: 150 * time.Millisecond}
	p.pauseWrite = 300 * time.Millisecond
	return p
}

// overtaken has values filled in and renewed between the void and the write that it leads, and before the commit of that.
func overtaken() profile {
	p := calm()
	p.kinds = []*kind{{name: "early", locked: true, writings: []writing{{"DEL, SET before the commit", (*client).renewBefore}}}}
	p.ttl = 20 * time.Millisecond
	p.readers, p.pauseRead = 12, 4*time.Millisecond
	p.writers, p.pauseWrite = 1, 20*time.Millisecond
	p.wireRequests = manner{upTo: 600 * time.Millisecond, split: 1, void: true}
	p.originReplies = manner{chance: 0.7, upTo: 60 * time.Millisecond}
	return p
}

// remarked has values renewed between the write that was set before its commit and that.
func remarked() profile {
	p := overtaken()
	p.wireReplies = manner{chance: 0.5, upTo: 60 * time.Millisecond}
	return p
}

// moving has slots move under a write. They stay for longer than a lease lives.
func moving() profile {
	p := calm()
	p.kinds = []*kind{{name: "set", locked: true, writings: []writing{{"DEL", (*client).del}}}}
	p.keys, p.readers, p.writers = 1, 12, 0
	p.wireRequests = manner{upTo: 200 * time.Millisecond, split: 1, void: true}
	p.wireReplies = manner{chance: 0.5, upTo: 300 * time.Millisecond}
	p.originReplies = manner{chance: 1, upTo: 500 * time.Millisecond}
	p.moveUnder, p.moveRest = 50*time.Millisecond, 1300*time.Millisecond
	return p
}

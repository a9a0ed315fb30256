package upstream

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"readthrough/internal/lease"
)

// leaseKeys is the ACL pattern of all lease keys.
const leaseKeys = lease.Prefix + "*"

// Need is the keys of one map, which the sidecar's user has to read and write, and their lease keys.
type Need struct {
	Map     string
	Prefix  []byte // every key of the map begins with it; it may be empty
	Example []byte // a key of the map
}

// Rights is what CheckRights found.
type Rights struct {
	User    string // as Redis knows it
	Missing []MissingRight
	// Rule is the least ACL rule for what the sidecar does by itself, to be completed by the password, and by the commands and
	// keys of the application, whose commands are relayed under the same user.
	Rule string
}

// MissingRight is one thing that a node did not allow.
type MissingRight struct {
	Node    string
	Command string // in ACL words: "get", "cluster|slots"
	Map     string // whose keys it is about; empty for commands without a key
	Reason  string // Redis's answer
	Grant   string // what the rule lacks, such as "+get" or "~usr:profile:*"; empty where Redis does not have the command
}

// probe is one command that the sidecar sends, in a form that changes nothing.
type probe struct {
	name string // in ACL words
	args []string
	need *Need  // whose keys it uses
	keys string // their ACL pattern
}

// CheckRights finds out whether the configured user may do what the sidecar does, on every master and replica: a Redis Cluster
// does not replicate ACL rules, and a replica may be a master tomorrow. It tries each command in a form that changes nothing,
// rather than asking ACL DRYRUN, which needs the rights of an administrator itself and knows nothing of renamed commands. An
// error means that the check could not be made.
func CheckRights(ctx context.Context, opts *Options, needs []Need) (Rights, error) {
	cs := newClients(opts)
	defer cs.close()
	v, err := survey(ctx, cs, nil)
	if hasCode(err, "NOPERM") {
		// Without CLUSTER there is no view; what a seed refuses says what to grant.
		v, err = &nodeView{topology: &Topology{Cluster: true}}, nil
		for _, addr := range opts.Addresses {
			v.topology.Nodes = append(v.topology.Nodes, Node{Addr: addr})
		}
	}
	if err != nil {
		return Rights{}, err
	}
	probes := probesFor(opts, v.topology.Cluster, needs)
	var rights Rights
	var errs []error
	for _, node := range v.members() {
		user, missing, err := checkNode(ctx, cs.get(node.Addr), probes)
		errs = append(errs, err)
		rights.Missing = append(rights.Missing, missing...)
		if rights.User == "" {
			rights.User = user
		}
	}
	if rights.User == "" { // ACL WHOAMI is refused, or Redis is older than ACL
		if used, err := opts.credentials(ctx); err == nil {
			rights.User = used.user
		}
	}
	if rights.User == "" {
		rights.User = "default"
	}
	rights.Rule = leastRule(rights.User, probes)
	return rights, errors.Join(errs...)
}

// probesFor lists what the sidecar sends over a connection to Redis. HELLO and AUTH need no right.
func probesFor(opts *Options, cluster bool, needs []Need) []probe {
	probes := []probe{
		{name: "ping", args: []string{"PING"}},
		{name: "command", args: []string{"COMMAND"}},
	}
	if opts.ClientName != "" {
		probes = append(probes, probe{name: "client|setname", args: []string{"CLIENT", "SETNAME", opts.ClientName}})
	}
	if opts.Database != 0 {
		probes = append(probes, probe{name: "select", args: []string{"SELECT", strconv.Itoa(opts.Database)}})
	}
	if cluster {
		probes = append(probes,
			probe{name: "cluster|info", args: []string{"CLUSTER", "INFO"}},
			probe{name: "cluster|nodes", args: []string{"CLUSTER", "NODES"}},
			probe{name: "cluster|slots", args: []string{"CLUSTER", "SLOTS"}},
			probe{name: "asking", args: []string{"ASKING"}})
	}
	for i := range needs {
		n, key := &needs[i], string(needs[i].Example)
		keys := pattern(n.Prefix)
		// NX with XX is a syntax error, which comes after the check of the rights: it never sets anything.
		probes = append(probes,
			probe{"get", []string{"GET", key}, n, keys},
			probe{"set", []string{"SET", key, "", "NX", "XX"}, n, keys},
			probe{"pttl", []string{"PTTL", key}, n, keys},
			probe{"type", []string{"TYPE", key}, n, keys})
		leaseKey, ok := lease.AppendKey(nil, n.Example)
		if !ok {
			continue
		}
		l, none := string(leaseKey), string(leaseKey)+":none" // which never exists
		probes = append(probes,
			probe{"eval", []string{"EVAL", "return 1", "1", l}, n, leaseKeys},
			probe{"evalsha", []string{"EVALSHA", acquireScript.hash, "1", l}, n, leaseKeys},
			probe{"get", []string{"GET", l}, n, leaseKeys},
			probe{"set", []string{"SET", l, "", "NX", "XX"}, n, leaseKeys},
			probe{"del", []string{"DEL", none}, n, leaseKeys},
			probe{"unlink", []string{"UNLINK", none}, n, leaseKeys},
			probe{"exists", []string{"EXISTS", none}, n, leaseKeys},
			probe{name: "time", args: []string{"TIME"}})
	}
	return probes
}

// checkNode tries the probes on one node and returns the user as the node knows it, empty where it does not tell.
func checkNode(ctx context.Context, c *client, probes []probe) (user string, missing []MissingRight, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	commands := [][]string{{"ACL", "WHOAMI"}}
	for _, p := range probes {
		commands = append(commands, p.args)
	}
	results, err := c.do(ctx, commands...)
	if results == nil {
		return "", nil, err
	}
	if reply, err := results[0].ToMessage(); err == nil {
		user = text(reply)
	}
	for i, p := range probes {
		reply := results[i+1].Error()
		reason := errorText(reply)
		// A right is missing when the command is refused by the ACL, or does not exist here. Any other error, such as MOVED,
		// comes after that.
		m := MissingRight{Node: c.addr, Command: p.name, Reason: reason}
		if p.need != nil {
			m.Map = p.need.Map
		}
		switch {
		case strings.HasPrefix(reason, "unknown command"):
		case !hasCode(reply, "NOPERM"):
			continue
		case p.need != nil && aboutKeys(reason):
			m.Grant = "~" + p.keys
		default:
			m.Grant = "+" + p.name
		}
		if !slices.ContainsFunc(missing, func(o MissingRight) bool { return o.Command == m.Command && o.Map == m.Map && o.Grant == m.Grant }) {
			missing = append(missing, m)
		}
	}
	return user, missing, nil
}

// aboutKeys tells whether the reason of NOPERM is the key and not the command: "No permissions to access a key" since Redis 7,
// "this user has no permissions to access one of the keys used as arguments" before.
func aboutKeys(reason string) bool { return strings.Contains(reason, " key") }

// leastRule writes the rule in an order that depends on its arguments only.
func leastRule(user string, probes []probe) string {
	words := []string{"ACL", "SETUSER", user, "on", "><password>", "resetkeys", "resetchannels"}
	var keys, commands []string
	for _, p := range probes {
		commands = append(commands, "+"+p.name)
		if p.need != nil {
			keys = append(keys, "~"+p.keys)
		}
	}
	slices.Sort(keys)
	slices.Sort(commands)
	words = append(words, slices.Compact(keys)...)
	words = append(words, "-@all")
	words = append(words, slices.Compact(commands)...)
	return strings.Join(words, " ")
}

// pattern returns the ACL key pattern of all keys that begin with prefix. What an ACL rule cannot hold, blanks and NUL, becomes
// the wildcard for one byte.
func pattern(prefix []byte) string {
	var b strings.Builder
	for _, c := range prefix {
		switch c {
		case '*', '?', '[', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case ' ', '\t', '\n', '\v', '\f', '\r', 0:
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + "*"
}

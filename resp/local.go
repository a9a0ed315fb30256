package resp

import (
	"fmt"
	"strings"

	"github.com/tidwall/redcon"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// locals answer the commands that are about the client's connection: to the client, that is its connection to the sidecar. They are
// false when the session has to wait, and are then called again. args are whole, of the right number, and valid during the
// call.
var locals = map[command.Action]func(s *session, info *command.Info, args [][]byte) bool{
	command.ActionAuth:          (*session).auth,
	command.ActionHello:         (*session).hello,
	command.ActionSelect:        (*session).selectDatabase,
	command.ActionReset:         (*session).reset,
	command.ActionQuit:          (*session).quit,
	command.ActionClose:         (*session).close,
	command.ActionReadonly:      (*session).clusterMode,
	command.ActionReadwrite:     (*session).clusterMode,
	command.ActionAsking:        (*session).clusterMode,
	command.ActionClientSetName: (*session).setName,
	command.ActionClientGetName: (*session).getName,
	command.ActionClientSetInfo: (*session).setInfo,
	command.ActionClientID:      (*session).clientID,

	command.ActionClientInfo:         (*session).clientInfo,
	command.ActionClientList:         (*session).clientList,
	command.ActionClientKill:         (*session).clientKill,
	command.ActionClientUnblock:      (*session).clientUnblock,
	command.ActionClientTrackingInfo: (*session).clientTrackingInfo,
	command.ActionClientGetRedir:     (*session).clientGetRedir,

	command.ActionClusterSlots:          describe((*session).clusterSlots),
	command.ActionClusterShards:         describe((*session).clusterShards),
	command.ActionClusterNodes:          describe((*session).clusterNodes),
	command.ActionClusterInfo:           describe((*session).clusterInfo),
	command.ActionClusterMyID:           describe((*session).clusterMyID),
	command.ActionClusterMyShardID:      describe((*session).clusterMyID),
	command.ActionClusterLinks:          describe((*session).clusterLinks),
	command.ActionClusterReplicas:       describe((*session).clusterAbout),
	command.ActionClusterFailureReports: describe((*session).clusterAbout),
	command.ActionClusterKeySlot:        describe((*session).clusterKeySlot),
}

func (s *session) local(info *command.Info, large bool) bool {
	if large {
		s.discardLarge(true)
		s.front.take(s, info).fail(errLarge)
		return true
	}
	if ok, handled := s.judged(info); handled {
		return ok
	}
	if f := locals[info.Action]; f != nil {
		return f(s, info, s.args())
	}
	if !s.front.side.Server().Cluster && strings.HasPrefix(info.Name, "cluster|") {
		return s.relay(info, relay.AnyNode, false) // Redis says that it is no cluster
	}
	return s.outOfPlace(info)
}

// displayName is a command's name as people write it.
func displayName(info *command.Info) string {
	return strings.ToUpper(strings.ReplaceAll(info.Name, "|", " "))
}

func (s *session) ok(info *command.Info) bool {
	s.reply(info, []byte("+OK\r\n"))
	return true
}

func (s *session) error(info *command.Info, text string) bool {
	s.front.take(s, info).fail(relay.Error(text))
	return true
}

func (s *session) quit(info *command.Info, _ [][]byte) bool {
	s.ok(info)
	s.paused = forever
	return true
}

// close is for the words of HTTP, which a browser was made to send: Redis closes such connections without an answer.
func (s *session) close(*command.Info, [][]byte) bool {
	s.kill("it speaks HTTP")
	return true
}

// reset brings the session into the state of a new one.
func (s *session) reset(info *command.Info, _ [][]byte) bool {
	if !s.quiet() {
		return false
	}
	if s.subscriber != nil { // what follows must not find its subscriptions any more
		s.subscriber.leave()
		return false
	}
	s.endMonitor()
	s.tracking.end()
	s.settings, s.tracking, s.wrote, s.silenced = nil, nil, nil, false
	if s.transaction != nil {
		s.transaction.over(false)
	}
	if s.identity.Own {
		s.unauthenticated = s.front.loop.Now()
	}
	if err := s.use(s.front.identity()); err != nil {
		return s.error(info, err.Error())
	}
	s.name = ""
	s.reply(info, []byte("+RESET\r\n"))
	return true
}

// clusterMode answers the commands by which cluster clients talk about the mode of their connection to a node. The sidecar has
// none: reads go to masters, and redirects are followed. A Redis that is no cluster refuses them.
func (s *session) clusterMode(info *command.Info, _ [][]byte) bool {
	if s.front.side.Server().Cluster {
		return s.ok(info)
	}
	return s.relay(info, relay.AnyNode, false)
}

// printable tells whether a client's name, or what is like it, has only the characters that Redis allows.
func printable(b []byte) bool {
	for _, c := range b {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

// maxName is the most bytes of a client's name, or of what is like it: it is kept for as long as the client stays, and Redis's own
// bound is that of any argument.
const maxName = 1 << 10

// nameError says what is wrong with a name of a kind: nothing, where it is empty.
func nameError(kind string, name []byte) string {
	switch {
	case !printable(name):
		return "ERR " + kind + " cannot contain spaces, newlines or special characters."
	case len(name) > maxName:
		return fmt.Sprintf("ERR %s cannot be longer than %d bytes.", kind, maxName)
	}
	return ""
}

// clientNames is the kind of CLIENT SETNAME, as Redis calls it in errors.
const clientNames = "Client names"

func (s *session) setName(info *command.Info, args [][]byte) bool {
	if text := nameError(clientNames, args[2]); text != "" {
		return s.error(info, text)
	}
	s.name = string(args[2])
	return s.ok(info)
}

func (s *session) getName(info *command.Info, _ [][]byte) bool {
	switch {
	case s.name != "":
		s.reply(info, redcon.AppendBulkString(nil, s.name))
	case s.identity.Protocol == 3:
		s.reply(info, null)
	default:
		s.reply(info, nullBulk)
	}
	return true
}

// setInfo takes the name and version of the client's library. Only a Redis that knows the command lets it
// get here.
func (s *session) setInfo(info *command.Info, args [][]byte) bool {
	option := strings.ToLower(string(args[2]))
	if option != "lib-name" && option != "lib-ver" {
		return s.error(info, fmt.Sprintf("ERR Unrecognized option '%s'", args[2]))
	}
	if text := nameError(option, args[3]); text != "" {
		return s.error(info, text)
	}
	if option == "lib-name" {
		s.libName = string(args[3])
	} else {
		s.libVersion = string(args[3])
	}
	return s.ok(info)
}

func (s *session) clientID(info *command.Info, _ [][]byte) bool {
	s.reply(info, redcon.AppendInt(nil, s.id))
	return true
}

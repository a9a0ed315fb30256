package resp

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"readthrough/internal/command"
	"readthrough/internal/relay"
)

// Where clients must authenticate, one that has not is served as by a Redis whose user default has a password. Nothing that it sends
// reaches Redis but the user and the password that it claims: the configured user's connections are not for it.

const (
	errAuthFirst = "NOAUTH Authentication required."
	// errNoProof is the answer to a right login that proves nothing.
	errNoProof = relay.Error("WRONGPASS Redis takes any password for its user default, so that this one proves nothing: give that user a password, " +
		"or log in as another one")
)

// errNobody is Redis's answer to a login of whom it does not know.
const errNobody = "WRONGPASS invalid username-password pair or user is disabled."

// DefaultAuthTimeout is how long a client may take to authenticate. Redis has no such bound; but here one descriptor is for each client
// that anybody opens, and those of clients that say nothing are wanting to the others. It is long enough for somebody who types.
const DefaultAuthTimeout = time.Minute

// unauthenticatedReplies takes the place of allowance.replies: no honest client has so many errors waiting.
const unauthenticatedReplies = 4 << 10

// mustAuthenticate tells whether the session serves nothing but what leads to a login. It is so while the session has no user of its
// own, and so again after RESET.
func (s *session) mustAuthenticate() bool { return s.front.requireAuth && !s.identity.Own }

// allowedReplies bounds the bytes that are buffered for the client.
func (s *session) allowedReplies() int {
	if s.mustAuthenticate() {
		return min(unauthenticatedReplies, s.front.allowed.replies)
	}
	return s.front.allowed.replies
}

// mayComeFirst tells whether a command may be sent by a client that has not authenticated: one of those that Redis marks so, and that
// are answered here. What a module marks so would have to be run as the configured user.
func (s *session) mayComeFirst(info *command.Info) bool {
	return info != nil && info.ArityOK(s.commands.N) && slices.Contains(firstActions, info.Action)
}

var firstActions = []command.Action{
	command.ActionAuth, command.ActionHello, command.ActionQuit, command.ActionReset, command.ActionClose,
}

// refuseUnauthenticated answers a command that has to wait for a login, in the order in which Redis looks at it.
func (s *session) refuseUnauthenticated(info *command.Info, large bool) bool {
	text := errAuthFirst
	switch {
	case info == nil && !large:
		text = unknownCommand(s.args())
	case info != nil && info.IsContainer() && s.commands.Arguments() > 1: // its subcommand would have been found
		text = unknownSubcommand(info, s.commands.Arg(1))
	case info != nil && !info.ArityOK(s.commands.N):
		text = fmt.Sprintf("ERR wrong number of arguments for '%s' command", info.Name)
	}
	if info != nil && info.Action == command.ActionExec {
		text = "EXECABORT Transaction discarded because of: " + strings.TrimPrefix(text, "ERR ")
	}
	s.discardLarge(large)
	s.front.stats.Unauthenticated++
	s.error(info, text)
	s.backpressure() // what is read at once may have thousands of such answers
	return true
}

// refuseNameless answers a login that names its user by nothing. To Redis that is a user whom nobody has; on the way there it would be the
// form of AUTH without a user, which is one of default.
func (s *session) refuseNameless(info *command.Info) bool {
	s.front.stats.LoginsFailed++
	s.error(info, errNobody)
	s.backpressure() // as no answer of Redis is waited for
	return true
}

// helloFirst is what a Redis of a version says to HELLO without AUTH before a login.
func helloFirst(version string) string {
	form := "HELLO <proto> AUTH"
	if strings.HasPrefix(version, "6.") || strings.HasPrefix(version, "7.0.") {
		form = "HELLO AUTH"
	}
	return "NOAUTH HELLO must be called with the client already authenticated, otherwise the " + form + " <user> <pass> option can be used to " +
		"authenticate the client and select the RESP protocol version at the same time"
}

// unknownSubcommand is what Redis says to a subcommand that does not exist.
func unknownSubcommand(info *command.Info, sub []byte) string {
	return oneLine(fmt.Sprintf("ERR unknown subcommand '%s'. Try %s HELP.", cString(sub, 128), strings.ToUpper(info.Name)))
}

// unknownCommand is what Redis says to a command that does not exist: no more than 128 bytes each of its name and of its arguments.
func unknownCommand(args [][]byte) string {
	const most = 128
	var b strings.Builder
	fmt.Fprintf(&b, "ERR unknown command '%s', with args beginning with: ", cString(args[0], most))
	for i, shown := 1, 0; i < len(args) && shown < most; i++ {
		n, _ := fmt.Fprintf(&b, "'%s' ", cString(args[i], most-shown))
		shown += n
	}
	return oneLine(b.String())
}

// oneLine makes a text fit for a RESP error, as Redis does.
func oneLine(text string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(text) }

// cString is b as C prints it: up to a NUL, and no more than most bytes.
func cString(b []byte, most int) []byte {
	for i, c := range b {
		if c == 0 || i == most {
			return b[:i]
		}
	}
	return b
}

// asked is the identity with which a client's password is checked: over RESP2, where AUTH without a user means what it says. For the user
// default that is the one form which Redis refuses where any password would do.
func (f *front) asked(id relay.Identity) relay.Identity {
	id.Protocol, id.Database = 2, 0
	if f.requireAuth && id.User == "default" {
		id.User = ""
	}
	return id
}

// loggedIn counts a login, of which err is Redis's word. The refusal of one that would prove nothing gets a text that says so.
func (f *front) loggedIn(err error) error {
	if err == nil {
		f.stats.Logins++
		return nil
	}
	f.stats.LoginsFailed++
	if f.requireAuth && strings.HasPrefix(err.Error(), "ERR AUTH <password> called without any password configured") {
		return errNoProof
	}
	return err
}

// expire closes the clients that have not authenticated in time, and goes on doing so. A login that Redis is asked about is awaited.
func (f *front) expire() {
	now, timeout := f.loop.Now(), f.server.authTimeout
	for s := range f.sessions {
		if s.mustAuthenticate() && s.paused != forWork && now.Sub(s.unauthenticated) > timeout {
			s.kill("it has not authenticated in " + timeout.String())
		}
	}
	f.loop.After(timeout/16, f.expire)
}

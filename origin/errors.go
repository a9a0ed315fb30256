package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// Code is the first word of an error reply.
type Code string

const (
	CodeError   Code = "ORIGINERR"     // the query failed, or the map does not fit what it returned
	CodeTimeout Code = "ORIGINTIMEOUT" // no answer within the map's timeout
	CodeBusy    Code = "ORIGINBUSY"    // too many loads: no connection came free in time
	CodeDown    Code = "ORIGINDOWN"    // no connection can be made
)

// Error is a load that failed. Its text is what a client reads behind the '-' of an error reply: one line, with neither secrets
// nor parameters.
type Error struct {
	Code   Code
	Map    string
	Reason string
	Cause  error // what failed, nil where Reason says all; may hold what a client must not see
}

func (e *Error) Error() string {
	return string(e.Code) + " map " + e.Map + ": " + e.Reason
}

func (e *Error) Unwrap() error { return e.Cause }

// maxReason bounds the reason of an error, in bytes.
const maxReason = 200

func newError(code Code, m *Map, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Map: m.Name, Reason: oneLine(fmt.Sprintf(format, args...)), Cause: cause}
}

func timeoutError(m *Map, waited time.Duration, cause error) *Error {
	return newError(CodeTimeout, m, cause, "no answer in %s", waited)
}

// oneLine makes a text fit for an error reply.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), " ")
	if len(text) <= maxReason {
		return strings.ToValidUTF8(text, "?")
	}
	cut := maxReason
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strings.ToValidUTF8(text[:cut], "?") + "…"
}

// mapError is a query whose result does not fit its map. Its text holds no values.
type mapError string

func (e mapError) Error() string { return string(e) }

// queryFailure tells what a failed query means to the client.
func queryFailure(ctx context.Context, m *Map, err error) *Error {
	var pgErr *pgconn.PgError
	var misfit mapError
	switch {
	case errors.As(err, &misfit):
		return newError(CodeError, m, err, "%s", misfit)
	case errors.Is(ctx.Err(), context.Canceled):
		return newError(CodeDown, m, err, "the sidecar is shutting down")
	case errors.As(err, &pgErr) && pgErr.Code == stateQueryCanceled, ctx.Err() != nil:
		return timeoutError(m, m.Timeout, err)
	case pgErr != nil:
		return newError(CodeError, m, err, "%s", describe(pgErr))
	default:
		return newError(CodeError, m, err, "the connection was lost: %s", netCause(err))
	}
}

// describe says what PostgreSQL reported. Its message is used only where it cannot hold a parameter: where it points into the
// text of the query, which has none, and in classes that tell of the server. Elsewhere the name of the condition stands for it.
func describe(err *pgconn.PgError) string {
	if err.Position > 0 || len(err.Code) == 5 && strings.Contains(serverClasses, err.Code[:2]) {
		return err.Code + " " + err.Message
	}
	return err.Code + " " + conditionName(err.Code)
}

// connectCause says in a few words why no connection could be made: the first cause, without addresses.
func connectCause(err error) string {
	var (
		settings *settingsError
		pgErr    *pgconn.PgError
	)
	switch {
	case errors.As(err, &settings):
		return settings.Error()
	case errors.As(err, &pgErr):
		return pgErr.Code + " " + pgErr.Message
	default:
		return netCause(err)
	}
}

func netCause(err error) string {
	var (
		errno   syscall.Errno
		dns     *net.DNSError
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		verify  *tls.CertificateVerificationError
		timeout interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &dns):
		return dns.Err
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &unknown):
		return unknown.Error()
	case errors.As(err, &host):
		return "the certificate is for another host"
	case errors.As(err, &verify):
		return verify.Err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed by the server"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			if joined := unjoin(err); len(joined) > 0 {
				inner = joined[0]
			} else {
				return err.Error()
			}
		}
		err = inner
	}
}

package main

import (
	"errors"
	"testing"

	wire "readthrough/internal/relay"
	"readthrough/origin"
)

// TestOriginErrorsKeepTheirPrefix: what is no wire.Error would reach the client behind "ERR ".
func TestOriginErrorsKeepTheirPrefix(t *testing.T) {
	err := replyError(&origin.Error{Code: origin.CodeTimeout, Map: "user", Reason: "no answer in 250ms"})
	text, ok := errors.AsType[wire.Error](err)
	if !ok || text != "ORIGINTIMEOUT map user: no answer in 250ms" {
		t.Errorf("%T %v", err, err)
	}
	if replyError(nil) != nil {
		t.Error("no error became one")
	}
}
